//! What the engine lists, read: objects that are bottler's by label *and* name.

use std::collections::{BTreeMap, HashMap};

use bollard::models as api;

use crate::engine::labels::{self, Identity};
use crate::engine::{EngineDetails, Filter, Object, Product, Runtime};

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

/// How far a pull is: its layers, by their ids.
#[derive(Default)]
pub(super) struct Layers {
    layers: BTreeMap<String, (u64, u64)>,
    /// Tenths that were told.
    told: Option<u64>,
}

impl Layers {
    /// Notes a line of the engine's progress; what there is to say, which is not every line.
    pub(super) fn note(
        &mut self,
        layer: Option<&str>,
        status: Option<&str>,
        done: Option<i64>,
        of: Option<i64>,
    ) -> Option<String> {
        let status = status.unwrap_or_default();
        let Some(layer) = layer else { return (!status.is_empty()).then(|| status.to_owned()) };
        let bytes = |count: Option<i64>| count.and_then(|count| u64::try_from(count).ok());
        match (status, bytes(done), bytes(of)) {
            ("Downloading", Some(done), Some(of)) if of > 0 => {
                self.layers.insert(layer.to_owned(), (done.min(of), of));
            }
            ("Download complete" | "Pull complete", ..) => {
                if let Some((done, of)) = self.layers.get_mut(layer) {
                    *done = *of;
                }
            }
            _ => return None,
        }
        let (done, of) = self.layers.values().fold((0, 0), |sum, layer| (sum.0 + layer.0, sum.1 + layer.1));
        let tenths = done * 10 / of.max(1);
        if self.told == Some(tenths) {
            return None;
        }
        self.told = Some(tenths);
        Some(format!("{} of {} MiB in {} layers", done >> 20, of >> 20, self.layers.len()))
    }
}

/// Whose engine it is, by the name of its main part.
pub(super) fn product(parts: &[api::SystemVersionComponents]) -> Product {
    if parts.iter().any(|part| part.name == "Podman Engine") { Product::Podman } else { Product::Docker }
}

/// What an engine says of what it runs on.
pub(super) fn details(info: api::SystemInfo, product: Product) -> EngineDetails {
    let secured = |name: &str| {
        let named = |option: &String| option.split(',').any(|part| part.strip_prefix("name=") == Some(name));
        info.security_options.as_ref().is_some_and(|options| options.iter().any(named))
    };
    let (rootless, seccomp) = (secured("rootless"), secured("seccomp"));
    let runtime = |it: api::Runtime| Runtime {
        path: it.path.unwrap_or_default(),
        arguments: it.runtime_args.unwrap_or_default(),
    };
    EngineDetails {
        product,
        runtimes: info.runtimes.unwrap_or_default().into_iter().map(|(name, it)| (name, runtime(it))).collect(),
        default_runtime: info.default_runtime.unwrap_or_default(),
        rootless,
        seccomp,
        storage: info.driver.unwrap_or_default(),
        kernel: info.kernel_version.unwrap_or_default(),
        system: info.operating_system.unwrap_or_default(),
        processors: info.ncpu.unwrap_or_default(),
        memory: info.mem_total.unwrap_or_default(),
        time: info.system_time.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_is_told_in_tenths() {
        let mut layers = Layers::default();
        assert_eq!(layers.note(None, Some("Pulling from x"), None, None).as_deref(), Some("Pulling from x"));
        let mut down = |done: i64| layers.note(Some("a"), Some("Downloading"), Some(done << 20), Some(100 << 20));
        assert_eq!(down(1).as_deref(), Some("1 of 100 MiB in 1 layers"));
        assert_eq!(down(2), None);
        assert_eq!(down(15).as_deref(), Some("15 of 100 MiB in 1 layers"));
        assert_eq!(
            layers.note(Some("a"), Some("Pull complete"), None, None).as_deref(),
            Some("100 of 100 MiB in 1 layers")
        );
    }
}
