//! The agent's home, where it outlives the bottle: a volume, which is kept and removed with that of the workspace.
//!
//! An engine fills a new volume with what the image has at its place. What an earlier agent has left in it is hostile:
//! links, pipes and folders may be where a file is to go. init, which runs as the agent, writes there without following
//! them (`init/place.rs`). An engine unpacks as root and follows links, so nothing is unpacked there.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::engine::labels::{Identity, Kind};
use crate::engine::{ContainerSpec, Filter, VolumeMount, VolumeSpec};
use crate::host::replace;
use crate::layout::EXECUTABLE;
use crate::layout::agent::DEFAULT_HOME;
use crate::primitive::account::Account;
use crate::primitive::bottle::Bottle;
use crate::primitive::event::Event;
use crate::primitive::handle::{HomeSource, ImageInfo};
use crate::session::kept_workspace::home_volume;
use crate::session::{BottleImages, Class, Failure, ScriptLocation};

/// The file in a bottle's directory that says where its agent's home comes from.
const FILE: &str = "home.json";

/// Where the home of a kept bottle comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HomeOrigin {
    /// The id of the image, without bottler's layer.
    pub image: String,
    /// Its path.
    pub path: String,
}

impl HomeOrigin {
    /// Reads what an earlier launch of a bottle has written down, if anything.
    pub fn read(directory: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(directory.join(FILE)).ok()?).ok()
    }

    fn write(&self, directory: &Path) -> std::io::Result<()> {
        replace(&directory.join(FILE), &serde_json::to_vec(self)?)
    }
}

/// The volume of the agent's home.
pub(super) struct HomeVolume {
    name: String,
    source: HomeSource,
    identity: Identity,
}

/// Announces the volume of the agent's home, if that may outlive the bottle.
pub(super) fn announce(bottle: &Bottle, at: Option<&ScriptLocation>) -> Result<Option<HomeVolume>, Failure> {
    let Some(source) = bottle.host.home else { return Ok(None) };
    let name = home_volume(&bottle.session.id);
    let identity = match source {
        HomeSource::New => bottle.intend(Kind::Volume, &name, at)?,
        HomeSource::Kept | HomeSource::Fresh => bottle.session.identity(Kind::Volume),
    };
    Ok(Some(HomeVolume { name, source, identity }))
}

/// A home in the agent's container.
pub(super) struct MountedHome {
    /// The volume.
    pub(super) mount: VolumeMount,
    /// Whether an earlier agent has left it.
    pub(super) is_left: bool,
}

/// Makes the volume of the home, or finds the one that is there. `None` if the home cannot be one.
pub(super) async fn mounted(
    bottle: &Bottle,
    home: HomeVolume,
    image: &ImageInfo,
    account: Account,
    spec: &ContainerSpec,
) -> Result<Option<MountedHome>, Failure> {
    let HomeVolume { name, source, identity } = home;
    let path = image.home.as_str();
    if let Err(why) = check_place(path, spec) {
        bottle.events.tell(Event::Log(format!("the agent's home is not kept: {why}")));
        return Ok(None);
    }
    let engine = &bottle.session.engine;
    let mount = VolumeMount { volume: name.clone(), target: path.to_owned(), read_only: false };
    match source {
        HomeSource::New => {}
        HomeSource::Fresh => drop(engine.volume_remove(&name).await?),
        HomeSource::Kept => {
            let objects = engine.list(&Filter::Session(bottle.session.id.clone())).await?;
            if objects.iter().any(|object| object.identity.kind == Kind::Volume && object.name == name) {
                compare(bottle, image);
                return Ok(Some(MountedHome { mount, is_left: true }));
            }
        }
    }
    let owner = Some((account.user, account.group));
    engine.volume_create(&VolumeSpec { name, owner, may_be_kept: true, identity }).await?;
    if let Some(directory) = &bottle.host.staging {
        let origin = HomeOrigin { image: image.base.clone(), path: path.to_owned() };
        if let Err(error) = origin.write(directory) {
            bottle.events.tell(Event::Log(format!("record where the agent's home comes from: {error}")));
        }
    }
    Ok(Some(MountedHome { mount, is_left: false }))
}

