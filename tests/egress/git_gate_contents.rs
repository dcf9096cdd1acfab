//! What a push may hold: packed and wide files, old fixtures, merges, and signed commits, which arrive byte for byte.

use std::io::Write;
use std::process::{Command, Stdio};

use bottler::policy::GitTerms;

use crate::git_gate_lab::{By, SECRET, Wish, World, token};
use crate::lab::in_namespace;

/// The output of a program for an input.
fn filter(command: &[&str], input: &[u8]) -> Vec<u8> {
    let mut filter = Command::new(command[0]);
    let mut child = filter.args(&command[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}");
    output.stdout
}

/// A Python program that writes an archive of its input.
const ARCHIVE: &str = r#"
import io, sys, tarfile, zipfile
how, name = sys.argv[1:]
text, file = sys.stdin.buffer.read(), io.BytesIO()
if how == "tar.xz" or how == "tar.bz2":
    with tarfile.open(fileobj=file, mode="w:" + how[4:]) as archive:
        info = tarfile.TarInfo(name)
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text))
else:
    methods = {"zip": zipfile.ZIP_DEFLATED, "stored": zipfile.ZIP_STORED, "bzip2": zipfile.ZIP_BZIP2}
    with zipfile.ZipFile(file, "w", methods.get(how, zipfile.ZIP_DEFLATED)) as archive:
        if how == "docx":
            archive.writestr("[Content_Types].xml", "<Types/>")
            paragraph = b"<w:p><w:r><w:t>" + text + b"</w:t></w:r></w:p>"
            archive.writestr("word/document.xml", b"<w:document><w:body>" + paragraph + b"</w:body></w:document>")
        else:
            archive.writestr("readme", "nothing\n" * 100)
            archive.writestr(name, text)
sys.stdout.buffer.write(file.getvalue())
"#;

#[test]
fn promise_10_a_secret_is_found_in_every_packed_and_wide_file() {
    if !in_namespace("git_gate_contents::promise_10_a_secret_is_found_in_every_packed_and_wide_file") {
        return;
    }
    let world = World::new(Wish::default());
    let clone = world.clone_to("clone");
    let start = world.id(&clone, "HEAD");
    for harmless in [true, false] {
        // Long enough that every format makes it shorter.
        let around = "a line that is there often\n".repeat(40);
        let text = format!("{around}{}{around}", if harmless { String::new() } else { format!("key = {}\n", token()) });
        let text = text.as_bytes();
        let archive = |how: &str| filter(&["python3", "-c", ARCHIVE, how, "inner/file.txt"], text);
        let wide = |form: &str| filter(&["iconv", "-f", "UTF-8", "-t", form], text);
        for (name, content) in [
            ("a.xz", filter(&["xz", "-c"], text)),
            ("a.bz2", filter(&["bzip2", "-c"], text)),
            ("a.gz", filter(&["gzip", "-c"], text)),
            ("a.tar.xz", archive("tar.xz")),
            ("a.tar.bz2", archive("tar.bz2")),
            ("a.zip", archive("zip")),
            ("stored.zip", archive("stored")),
            ("bzip2.zip", archive("bzip2")),
            ("report.docx", archive("docx")),
            ("zipped.xz", filter(&["xz", "-c"], &archive("zip"))),
            ("utf-16.txt", wide("UTF-16")),
            ("utf-16le.txt", wide("UTF-16LE")),
            ("utf-16be.txt", wide("UTF-16BE")),
            ("utf-32.txt", wide("UTF-32")),
            ("utf-32be.txt", wide("UTF-32BE")),
            ("utf-16.txt.xz", filter(&["xz", "-c"], &wide("UTF-16LE"))),
        ] {
            world.write(&format!("clone/{name}"), &content);
            world.commit("clone", "add");
            let done = world.git(&clone, &["push", "origin", &format!("HEAD:refs/heads/agent/{harmless}-{name}")]);
            if harmless {
                done.expect(true, &[]);
            } else {
                let plain = memchr::memmem::find(&content, token().as_bytes()).is_some();
                assert_eq!(plain, name == "stored.zip", "{name}");
                done.expect(false, &["a secret (github-token", name]);
            }
            world.git(&clone, &["reset", "-q", "--hard", &start]).expect(true, &[]);
        }
    }
}

