//! A container that never starts, through which the engine reads files of an image or of a mounted volume.

use crate::engine::labels::Identity;
use crate::engine::{ContainerSpec, Resources};
use crate::layout::EXECUTABLE;

/// A container that never starts.
pub(super) fn unstarted(name: String, image: String, identity: Identity) -> ContainerSpec {
    let command = vec![EXECUTABLE.into(), "idle".into()];
    let resources = Resources { cpus: 1.0, memory: 64 << 20, pids: 8 };
    ContainerSpec {
        hostname: "reader".into(),
        never_starts: true,
        ..ContainerSpec::closed(name, image, command, "65534:65534".into(), resources, identity)
    }
}
