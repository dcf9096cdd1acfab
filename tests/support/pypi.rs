//! Packages from `PyPI` for this machine's own Python, installed once and kept in `target/`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use super::registry;

/// The Python of the system.
pub const PYTHON: &str = "/usr/bin/python3";

/// A script that makes a package index with one wheel, `demo`, below `www/simple` in its folder.
pub const WHEEL: &str = r#"
mkdir -p www/simple/demo
python3 - <<'PYTHON'
import zipfile
with zipfile.ZipFile("www/simple/demo/demo-1.0-py3-none-any.whl", "w") as wheel:
    wheel.writestr("demo.py", "")
    wheel.writestr("demo-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n")
    wheel.writestr("demo-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: a\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr("demo-1.0.dist-info/RECORD", "")
PYTHON
echo '<a href="demo-1.0-py3-none-any.whl">demo-1.0-py3-none-any.whl</a>' > www/simple/demo/index.html
"#;

static INSTALLING: Mutex<()> = Mutex::new(());

/// The folder for `PYTHONPATH` with these packages, each given as `NAME==VERSION`, and what they depend on. `name` is the
/// folder's.
pub fn install(name: &str, packages: &[&str]) -> PathBuf {
    let _turn = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/pypi");
    let folder = all.join(name);
    if !folder.exists() {
        std::fs::create_dir_all(&all).unwrap();
        let work = tempfile::tempdir_in(&all).unwrap();
        let mut pip = Command::new("timeout");
        pip.args([
            "300",
            PYTHON,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--upgrade",
            "--target",
        ]);
        registry::fetch(pip.arg(work.path()).args(packages));
        std::fs::rename(work.path(), &folder).unwrap();
    }
    folder
}