#[test]
fn promise_15_a_file_that_becomes_too_large_is_refused_by_its_name() {
    if !in_namespace("git_gate_contents::promise_15_a_file_that_becomes_too_large_is_refused_by_its_name") {
        return;
    }
    let world = World::new(Wish::default());
    let clone = world.clone_to("clone");
    let start = world.id(&clone, "HEAD");
    for (name, command) in [("bomb.xz", ["xz", "-c0"]), ("bomb.bz2", ["bzip2", "-c1"])] {
        let shell = format!("head -c 140M /dev/zero | {}", command.join(" "));
        let bomb = Command::new("sh").args(["-c", &shell]).output().unwrap().stdout;
        assert!(bomb.len() < 1 << 20, "{}", bomb.len());
        world.write(&format!("clone/{name}"), &bomb);
        world.commit("clone", "add");
        let done = world.git(&clone, &["push", "origin", "HEAD:refs/heads/agent/x"]);
        done.expect(false, &[name, "cannot be looked into", "too large when it is unpacked"]);
        world.git(&clone, &["reset", "-q", "--hard", &start]).expect(true, &[]);
    }
}

#[test]
fn twenty_old_fixtures_are_edited_and_none_is_refused() {
    if !in_namespace("git_gate_contents::twenty_old_fixtures_are_edited_and_none_is_refused") {
        return;
    }
    let mut world = World::new(Wish::default());
    let key = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEAx0mQ4bV1gB8Wc1q6dT7kFJ2v5b9z3nYwX8uR1pL0aHs7Kd4E\n\
        Qm2tGv9yC6iZ5oN8xJ3rB1uWqP7fS0hTaLkDgVeMzYcXnU4jRw2sI6pOvKbHdEtF\n-----END RSA PRIVATE KEY-----\n";
    let fixture = |number: usize, line: &str| match number % 4 {
        0 => format!("# fixture {number}\n{line}\ntoken = {}\nlast\n", token()),
        1 => format!("{{\"n\": {number}, \"x\": \"{line}\", \"token\": \"{}\"}}\n", token()),
        2 => format!("{line} {number}\n{key}\n"),
        _ => format!("{line}\nkey: AKIAQ3EGRZ5XWB7Y2M{}\n", ["AB", "CD", "EF", "GH", "IJ"][number / 4]),
    };
    for number in 0..20 {
        world.write(&format!("seed/fixtures/{number}.txt"), fixture(number, "as it was"));
    }
    world.commit("seed", "fixtures");
    let upstream = world.path("upstream.git").display().to_string();
    world.git(&world.path("seed"), &["push", "-q", &upstream, "main"]).expect(true, &[]);
    let clone = world.clone_to("clone");
    for number in 0..20 {
        world.write(&format!("clone/fixtures/{number}.txt"), fixture(number, "edited"));
        world.commit("clone", "edit one line");
    }
    world.git(&clone, &["push", "origin", "HEAD:refs/heads/agent/x"]).expect(true, &["new branch"]);
    let events = world.decisions();
    let warned: u64 = events.iter().filter(|event| event.kind.decision == "warn").map(|event| event.count).sum();
    assert!(warned >= 20, "the tokens are found, and let through: {events:#?}");
    // In another place the same lines are new.
    for number in 0..4 {
        world.write(&format!("clone/moved/{number}.txt"), fixture(number, "as it was"));
        world.commit("clone", "copy");
        world.git(&clone, &["push", "origin", "HEAD:refs/heads/agent/y"]).expect(false, &["a secret ("]);
        world.git(&clone, &["reset", "-q", "--hard", "HEAD^"]).expect(true, &[]);
    }
}

#[test]
fn promise_10_merges_pass_and_what_a_merge_itself_adds_is_found() {
    if !in_namespace("git_gate_contents::promise_10_merges_pass_and_what_a_merge_itself_adds_is_found") {
        return;
    }
    let world = World::new(Wish::default());
    let clone = world.clone_to("clone");
    let start = world.id(&clone, "HEAD");
    let sides = ["one", "two", "three"];
    for side in sides {
        world.git(&clone, &["checkout", "-q", "-b", side, &start]).expect(true, &[]);
        world.write(&format!("clone/{side}"), format!("{side}\n"));
        world.commit("clone", side);
    }
    // A merge of two, one of three, and one of histories without a common commit.
    world.git(&clone, &["checkout", "-q", "-b", "work", "one"]).expect(true, &[]);
    world.git(&clone, &["merge", "-q", "--no-edit", "two"]).expect(true, &[]);
    world.git(&clone, &["checkout", "-q", "-b", "octopus", &start]).expect(true, &[]);
    world.git(&clone, &["merge", "-q", "--no-edit", "one", "two", "three"]).expect(true, &[]);
    world.git(&clone, &["merge", "-q", "--no-edit", "work"]).expect(true, &[]);
    world.git(&clone, &["checkout", "-q", "--orphan", "alone"]).expect(true, &[]);
    world.commit("clone", "another beginning");
    world.git(&clone, &["checkout", "-q", "octopus"]).expect(true, &[]);
    let merge = ["merge", "-q", "--no-edit", "--allow-unrelated-histories", "-s", "ours", "alone"];
    world.git(&clone, &merge).expect(true, &[]);
    world.git(&clone, &["push", "origin", "HEAD:refs/heads/agent/merges"]).expect(true, &[]);
    assert_eq!(world.upstream("agent/merges"), world.id(&clone, "HEAD"));
    world.git(&world.path("upstream.git"), &["fsck", "--strict"]).expect(true, &[]);
    // A secret that is in no parent: in the merge's own tree, and in its message.
    for message in [false, true] {
        world.git(&clone, &["checkout", "-q", "-B", "evil", "one"]).expect(true, &[]);
        world.git(&clone, &["merge", "-q", "--no-commit", "--no-ff", "three"]).expect(true, &[]);
        if !message {
            world.write("clone/one", format!("key = {SECRET}\n"));
        }
        let words = if message { format!("Merge {}", token()) } else { "Merge".to_owned() };
        world.commit("clone", &words);
        world.write("clone/one", "one\n");
        world.commit("clone", "take it out");
        let refused = world.git(&clone, &["push", "origin", "HEAD:refs/heads/agent/evil"]);
        refused.expect(false, &[if message { "its message, authors or headers" } else { "in one line 1, commit" }]);
    }
    assert_eq!(world.upstream("agent/evil"), "");
}

