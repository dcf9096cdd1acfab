//! The system call filter: the same profile as on other engines, compiled for this kernel once and kept in the store.
//!
//! `clone3` is a second program, installed last: of two refusals with an error, the kernel takes the newer one, and libraries
//! fall back to `clone` at ENOSYS only. `ioctl` is narrowed: nobody pushes input into a terminal (CVE-2017-5226).

use std::io;
use std::path::Path;

use anyhow::Context;
use data_encoding::HEXLOWER;
use seccompiler::{BpfProgram, TargetArch, sock_filter};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::engine::SECCOMP;

/// Requests that put input into a terminal (`ioctl_tty(2)`).
const TIOCSTI: u32 = 0x5412;
const TIOCLINUX: u32 = 0x541C;
/// Changes whenever [`compile`] makes something else of the same profile.
const VERSION: &[u8] = b"1";

/// A compiled program: operation, jumps and operand of each instruction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Program(Vec<(u16, u8, u8, u32)>);

/// Our profile, compiled: from the store, or compiled now and kept there.
///
/// # Errors
/// The profile has something that cannot be compiled; a test compiles it.
pub(super) fn programs(store: &Path) -> anyhow::Result<Vec<Program>> {
    let digest =
        Sha256::new().chain_update(VERSION).chain_update(std::env::consts::ARCH).chain_update(SECCOMP).finalize();
    let path = store.join(format!("filter-{}", &HEXLOWER.encode(&digest)[..16]));
    if let Ok(programs) = super::store::read(&path) {
        return Ok(programs);
    }
    let programs = compile(SECCOMP)?;
    super::store::write(&path, &programs).with_context(|| format!("write {}", path.display()))?;
    Ok(programs)
}

/// Installs a program for this process and what it starts.
///
/// # Errors
/// The kernel has no filters.
pub(super) fn install(program: &Program) -> io::Result<()> {
    let program: BpfProgram = program.0.iter().map(|&(code, jt, jf, k)| sock_filter { code, jt, jf, k }).collect();
    seccompiler::apply_filter(&program).map_err(io::Error::other)
}

#[derive(Deserialize)]
struct Profile {
    syscalls: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    names: Vec<String>,
    action: String,
    #[serde(default)]
    args: Vec<Argument>,
    errno_ret: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    value_two: u64,
    op: String,
}

/// From Docker's JSON to programs.
fn compile(profile: &str) -> anyhow::Result<Vec<Program>> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).context("no filter for this processor")?;
    let profile: Profile = serde_json::from_str(profile)?;
    let mut allowed = Vec::new();
    let mut refused = Vec::new();
    for rule in &profile.syscalls {
        for name in rule.names.iter().filter(|name| is_known(name, arch)) {
            match (rule.action.as_str(), rule.errno_ret) {
                ("SCMP_ACT_ALLOW", None) => allowed.push(entry(name, &rule.args)?),
                ("SCMP_ACT_ERRNO", Some(errno)) => refused.push((errno, json!({ "syscall": name }))),
                (action, _) => anyhow::bail!("{name}: {action} cannot be compiled"),
            }
        }
    }
    let mut programs = vec![program(&json!("allow"), &json!({ "errno": nix::libc::EPERM }), &allowed, arch)?];
    for (errno, entry) in refused {
        programs.push(program(&json!({ "errno": errno }), &json!("allow"), &[entry], arch)?);
    }
    Ok(programs)
}

fn entry(name: &str, args: &[Argument]) -> anyhow::Result<Value> {
    if name == "ioctl" {
        let other = |request: u32| json!({ "index": 1, "type": "dword", "op": "ne", "val": request });
        return Ok(json!({ "syscall": name, "args": [other(TIOCSTI), other(TIOCLINUX)] }));
    }
    let conditions: anyhow::Result<Vec<Value>> = args.iter().map(condition).collect();
    Ok(match conditions? {
        none if none.is_empty() => json!({ "syscall": name }),
        conditions => json!({ "syscall": name, "args": conditions }),
    })
}

fn condition(argument: &Argument) -> anyhow::Result<Value> {
    let Argument { index, value, value_two, op } = argument;
    let (op, value) = match op.as_str() {
        "SCMP_CMP_EQ" => (json!("eq"), value),
        "SCMP_CMP_MASKED_EQ" => (json!({ "masked_eq": value }), value_two),
        other => anyhow::bail!("{other} cannot be compiled"),
    };
    Ok(json!({ "index": index, "type": "dword", "op": op, "val": value }))
}

/// Whether this processor's kernel has the call: profiles name those of every processor.
fn is_known(name: &str, arch: TargetArch) -> bool {
    program(&json!("allow"), &json!({ "errno": 1 }), &[json!({ "syscall": name })], arch).is_ok()
}

fn program(matched: &Value, other: &Value, entries: &[Value], arch: TargetArch) -> anyhow::Result<Program> {
    let filters = json!({ "it": { "match_action": matched, "mismatch_action": other, "filter": entries } });
    let mut compiled = seccompiler::compile_from_json(filters.to_string().as_bytes(), arch)?;
    let program = compiled.remove("it").context("the compiler gave no program")?;
    Ok(Program(program.into_iter().map(|it| (it.code, it.jt, it.jf, it.k)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_is_compiled_into_a_filter_and_what_answers_enosys() {
        let programs = compile(SECCOMP).unwrap();
        assert_eq!(programs.len(), 2);
        // The kernel's bound, BPF_MAXINSNS.
        assert!(programs[0].0.len() < 4096 && programs[0].0.len() > 700, "{}", programs[0].0.len());
    }

    #[test]
    fn what_cannot_be_compiled_is_refused() {
        let profile = r#"{"syscalls": [{"names": ["read"], "action": "SCMP_ACT_TRACE"}]}"#;
        assert!(compile(profile).is_err());
    }
}
