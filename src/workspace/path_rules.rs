//! Rules about paths: which ones host tools execute or read settings from, and which file names suggest secrets.

/// Paths at the root of a mounted folder that are read-only, even if they do not exist yet. `.git` is read-only as a
/// whole: an agent that can write it, or replace it, can run commands on the host (`core.fsmonitor`, hooks,
/// `commondir`) as soon as a prompt asks git for the branch.
pub const MASKED: [(&str, MaskKind); 9] = [
    (".git", MaskKind::Folder),
    (".envrc", MaskKind::File),
    (".vscode", MaskKind::Folder),
    (".idea", MaskKind::Folder),
    (".bottler", MaskKind::Folder),
    (".claude", MaskKind::Folder),
    (".cursor", MaskKind::Folder),
    (".devcontainer", MaskKind::Folder),
    (".husky", MaskKind::Folder),
];

/// Also read-only if the folder is not a repository: without a `HEAD`, git does not take it for a bare repository.
pub const MASKED_HEAD: (&str, MaskKind) = ("HEAD", MaskKind::File);

/// What is created as a placeholder if the path does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaskKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
}

/// Folders, anywhere in the tree, whose files host tools execute or obey.
const FOLDERS: [&str; 16] = [
    ".git",
    ".vscode",
    ".idea",
    ".bottler",
    ".claude",
    ".cursor",
    ".devcontainer",
    ".husky",
    ".githooks",
    ".cargo",
    ".github",
    ".gitlab",
    ".circleci",
    ".mise",
    ".zed",
    ".run",
];
/// Files, anywhere in the tree, that host tools execute or obey.
const FILES: [&str; 30] = [
    ".envrc",
    ".exrc",
    ".gdbinit",
    ".lldbinit",
    ".mcp.json",
    ".nvim.lua",
    ".vimrc",
    ".gitattributes",
    ".gitmodules",
    ".gitlab-ci.yml",
    ".mise.toml",
    ".npmrc",
    ".pre-commit-config.yaml",
    ".tool-versions",
    ".yarnrc.yml",
    "AGENTS.md",
    "CLAUDE.md",
    "CMakeLists.txt",
    "Dockerfile",
    "GNUmakefile",
    "Justfile",
    "Makefile",
    "build.rs",
    "conftest.py",
    "justfile",
    "makefile",
    "mise.toml",
    "package.json",
    "pyproject.toml",
    "setup.py",
];

/// Whether host tools execute or obey a file when they are used in its folder.
pub fn is_executed(path: &str) -> bool {
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    FILES.contains(&name) || folders.split('/').any(|folder| FOLDERS.contains(&folder))
}

/// Whether a file's name suggests that it contains secrets.
pub fn looks_secret(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    let ends = [".env", ".pem", ".key", ".p12", ".pfx", ".jks", ".keystore", ".kdbx", ".tfstate", ".ovpn"];
    let whole = [
        ".npmrc",
        ".pypirc",
        ".netrc",
        ".git-credentials",
        ".htpasswd",
        "credentials",
        "credentials.json",
        "secrets.yaml",
        "secrets.yml",
        "secrets.json",
        "service-account.json",
        "terraform.tfvars",
        "id_rsa",
        "id_ecdsa",
        "id_ed25519",
        "id_dsa",
    ];
    let example = [".example", ".sample", ".template", ".dist"].iter().any(|end| name.ends_with(end));
    let env = name.starts_with(".env.");
    !example && (env || whole.contains(&name.as_str()) || ends.iter().any(|end| name.ends_with(end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        for path in [".env", "a/.env.production", "deploy/id_rsa", "x.pem", "prod.env"] {
            assert!(looks_secret(path), "{path}");
        }
        for path in [".env.example", "src/key.rs", "environment.ts", "README.md"] {
            assert!(!looks_secret(path), "{path}");
        }
        assert!(is_executed("sub/.vscode/tasks.json") && is_executed("package.json") && is_executed(".github/x.yml"));
        assert!(!is_executed("src/main.rs"));
    }
}
