//! Volumes: made, given to whoever is inside the containers that use them, and removed.

use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use super::answer::{broken, failure};
use super::image::{self, Account};
use super::store::{self, discard, is_name};
use super::users::{self, Mapping};
use super::{NativeEngine, host, plan};
use crate::engine::{ErrorKind, Removal, Result, VolumeMount, VolumeSpec};

/// The file in a volume that was mounted by nobody yet. It has the owner that was asked for.
const FRESH: &str = "fresh";

impl NativeEngine {
    /// Makes a volume, whose owner and mode are those of the folder that it is first mounted on.
    pub(super) fn make_volume(&self, spec: &VolumeSpec) -> Result<()> {
        let operation = "create volume";
        if !is_name(&spec.name) {
            return Err(failure(operation, &spec.name, ErrorKind::Other, "it cannot be the name of a volume"));
        }
        let made = self.store.create(&self.store.volume(&spec.name), |new| {
            let data = new.join("data");
            std::fs::DirBuilder::new().mode(0o755).create(&data)?;
            if let (Some((user, group)), true) = (spec.owner, host::is_privileged()) {
                std::os::unix::fs::chown(&data, Some(user), Some(group))?;
            }
            let owner = spec.owner.map_or_else(String::new, |(user, group)| format!("{user}:{group}"));
            std::fs::write(new.join(FRESH), owner)?;
            let (file, labels) = (new.join("labels.json"), store::Labelled { labels: spec.identity.to_labels() });
            if spec.may_be_kept {
                return store::write(&file, &labels);
            }
            std::fs::write(new.join(store::PASSING), "")?;
            store::note(&file, &labels)
        });
        made.map_err(broken(operation, &spec.name))
    }

    pub(super) async fn remove_volume(&self, name: &str) -> Result<Removal> {
        let path = self.store.volume(name);
        if !is_name(name) || !path.exists() {
            return Ok(Removal::WasGone);
        }
        let removed = crate::task::blocking(move || discard(&path)).await.map_err(std::io::Error::other);
        removed.and_then(|removed| removed).map_err(broken("remove volume", name))?;
        Ok(Removal::Removed)
    }

    /// Gives a volume that is new the owner and the mode of the folder that it is mounted on, as other engines do. They
    /// also copy what is in the folder; images of bottler's own have nothing there. An owner that only the container can give
    /// it is returned. One that was used by containers with other users before is given to those of this one.
    pub(super) fn settle_volume(
        &self,
        mount: &VolumeMount,
        files: &Path,
        config: &image::Config,
        mapping: Mapping,
    ) -> std::io::Result<Option<Account>> {
        let volume = self.store.volume(&mount.volume);
        let (fresh, data) = (volume.join(FRESH), volume.join("data"));
        let folder = config.folder(&mount.target);
        if !fresh.exists() {
            // One that ends with its bottle is in use by containers that keep it.
            let owner = folder.map(|folder| folder.account).filter(|account| account.user != 0);
            if !volume.join(store::PASSING).exists() {
                hand_over(&data, mapping, owner)?;
            }
            return Ok(None);
        }
        if mount.read_only {
            return Ok(None);
        }
        let asked = plan::account(&std::fs::read_to_string(&fresh)?).ok();
        if let Some(folder) = folder {
            let place = files.join(mount.target.trim_start_matches('/'));
            if std::fs::read_dir(place).is_ok_and(|mut inside| inside.next().is_some()) {
                return Err(std::io::Error::other(format!(
                    "volume {} would hide what the image has in {}: the native engine copies no files into a volume",
                    mount.volume, mount.target
                )));
            }
            if mapping.is_by_root() {
                std::os::unix::fs::chown(&data, Some(folder.account.user), Some(folder.account.group))?;
            }
            std::fs::set_permissions(&data, std::fs::Permissions::from_mode(folder.mode))?;
        }
        std::fs::remove_file(fresh)?;
        let account = folder.map(|folder| folder.account).or(asked);
        Ok(account.filter(|_| matches!(mapping, Mapping::Delegated { .. })))
    }
}

/// Gives a volume's folder that containers with other users have used to those of this one: to `owner`, where there are several.
///
/// # Errors
/// It is nobody's of them, and this user may not give it to them. It stays as it is.
fn hand_over(data: &Path, mapping: Mapping, owner: Option<Account>) -> std::io::Result<()> {
    let user = std::fs::metadata(data)?.uid();
    let foreign = || {
        std::io::Error::other(format!(
            "{} belongs to user {user}, who is none of this user's subordinate ones in /etc/subuid: launch it with the range that it \
             was made with, or as the one who made it. It stays as it is",
            data.display()
        ))
    };
    match mapping {
        Mapping::Host | Mapping::Range { .. } => Ok(()),
        Mapping::One(this) if user == this.user => Ok(()),
        Mapping::One(_) => match users::delegated() {
            Ok(range) if range.has_outside(user) => users::give(data, None),
            _ => Err(foreign()),
        },
        Mapping::Delegated { root, .. } if user == root.user => {
            owner.map_or(Ok(()), |owner| users::give(data, Some(owner)))
        }
        Mapping::Delegated { .. } if mapping.has_outside(user) => Ok(()),
        Mapping::Delegated { .. } => Err(foreign()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_of_nobody_inside_is_refused_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let user = std::fs::metadata(folder.path()).unwrap().uid();
        let account = |user| Account { user, group: 1 };
        let range = |first: u32| Mapping::Delegated { root: account(user + 1), first: account(first) };
        let beyond = user + (1 << 16);
        for (mapping, taken) in [
            (Mapping::Host, true),
            (Mapping::Range { first: beyond }, true),
            (Mapping::One(account(user)), true),
            (Mapping::One(account(user + 1)), false),
            (range(user), true),
            (range(user + 1), false),
            (Mapping::Delegated { root: account(user), first: account(beyond) }, true),
        ] {
            let done = hand_over(folder.path(), mapping, None);
            assert_eq!(done.is_ok(), taken, "{mapping:?}");
            if let Err(error) = done {
                assert!(error.to_string().contains("/etc/subuid") && error.to_string().contains("It stays"), "{error}");
            }
        }
        assert_eq!(std::fs::metadata(folder.path()).unwrap().uid(), user);
    }
}