/// Says that the home of an earlier launch hides what another image has there. The summary before the launch says so
/// where it can tell; an image that is built or pulled is known only now.
fn compare(bottle: &Bottle, image: &ImageInfo) {
    let Some(directory) = bottle.host.staging.as_deref() else { return };
    let Some(origin) = HomeOrigin::read(directory) else { return };
    // One that was built for this bottle has the same home below its steps.
    let images = BottleImages::read(directory).unwrap_or_default();
    if images.current.is_some_and(|current| current.reference == bottle.plan.image.source) {
        return;
    }
    let id = &bottle.session.id;
    let hint = format!("`bottler resume {id} --fresh-home` starts with the image's");
    if origin.path != image.home {
        let (old, new) = (&origin.path, &image.home);
        bottle.events.tell(Event::Log(format!("the kept home was at {old}, and is at {new} now; {hint}")));
    } else if origin.image != image.base {
        let place = &origin.path;
        bottle.events.tell(Event::Log(format!(
            "the image has changed, and the kept home hides what the new one has in {place}; {hint}"
        )));
    }
}

/// Refuses a home that would hide something else that the container has, or be hidden by it.
fn check_place(home: &str, spec: &ContainerSpec) -> Result<(), String> {
    let others = spec.mounts.iter().map(|mount| mount.target.as_str());
    let others = others.chain(spec.binds.iter().map(|bind| bind.target.as_str()));
    let others = others.chain(spec.tmpfs.keys().map(String::as_str)).chain([EXECUTABLE]);
    let is_plain = home
        .strip_prefix('/')
        .is_some_and(|steps| !steps.is_empty() && steps.split('/').all(|step| !matches!(step, "" | "." | "..")));
    if !is_plain {
        return Err(format!("{home} is not the place of a volume"));
    }
    let home = Path::new(home);
    for other in others {
        let other = Path::new(other);
        if home.starts_with(other) || other.starts_with(home) {
            return Err(format!("{} and {} are one in the other", home.display(), other.display()));
        }
    }
    Ok(())
}

/// Refuses files that the engine would unpack into a home that an earlier agent has left.
pub(super) fn check_unpacked<'a>(
    bottle: &str,
    home: &str,
    mut paths: impl Iterator<Item = &'a str>,
) -> Result<(), Failure> {
    // The image has a link from the default home to another one.
    let is_inside = |path: &&str| [home, DEFAULT_HOME].iter().any(|home| Path::new(path).starts_with(home));
    let Some(path) = paths.find(is_inside) else { return Ok(()) };
    let why = "a file of another owner is not put into a home that an earlier launch has left";
    Err(Failure::new(Class::Input, format!("provision: {path}: {why}"))
        .hint(format!("give it the agent's own owner, or `bottler resume {bottle} --fresh-home`")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Bind, Resources};
    use crate::session::Session;

    #[test]
    fn a_home_hides_nothing_and_is_not_hidden() {
        let engine = std::sync::Arc::new(crate::engine::fake::FakeEngine::with_any_image());
        let identity = Session::new("a-1", "o", engine).identity(Kind::Agent);
        let resources = Resources { cpus: 1.0, memory: 1, pids: 1 };
        let closed =
            ContainerSpec::closed("a-1".into(), "i".into(), Vec::new(), "1:1".into(), resources, identity.clone());
        let at = |target: &str| VolumeMount { volume: "v".into(), target: target.into(), read_only: true };
        let spec = ContainerSpec {
            mounts: vec![at("/work/space"), at("/run/bottler-services/egress")],
            binds: vec![Bind { source: "/x".into(), target: "/data".into(), read_only: true }],
            tmpfs: [("/run/bottler".to_owned(), String::new())].into(),
            ..closed
        };
        for home in ["/home/agent", "/root", "/work/other", "/work/space2", "/datum"] {
            assert_eq!(check_place(home, &spec), Ok(()), "{home}");
        }
        for home in [
            "/",
            "",
            "home",
            "/work",
            "/work/space",
            "/work/space/me",
            "/data/me",
            "/run",
            "/run/bottler",
            "/bottler",
            "/bottler/x",
            "/home/../work",
            "/home//me",
            "/home/me/",
        ] {
            assert!(check_place(home, &spec).is_err(), "{home}");
        }
    }

    #[test]
    fn nothing_is_unpacked_as_root_where_an_agent_left_links() {
        let check = |path: &str| check_unpacked("a-1", "/home/dev", [path].into_iter());
        for path in ["/home/dev/.x/managed", "/home/agent/.x/managed", "/home/dev"] {
            assert!(check(path).unwrap_err().hint.unwrap().contains("--fresh-home"), "{path}");
        }
        for path in ["/etc/managed", "/home/developer/x"] {
            assert_eq!(check(path), Ok(()), "{path}");
        }
    }
}
