//! What the engine lists, read: objects that are bottler's by label *and* name.

use std::collections::HashMap;

use bollard::models as api;

use crate::engine::labels::{self, Identity};
use crate::engine::{Filter, Object};

/// The engine's filter for one bottle's or one owner's labels.
pub(super) fn filter(filter: &Filter) -> HashMap<String, Vec<String>> {
    let label = match filter {
        Filter::Session(id) => format!("{}={id}", labels::SESSION),
        Filter::Owner(owner) => format!("{}={owner}", labels::OWNER),
    };
    HashMap::from([("label".to_owned(), vec![label])])
}

fn object(id: Option<&str>, name: &str, labels: Option<&HashMap<String, String>>) -> Option<Object> {
    let labels = labels?;
    let identity = Identity::from_labels(name, |key| labels.get(key).map(String::as_str))?;
    Some(Object { id: id.unwrap_or(name).to_owned(), name: name.to_owned(), identity })
}

/// Reads the three lists.
pub(super) fn objects(
    containers: &[api::ContainerSummary],
    networks: &[api::Network],
    volumes: &[api::Volume],
) -> Vec<Object> {
    let mut found = Vec::new();
    for container in containers {
        let mut names = container.names.iter().flatten().map(|name| name.trim_start_matches('/'));
        let (id, labels) = (container.id.as_deref(), container.labels.as_ref());
        found.extend(names.find_map(|name| object(id, name, labels)));
    }
    for network in networks {
        let name = network.name.as_deref().unwrap_or_default();
        found.extend(object(network.id.as_deref(), name, network.labels.as_ref()));
    }
    for volume in volumes {
        found.extend(object(None, &volume.name, Some(&volume.labels)));
    }
    found
}
