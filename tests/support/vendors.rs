//! The real programs of the agents' vendors, each in an image, and a server that plays their models.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::images::{DEBIAN, Debian};
use super::npm::install;
use super::origin::{Origin, certificates, docker};
use super::process::{World, recipe};

/// What the models of all of them say.
pub const ANSWER: &str = "The answer is forty-two.";

/// Where a program comes from.
pub enum Program {
    /// The tests' Debian.
    Debian,
    /// A Debian with it alone.
    Aider,
    /// A package from npm, and its executable below `node_modules`.
    Npm(&'static str, &'static str),
}

/// An agent of a vendor.
pub struct Vendor {
    /// Its template, and the name of its program.
    pub template: &'static str,
    pub program: Program,
    /// The variable that its documentation names for a key.
    pub variable: &'static str,
    /// A key, in the vendor's form.
    pub key: fn() -> String,
    /// The hosts that it asks, of those that its template allows.
    pub hosts: &'static [&'static str],
    /// Whether it ends by itself after a prompt, also on its screen.
    pub ends: bool,
}

// Keys are assembled at run time, so that scanners of repositories do not take them for real ones.

pub fn anthropic_key() -> String {
    format!("sk-ant-api03-{}-{}AA", "0123456789abcdef".repeat(5), "wxyz-WXYZ_012")
}

pub fn openai_key() -> String {
    let half = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0xF3hJ6kL9nP2rS5tU8wX1zA4cE7fG0iM3oQ6uV9yb";
    format!("sk-proj-{half}T3BlbkFJ{}", half.chars().rev().collect::<String>())
}

pub fn google_key() -> String {
    ["AIza", "SyD4f7Kq9Lm2Np5Rs8Tu1Vw3Xy6Za0Bc4De"].concat()
}

pub fn github_key() -> String {
    ["github_", "pat_", "11ABCDEFG0aB3dE6gH9jK2", "_", "mN5pQ8sT1vW4yZ7bC0xF3hJ6kL9nP2rS5tU8wX1zA4cE7fG0iM3oQ6uV9yb"]
        .concat()
}

pub fn classic_github_key() -> String {
    ["gh", "p_wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx"].concat()
}

const ANTHROPIC: &[&str] = &["api.anthropic.com"];
const OPENAI: &[&str] = &["api.openai.com"];
const COPILOT: &[&str] = &["api.github.com", "api.githubcopilot.com", "api.individual.githubcopilot.com"];

pub const CLAUDE: Vendor = Vendor {
    template: "claude",
    program: Program::Debian,
    variable: "ANTHROPIC_API_KEY",
    key: anthropic_key,
    hosts: ANTHROPIC,
    ends: false,
};
pub const CODEX: Vendor = Vendor {
    template: "codex",
    program: Program::Npm("@openai/codex@0.171.0", ".bin/codex"),
    variable: "OPENAI_API_KEY",
    key: openai_key,
    hosts: OPENAI,
    ends: false,
};
pub const PI: Vendor = Vendor {
    template: "pi",
    program: Program::Npm("@mariozechner/pi-coding-agent@0.73.1", ".bin/pi"),
    variable: "ANTHROPIC_API_KEY",
    key: anthropic_key,
    hosts: ANTHROPIC,
    ends: false,
};
pub const AIDER: Vendor = Vendor {
    template: "aider",
    program: Program::Aider,
    variable: "ANTHROPIC_API_KEY",
    key: anthropic_key,
    hosts: ANTHROPIC,
    ends: true,
};
pub const GEMINI: Vendor = Vendor {
    template: "gemini",
    program: Program::Npm("@google/gemini-cli@0.61.0", ".bin/gemini"),
    variable: "GEMINI_API_KEY",
    key: google_key,
    hosts: &["generativelanguage.googleapis.com"],
    ends: false,
};
pub const OPENCODE: Vendor = Vendor {
    template: "opencode",
    // The script in `.bin` wants what the package's own installation makes.
    program: Program::Npm("opencode-ai@1.18.33", "opencode-linux-x64/bin/opencode"),
    variable: "ANTHROPIC_API_KEY",
    key: anthropic_key,
    hosts: ANTHROPIC,
    ends: false,
};
pub const COPILOT_CLI: Vendor = Vendor {
    template: "copilot",
    program: Program::Npm("@github/copilot@1.0.102", ".bin/copilot"),
    variable: "COPILOT_GITHUB_TOKEN",
    key: github_key,
    hosts: COPILOT,
    ends: false,
};
pub const QWEN: Vendor = Vendor {
    template: "qwen",
    program: Program::Npm("@qwen-code/qwen-code@0.24.4", ".bin/qwen"),
    variable: "OPENAI_API_KEY",
    key: openai_key,
    hosts: OPENAI,
    ends: false,
};
/// GitHub's client in the tests' Debian, which a bottle's manifest gives a token.
pub const GH: Vendor = Vendor {
    template: "shell",
    program: Program::Debian,
    variable: "GH_TOKEN",
    key: classic_github_key,
    hosts: &["api.github.com"],
    ends: true,
};

/// An image with a program. Tests of one program share it; it is removed with the last of them.
pub struct Image {
    pub name: String,
    own: bool,
}

/// Held while one is made.
static IMAGES: Mutex<BTreeMap<&str, Weak<Image>>> = Mutex::new(BTreeMap::new());

impl Image {
    pub fn of(vendor: &Vendor) -> Arc<Self> {
        Debian::import();
        let mut images = IMAGES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(image) = images.get(vendor.template).and_then(Weak::upgrade) {
            return image;
        }
        let image = Arc::new(Self::make(vendor));
        images.insert(vendor.template, Arc::downgrade(&image));
        image
    }

