//! Volumes: made, given to whoever is inside the containers that use them, and removed.

use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use super::answer::{broken, failure};
use super::image::{self, Account};
use super::store::{self, USERS, discard, is_name};
use super::subordinates::{self, Subordinates};
use super::users::{self, Mapping};
use super::{NativeEngine, host, plan};
use crate::engine::{ErrorKind, Removal, Result, VolumeMount, VolumeSpec};

/// The file in a volume that was mounted by nobody yet. It has the owner that was asked for.
const FRESH: &str = "fresh";

/// The file in a volume that is being given to others. If it is there, some of its files may have been, and others not.
const HALF: &str = "half-given";

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

    /// Refuses a volume whose files can be given to nobody in this user's containers.
    pub(super) fn check_volume(&self, name: &str) -> Result<()> {
        let volume = self.store.volume(name);
        let data = volume.join("data");
        let checked = owner_of(&data).and_then(|found| {
            let is_own = found.user == nix::unistd::geteuid().as_raw();
            if is_own || volume.join(FRESH).exists() { Ok(()) } else { may_give(&data, found) }
        });
        let checked = checked.or_else(|error| if volume.exists() { Err(error) } else { Ok(()) });
        checked.map_err(broken("use volume", name))
    }

    /// Gives a volume that containers with other users have used to those of this one. What a container uses at this moment stays as it
    /// is, for that one: false.
    ///
    /// # Errors
    /// It is nobody's of them, and this user may not give it to them. It stays as it is.
    fn hand_over(
        &self,
        mount: &VolumeMount,
        mapping: Mapping,
        (owner, user): (Option<Account>, Account),
    ) -> std::io::Result<bool> {
        let volume = self.store.volume(&mount.volume);
        let (data, half) = (volume.join("data"), volume.join(HALF));
        let found = owner_of(&data)?;
        let owner_to_be = owner.filter(|_| !mount.read_only);
        if !half.exists() && !needs_handing_over(found, mapping, owner_to_be) {
            return Ok(true);
        }
        if self.is_in_use(&data) {
            return Ok(false);
        }
        may_give(&data, found)?;
        // Whoever is killed in the middle leaves files of both, whatever the folder itself is by then.
        std::fs::write(&half, "")?;
        subordinates::give(&data, mapping, owner.unwrap_or(user))?;
        std::fs::remove_file(&half)?;
        Ok(true)
    }

    /// Gives a volume that is new the owner and the mode of the folder that it is mounted on, as other engines do. They
    /// also copy what is in the folder; images of bottler's own have nothing there. An owner that only the container can give
    /// it is returned. One that was used by containers with other users before is given to those of this one.
    pub(super) fn settle_volume(
        &self,
        mount: &VolumeMount,
        files: &Path,
        config: &image::Config,
        (mapping, user): (Mapping, Account),
    ) -> std::io::Result<Option<Account>> {
        let volume = self.store.volume(&mount.volume);
        let (fresh, data) = (volume.join(FRESH), volume.join("data"));
        let folder = config.folder(&mount.target);
        if !fresh.exists() {
            // One that ends with its bottle is in use by containers that keep it.
            let owner = folder.map(|folder| folder.account);
            if !volume.join(store::PASSING).exists() && self.hand_over(mount, mapping, (owner, user))? {
                note_users(&volume, mapping)?;
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
        note_users(&volume, mapping)?;
        std::fs::remove_file(fresh)?;
        let account = folder.map(|folder| folder.account).or(asked);
        Ok(account.filter(|_| matches!(mapping, Mapping::Delegated { .. })))
    }
}

/// Notes whose a volume's files are, so that the range can be named once it is gone.
fn note_users(volume: &Path, mapping: Mapping) -> std::io::Result<()> {
    let file = volume.join(USERS);
    let is_noted = || store::read(&file).is_ok_and(|noted: Mapping| noted == mapping);
    if !matches!(mapping, Mapping::Delegated { .. }) || volume.join(store::PASSING).exists() || is_noted() {
        return Ok(());
    }
    store::note(&file, &mapping)
}

/// Whether a volume's folder is not whose it is to be, in containers with these users; where that may be anybody of them, whether it is
/// nobody's.
fn needs_handing_over(found: Account, mapping: Mapping, owner: Option<Account>) -> bool {
    match (mapping, owner) {
        // The one user has every group.
        (Mapping::One(this), _) => found.user != this.user,
        (_, Some(owner)) => found != mapping.on_disk(owner),
        (Mapping::Host | Mapping::Range { .. }, None) => !users::has(found),
        (Mapping::Delegated { .. }, None) => !Subordinates::find().is_ok_and(|theirs| theirs.are_inside(found)),
    }
}

/// Refuses to take what belongs to nobody of this user's.
fn may_give(data: &Path, found: Account) -> std::io::Result<()> {
    let again = || {
        let had: Option<Mapping> = store::read(&data.with_file_name(USERS)).ok();
        let range = had.and_then(subordinates::reserve_again).map(|command| format!(" (`{command}`)"));
        format!(
            "reserve the numbers with which the volume was made{}, or launch as the user who made it",
            range.unwrap_or_default()
        )
    };
    let why = match Subordinates::of_files() {
        Ok(None) => return Ok(()),
        Ok(Some(theirs)) => match theirs.have(found) {
            Ok(()) => return Ok(()),
            Err(why) => format!("{why}: {}", again()),
        },
        // Another range than the one that it was would not help.
        Err((why, _)) if subordinates::can_be_mapped() => format!("user {}, and {why}: {}", found.user, again()),
        Err((why, remedy)) => format!("user {}, and {why}: {remedy}", found.user),
    };
    Err(std::io::Error::other(format!("{} belongs to {why}. It stays as it is", data.display())))
}

fn owner_of(path: &Path) -> std::io::Result<Account> {
    let found = std::fs::metadata(path)?;
    Ok(Account { user: found.uid(), group: found.gid() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_stays_whose_it_is_unless_somebody_else_inside_needs_it() {
        let account = |user| Account { user, group: user };
        let (own, agent) = (account(9000), account(1000));
        let range = Mapping::Range { first: 0x7800_0000 };
        let delegated = Mapping::Delegated { root: own, first: account(200_000) };
        for (found, mapping, owner, needs) in [
            (agent, Mapping::Host, Some(agent), false),
            (account(0), Mapping::Host, Some(agent), true),
            (account(0), range, Some(agent), true),
            (account(0), range, None, false),
            (account(0), range, Some(account(0)), false),
            // Root's own subordinate users, of when it had fewer privileges.
            (account(100_999), range, None, true),
            (agent, range, Some(account(2000)), true),
            (own, Mapping::One(own), Some(agent), false),
            (account(200_999), Mapping::One(own), Some(agent), true),
            (own, delegated, Some(agent), true),
            (own, delegated, Some(account(0)), false),
            (account(200_999), delegated, Some(agent), false),
            // A range that has moved a little: it is somebody's, and not the agent's.
            (account(201_499), delegated, Some(agent), true),
            (Account { user: 200_999, group: 201_499 }, delegated, Some(agent), true),
        ] {
            assert_eq!(needs_handing_over(found, mapping, owner), needs, "{found:?} {mapping:?} {owner:?}");
        }
    }
}
