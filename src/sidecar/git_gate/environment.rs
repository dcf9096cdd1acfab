//! The settings and environment of every git process: it reads no configuration, and sees objects as they are.

use tokio::process::Command;

/// Settings of every process: larger files are streamed, packs are mapped in small windows, nothing is repacked or
/// run by itself.
const SETTINGS: [&str; 13] = [
    "core.bigFileThreshold=16m",
    "core.packedGitWindowSize=16m",
    "core.packedGitLimit=256m",
    "core.hooksPath=/dev/null",
    "core.alternateRefsCommand=true",
    // What is here need not outlive the machine: it is fetched, or pushed, again.
    "core.fsync=none",
    "gc.auto=0",
    // Packs are indexed, loose objects are not.
    "fetch.unpackLimit=1",
    "maintenance.auto=false",
    "pack.threads=2",
    "transfer.credentialsInUrl=die",
    "uploadpack.allowFilter=true",
    "uploadpack.allowRefInWant=true",
];

/// Gives a process this environment, and nothing of the gate's own. Arguments of git's come after it.
pub(super) fn set(command: &mut Command) {
    command.env_clear();
    for setting in SETTINGS {
        command.args(["-c", setting]);
    }
    for name in ["GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "HOME", "XDG_CONFIG_HOME"] {
        command.env(name, "/dev/null");
    }
    // A file that cannot be there: about an empty one git prints advice.
    command.env("GIT_GRAFT_FILE", "/dev/null/none");
    for name in [
        "GIT_CONFIG_NOSYSTEM",
        "GIT_ATTR_NOSYSTEM",
        "GIT_NO_REPLACE_OBJECTS",
        "GIT_NO_LAZY_FETCH",
        "GIT_LITERAL_PATHSPECS",
    ] {
        command.env(name, "1");
    }
    command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_OPTIONAL_LOCKS", "0").env("LC_ALL", "C");
    command.env("GIT_ALLOW_PROTOCOL", "none");
}
