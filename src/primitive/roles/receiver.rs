//! The receiver: runs in the engine's host network during one proof. bottler starts it itself; a recipe cannot.

use crate::engine::labels::Identity;
use crate::engine::{ContainerSpec, HostNetwork, Resources};
use crate::layout::EXECUTABLE;
use crate::layout::sidecar::USER;
use crate::sidecar::receiver::ROLE;

/// Its resource limits.
const RESOURCES: Resources = Resources { cpus: 1.0, memory: 64 << 20, pids: 16 };

/// Its container. It may set the host's packet filter for one bridge only if the manifest asks for that.
pub(in crate::primitive) fn container(
    name: String,
    image: String,
    set_filter: bool,
    identity: Identity,
) -> ContainerSpec {
    let (user, host_network) = if set_filter { (0, HostNetwork::Configure) } else { (USER, HostNetwork::Listen) };
    let command = vec![EXECUTABLE.into(), ROLE.into()];
    let identity = Identity { role: Some(ROLE.to_owned()), ..identity };
    ContainerSpec {
        host_network: Some(host_network),
        stdin: true,
        ..ContainerSpec::closed(name, image, command, format!("{user}:{user}"), RESOURCES, identity)
    }
}
