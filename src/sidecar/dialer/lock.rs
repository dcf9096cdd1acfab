//! What the dialer's process may not do any more once it serves.
//!
//! The container's own filter of system calls holds before. Landlock adds what the kernel has of it: TCP ports cannot be bound
//! (Linux 6.7), the host's abstract unix sockets and processes cannot be reached (Linux 6.12). Without it, the filter here must hold
//! alone: no unix socket can be made.

use std::collections::BTreeMap;

use anyhow::Context;
use landlock::{ABI, Access, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, Scope};
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter_all_threads,
};

/// Calls that it never needs, and a broken one could use.
const NEVER: [libc::c_long; 11] = [
    libc::SYS_socketpair,
    libc::SYS_listen,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_bpf,
    libc::SYS_io_uring_setup,
];

/// Landlock, as far as the kernel has it. To be called before there are threads, which each have a domain of their own.
pub(super) fn restrict() -> anyhow::Result<()> {
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(ABI::V6))?
        .create()?
        .restrict_self()
        .context("restrict this process with Landlock")?;
    Ok(())
}

/// The filter of system calls, for all threads, once the dialer listens.
pub(super) fn filter() -> anyhow::Result<()> {
    let inet = |family: i32| {
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, u64::try_from(family).unwrap_or(u64::MAX))
    };
    let other_families = SeccompRule::new(vec![inet(libc::AF_INET)?, inet(libc::AF_INET6)?])?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = NEVER.iter().map(|&call| (call, Vec::new())).collect();
    rules.insert(libc::SYS_socket, vec![other_families]);
    let refuse = SeccompAction::Errno(u32::try_from(libc::EPERM)?);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, std::env::consts::ARCH.try_into()?)?;
    let program: BpfProgram = filter.try_into()?;
    apply_filter_all_threads(&program).context("filter the system calls of this process")
}