    fn make(vendor: &Vendor) -> Self {
        let tag = format!("{}-{}", vendor.template, std::process::id());
        let name = format!("bottler-test:{tag}");
        match vendor.program {
            Program::Debian => return Self { name: DEBIAN.to_owned(), own: false },
            Program::Aider => Debian::import_aider(&name),
            Program::Npm(package, path) => {
                let modules = install(package).join("node_modules");
                let made = format!("bottler-test-{tag}");
                docker(&["create", "--name", &made, DEBIAN]);
                docker(&["cp", "-q", &modules.display().to_string(), &format!("{made}:/opt/node_modules")]);
                // A link, as npm makes one for a global installation.
                let folder = tempfile::tempdir().unwrap();
                let link = folder.path().join(vendor.template);
                std::os::unix::fs::symlink(format!("/opt/node_modules/{path}"), &link).unwrap();
                docker(&["cp", "-q", &link.display().to_string(), &format!("{made}:/usr/local/bin/")]);
                docker(&["commit", &made, &name]);
                docker(&["rm", &made]);
            }
        }
        Self { name, own: true }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if self.own {
            let made = made_of(&self.name);
            let _ = Command::new("docker").args(["rmi", "-f", &self.name]).args(made).stdout(Stdio::null()).status();
        }
    }
}

/// The images that bottler has made of one: they begin with its layers.
fn made_of(image: &str) -> Vec<String> {
    let output = |arguments: &[&str]| {
        let output = Command::new("docker").args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let layers = |image: &str| output(&["image", "inspect", "--format", "{{json .RootFS.Layers}}", image]);
    let own = layers(image).trim().trim_end_matches(']').to_owned() + ",";
    let all = output(&["images", "bottler", "--format", "{{.Repository}}:{{.Tag}}"]);
    all.lines().filter(|other| layers(other).starts_with(&own)).map(str::to_owned).collect()
}

/// A project, a manifest as `bottler init` writes it, and the files of the models' server, in one folder.
pub struct Desk<'a> {
    world: &'a World,
    vendor: &'a Vendor,
    folder: tempfile::TempDir,
}

impl<'a> Desk<'a> {
    pub fn new(world: &'a World, vendor: &'a Vendor) -> Self {
        let desk = Self::without_manifest(world, vendor);
        let manifest = desk.path("bottler.yaml").display().to_string();
        let mut init = world.command(&["init", "--template", vendor.template, "--file", &manifest]);
        let done = init.env(vendor.variable, (vendor.key)()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let text = std::fs::read_to_string(&manifest).unwrap();
        desk.manifest(&text);
        desk
    }

    /// With another manifest, for an agent `dev`.
    pub fn with_manifest(world: &'a World, vendor: &'a Vendor, manifest: &str) -> Self {
        let desk = Self::without_manifest(world, vendor);
        desk.manifest(manifest);
        desk
    }

    /// Writes the manifest, with leave for the recipe to start the server.
    fn manifest(&self, text: &str) {
        let start = self.path("start").display().to_string();
        std::fs::write(self.path("bottler.yaml"), format!("{text}host_commands: [['{start}']]\n")).unwrap();
    }

    fn without_manifest(world: &'a World, vendor: &'a Vendor) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let desk = Self { world, vendor, folder };
        for name in ["origin", "project"] {
            std::fs::create_dir(desk.path(name)).unwrap();
        }
        std::fs::write(desk.path("project/README"), "hello\n").unwrap();
        certificates(&desk.path("origin"), vendor.hosts);
        std::fs::write(desk.path("origin/api.py"), include_str!("vendors.py")).unwrap();
        std::fs::write(desk.path("origin/keys"), (vendor.key)()).unwrap();
        desk
    }

    /// The agent may ask its operator, and its model makes these calls; see `vendors.py`.
    pub fn supervise(&self, script: &serde_json::Value) {
        std::fs::write(self.path("origin/script.json"), script.to_string()).unwrap();
        std::fs::write(self.path("origin/go"), "").unwrap();
        let file = self.path("bottler.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        let supervised = text.replacen("\n  dev:\n", "\n  dev:\n    supervise: true\n", 1);
        assert_ne!(text, supervised);
        std::fs::write(file, supervised).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The words of a launch that starts the models' server before the agent; and the server to be.
    pub fn launch(&self, bottle: &str, image: &Image) -> (Vec<String>, Origin) {
        let command = "python3 /origin/api.py /origin 0.0.0.0";
        let (origin, script) =
            Origin::script(bottle, self.vendor.hosts, DEBIAN, &self.path("origin"), command, "listens");
        let start = self.path("start");
        std::fs::write(&start, script).unwrap();
        std::fs::set_permissions(&start, PermissionsExt::from_mode(0o755)).unwrap();
        let at = |name: &str| self.path(name).display().to_string();
        let words = [
            vec!["run".to_owned(), "dev".to_owned(), "--name".to_owned(), bottle.to_owned(), "--yes".to_owned()],
            vec!["--manifest".to_owned(), at("bottler.yaml"), "--image".to_owned(), image.name.clone()],
            vec!["--recipe".to_owned(), recipe("beside.lua"), "--set".to_owned(), format!("origin={}", at("start"))],
            vec!["--upstream-ca".to_owned(), at("origin/root.pem"), "--keep".to_owned(), "never".to_owned()],
            ["--allow-ip", "10.213.0.0/16", "--allow-ip", "172.29.0.0/16"].map(str::to_owned).to_vec(),
        ];
        (words.concat(), origin)
    }

    /// A command of bottler in the project, with the key in its environment.
    pub fn command(&self, words: &[String]) -> Command {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut command = self.world.command(&words);
        command.current_dir(self.path("project")).env(self.vendor.variable, (self.vendor.key)());
        command
    }
}