#[test]
fn signed_commits_and_tags_arrive_byte_for_byte() {
    if !in_namespace("git_gate_contents::signed_commits_and_tags_arrive_byte_for_byte") {
        return;
    }
    for by in [By::Http, By::Ssh] {
        let world = World::new(Wish {
            by,
            terms: GitTerms { tags: vec!["v*".to_owned()], ..GitTerms::default() },
            ..Wish::default()
        });
        let clone = world.clone_to("clone");
        let key = world.path("home/signing").display().to_string();
        filter(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", &key], b"");
        let public = std::fs::read_to_string(format!("{key}.pub")).unwrap();
        world.write("home/allowed", format!("agent@example.com {public}"));
        let allowed = world.path("home/allowed").display().to_string();
        for (name, value) in
            [("gpg.format", "ssh"), ("user.signingkey", &*key), ("gpg.ssh.allowedSignersFile", &*allowed)]
        {
            world.git(&clone, &["config", name, value]).expect(true, &[]);
        }
        world.write("clone/a", "a\n");
        world.git(&clone, &["add", "-A"]).expect(true, &[]);
        world.git(&clone, &["commit", "-q", "-S", "-m", "signed"]).expect(true, &[]);
        world.git(&clone, &["checkout", "-q", "-b", "side", "HEAD^"]).expect(true, &[]);
        world.git(&clone, &["commit", "-q", "-S", "--allow-empty", "-m", "side"]).expect(true, &[]);
        world.git(&clone, &["merge", "-q", "-S", "--no-edit", "main"]).expect(true, &[]);
        world.git(&clone, &["tag", "-s", "-m", "release", "v1"]).expect(true, &[]);
        // A merge that keeps a signed tag in a header of its own, and text in another encoding.
        world.git(&clone, &["checkout", "-q", "-b", "again", "HEAD^"]).expect(true, &[]);
        world.git(&clone, &["merge", "-q", "-S", "--no-ff", "--no-edit", "v1"]).expect(true, &[]);
        let latin = ["-c", "i18n.commitEncoding=ISO-8859-1", "commit", "-q", "-S", "--allow-empty", "-F"];
        world.write("home/message", b"gr\xfc\xdfe\n");
        let message = world.path("home/message").display().to_string();
        world.git(&clone, &[&latin[..], &[&message]].concat()).expect(true, &[]);
        world.git(&clone, &["push", "origin", "HEAD:refs/heads/agent/x", "v1"]).expect(true, &[]);
        let upstream = world.path("upstream.git");
        let ids = world.git(&clone, &["rev-list", "HEAD", "^origin/main", "v1"]).text;
        let tag = world.id(&clone, "v1");
        assert!(ids.lines().count() >= 5, "{ids}");
        let mut signed = 0;
        for id in ids.lines().chain([tag.as_str()]) {
            let kind = world.git(&clone, &["cat-file", "-t", id]).text.trim().to_owned();
            let [here, there] = [&clone, &upstream].map(|place| world.git_with(place, &["cat-file", &kind, id], b""));
            assert!(here == there && !here.is_empty(), "{by:?} {id}");
            signed += usize::from(memchr::memmem::find(&there, b"BEGIN SSH SIGNATURE").is_some());
        }
        assert!(signed >= 5, "{signed}");
        let name = format!("gpg.ssh.allowedSignersFile={allowed}");
        world.git(&upstream, &["-c", &name, "verify-commit", "agent/x"]).expect(true, &["Good \"git\" signature"]);
        world.git(&upstream, &["-c", &name, "verify-tag", "v1"]).expect(true, &["Good \"git\" signature"]);
    }
}
