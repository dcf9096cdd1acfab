//! Pipelock behind an egress: what its container needs beside that of egress, and how it is started.

use std::path::PathBuf;

use crate::primitive::bottle::Bottle;
use crate::primitive::handle::ImageInfo;
use crate::session::{Class, Failure};
use crate::sidecar::egress::PipelockConfig;

/// The size of the folder in memory for its files: certificates of the public authorities, above all.
pub(super) const FILES: &str = "8m";
/// What it may use beside egress, in bytes: it has whole bodies in memory.
pub(super) const MEMORY: i64 = 768 << 20;

/// How it is started from its image. Its program is the first word of the image's command.
///
/// # Errors
/// That is not the path of a program.
pub(super) fn config(bottle: &Bottle, image: &ImageInfo) -> Result<PipelockConfig, Failure> {
    let program = image.command.first().filter(|program| program.starts_with('/')).map(PathBuf::from);
    let program = program.ok_or_else(|| {
        let why = format!("egress.image: its command {:?} does not begin with the path of a program", image.command);
        Failure::new(Class::Input, why).hint("an image whose ENTRYPOINT is Pipelock, as [\"/pipelock\"]")
    })?;
    Ok(PipelockConfig { program, held: bottle.plan.credential_hosts().map(str::to_owned).collect() })
}
