//! Subordinate users and groups of an ordinary user: what subuid(5) and subgid(5) reserve, and the files that have their numbers.
//! The user alone can neither remove such files nor give them back; newuidmap(1) lets a process of this user's be their root.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use super::image::Account;
use super::sys;
use super::user_namespace::{PATH, Reserved, find, made_by_tools};
use super::users::{COUNT, Mapping};

/// An ordinary user who runs the engine, with that one's subordinate users and groups. The first range of each that is large enough
/// is the containers'. Files may have numbers of any.
#[derive(Debug, Clone)]
pub(super) struct Subordinates {
    name: String,
    root: Account,
    first: Account,
    users: Vec<Reserved>,
    groups: Vec<Reserved>,
}

impl Subordinates {
    /// Those of this user, where files of others are theirs; `None` is root, who needs nobody for them.
    ///
    /// # Errors
    /// There are none: why, and the command that changes it.
    pub(super) fn of_files() -> Result<Option<Self>, (String, String)> {
        if nix::unistd::geteuid().is_root() { Ok(None) } else { Self::find().map(Some) }
    }

    /// Those of this user.
    ///
    /// # Errors
    /// There are none: why, and the command that changes it.
    pub(super) fn find() -> Result<Self, (String, String)> {
        if !can_be_mapped() {
            return Err(("there is no newuidmap".into(), "sudo apt-get install uidmap".into()));
        }
        let root = Account { user: nix::unistd::geteuid().as_raw(), group: nix::unistd::getegid().as_raw() };
        let name = name_of_user(root.user);
        let ranges = |file: &str, own: u32| {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let found = mappable(&ranges_of(&text, |owner| owner == name || owner.parse() == Ok(root.user)), own);
            if let Some(first) = found.first().filter(|first| first.count >= COUNT - 1) {
                return Ok((first.first, found));
            }
            let why = format!("{file} reserves no {} numbers for {name}", COUNT - 1);
            Err((why, reserve(&["subuids", "subgids"], unreserved(), &name)))
        };
        let ((user, users), (group, groups)) = (ranges(SUBUID, root.user)?, ranges(SUBGID, root.group)?);
        Ok(Self { name, root, first: Account { user, group }, users, groups })
    }

    /// How containers are mapped.
    pub(super) fn mapping(&self) -> Mapping {
        Mapping::Delegated { root: self.root, first: self.first }
    }

    /// Whether files of an account can be removed, and given to others.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn have(&self, account: Account) -> Result<(), String> {
        let has = |ranges: &[Reserved], own: u32, number: u32| {
            number == own
                || ranges.iter().any(|range| number.checked_sub(range.first).is_some_and(|at| at < range.count))
        };
        let name = &self.name;
        if !has(&self.users, self.root.user, account.user) {
            return Err(format!("user {}, whom {SUBUID} does not reserve for {name}", account.user));
        }
        if !has(&self.groups, self.root.group, account.group) {
            return Err(format!("group {}, which {SUBGID} does not reserve for {name}", account.group));
        }
        Ok(())
    }

    /// Whether an account has numbers in their containers.
    pub(super) fn are_inside(&self, account: Account) -> bool {
        let is = |first: u32, own: u32, number: u32| number == own || (first..first + (COUNT - 1)).contains(&number);
        is(self.first.user, self.root.user, account.user) && is(self.first.group, self.root.group, account.group)
    }

    /// The user namespace in which all of them have numbers: those of containers have the same in it.
    fn namespace(&self) -> io::Result<File> {
        made_by_tools((self.root.user, &self.users), (self.root.group, &self.groups))
    }
}

/// Whether there are the tools that map them.
pub(super) fn can_be_mapped() -> bool {
    find("newuidmap").is_some() && find("newgidmap").is_some()
}

/// See subuid(5).
const SUBUID: &str = "/etc/subuid";
/// See subgid(5).
const SUBGID: &str = "/etc/subgid";

/// The command that reserves as many numbers as a container has, in files as usermod(8) names them.
fn reserve(files: &[&str], first: u32, user: &str) -> String {
    let last = first.saturating_add(COUNT - 1);
    let options: Vec<String> = files.iter().map(|file| format!("--add-{file} {first}-{last}")).collect();
    format!("sudo usermod {} {user}", options.join(" "))
}

/// The command that reserves the numbers of a mapping again.
pub(super) fn reserve_again(mapping: Mapping) -> Option<String> {
    let Mapping::Delegated { root, first } = mapping else { return None };
    let user = name_of_user(root.user);
    Some(format!("{} && {}", reserve(&["subuids"], first.user, &user), reserve(&["subgids"], first.group, &user)))
}

/// A user's name, or number where there is none. Other sources than the file are asked by a program of the host's: the code for it is
/// none that a static executable can load.
fn name_of_user(user: u32) -> String {
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let asked = || {
        let output = Command::new("id").args(["-un", &user.to_string()]).env_clear().env("PATH", PATH).output().ok()?;
        let name = String::from_utf8(output.stdout).ok()?;
        Some(name.trim().to_owned()).filter(|name| output.status.success() && !name.is_empty())
    };
    name_of(&accounts, user).map(str::to_owned).or_else(asked).unwrap_or_else(|| user.to_string())
}

/// The same, of a file's text (passwd(5)).
fn name_of(text: &str, user: u32) -> Option<&str> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(user)).then_some(name)
    })
}

/// The first number of a range that is nobody's yet, beyond what login.defs(5) hands out.
fn unreserved() -> u32 {
    let all = [SUBUID, SUBGID].map(|file| std::fs::read_to_string(file).unwrap_or_default());
    let all: Vec<Reserved> = all.iter().flat_map(|text| ranges_of(text, |_| true)).collect();
    let mut candidates = (0..).map(|number| 1_000_000_000 + number * COUNT);
    let is_free = |first: &u32| !all.iter().any(|range| range.meets(Reserved { first: *first, count: COUNT }));
    candidates.find(is_free).unwrap_or(1_000_000_000)
}

/// Ranges in a file as subuid(5) describes it, of those whom `is_theirs` accepts: a line begins with a name, or a number.
fn ranges_of(text: &str, is_theirs: impl Fn(&str) -> bool) -> Vec<Reserved> {
    let range = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let (first, count): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (is_theirs(owner) && count > 0 && first.checked_add(count).is_some()).then_some(Reserved { first, count })
    };
    text.lines().filter_map(range).collect()
}

/// What can be mapped beside each other and one more number: the first range that is large enough for containers is the first.
fn mappable(ranges: &[Reserved], own: u32) -> Vec<Reserved> {
    let mut apart: Vec<Reserved> = Vec::new();
    let without =
        |ranges: Vec<Reserved>, other: Reserved| ranges.into_iter().flat_map(|range| range.without(other)).collect();
    let own = Reserved { first: own, count: 1 };
    let large = ranges.iter().position(|range| range.without(own).iter().any(|part| part.count >= COUNT - 1));
    let order = large.into_iter().chain((0..ranges.len()).filter(|index| Some(*index) != large));
    for range in order.map(|index| ranges[index]) {
        let mut parts = apart.iter().fold(vec![range], |parts, other| without(parts, *other));
        parts = without(parts, own);
        // The part that is large enough.
        parts.sort_by_key(|part| std::cmp::Reverse(part.count >= COUNT - 1));
        apart.extend(parts);
    }
    apart
}

/// Removes files and folders with what belongs to this user's subordinate ones.
///
/// # Errors
/// There are none, or something stays.
pub(super) fn remove(paths: &[&Path]) -> io::Result<()> {
    as_root(&["rm", "-rf", "--"], paths, |why, remedy| {
        // Another range than the one that it was would not help.
        let remedy = if remedy.is_empty() || can_be_mapped() { String::new() } else { format!(": {remedy}") };
        format!("this user may not remove all of it, and as its subordinate users: {why}{remedy}")
    })
}

/// Gives a folder with all that is in it to an account of a container.
///
/// # Errors
/// There are no subordinate users, or something cannot be given.
pub(super) fn give(path: &Path, mapping: Mapping, account: Account) -> io::Result<()> {
    // Root gives by the numbers on the disk; others in a user namespace, of which they are the root.
    let numbers = match mapping {
        _ if nix::unistd::geteuid().is_root() => mapping.on_disk(account),
        Mapping::One(_) => Account { user: 0, group: 0 },
        _ => account,
    };
    as_root(&["chown", "-RhP", &format!("{}:{}", numbers.user, numbers.group), "--"], &[path], |why, remedy| {
        let remedy = if remedy.is_empty() { String::new() } else { format!(": {remedy}") };
        format!("give {} to user {} of the container: {why}{remedy}", path.display(), account.user)
    })
}

/// Runs a program of the host's on paths: for an ordinary user as the root of that one's subordinates, who may do with their files
/// what it wants, and with others what this user may. `failure` makes an error's text of why and a remedy.
fn as_root(program: &[&str], paths: &[&Path], failure: impl Fn(&str, &str) -> String) -> io::Result<()> {
    let failed = |why: &str, remedy: &str| io::Error::new(io::ErrorKind::PermissionDenied, failure(why, remedy));
    let [program, arguments @ ..] = program else { return Ok(()) };
    let mut command = Command::new(program);
    command.args(arguments).args(paths).env_clear().env("PATH", PATH).stdin(Stdio::null());
    let subordinates = Subordinates::of_files().map_err(|(why, remedy)| failed(&why, &remedy))?;
    if let Some(subordinates) = subordinates {
        command = sys::in_user_namespace(command, subordinates.namespace()?);
    }
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    // One for each file.
    Err(failed(why.lines().next().unwrap_or_default(), ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_ranges_are_found_by_name_and_by_number() {
        let text = "# none\nother:100000:65536\nagent:1:10\n1000:300000:65535\nagent:200000:65536:\n\nbroken:x:65536\nagent:9:0\n\
                    agent:4294967295:9\n";
        let found = |name: &str, user: u32| -> Vec<(u32, u32)> {
            let theirs = |owner: &str| owner == name || owner.parse() == Ok(user);
            ranges_of(text, theirs).iter().map(|range| (range.first, range.count)).collect()
        };
        assert_eq!(found("agent", 7), [(1, 10), (200_000, 65_536)]);
        assert_eq!(found("agent", 1000), [(1, 10), (300_000, 65_535), (200_000, 65_536)]);
        assert_eq!(found("nobody", 1000), [(300_000, 65_535)]);
        assert_eq!(found("7", 7), []);
        assert_eq!(found("broken", 7), []);
        let accounts = "root:x:0:0::/root:/bin/sh\n+::::::\nagent:x:1000:1:,,,:/home/agent:\n";
        assert_eq!((name_of(accounts, 1000), name_of(accounts, 1)), (Some("agent"), None));
    }

    #[test]
    fn ranges_that_meet_are_mapped_once() {
        let range = |first, count| Reserved { first, count };
        let (small, large) = (range(10, 5), range(100_000, 65_536));
        for (ranges, own, mapped) in [
            (vec![small, large, large, range(100_100, 1)], 7, vec![large, small]),
            // What the ones before leave of it.
            (vec![large, range(99_990, 20)], 7, vec![large, range(99_990, 10)]),
            (vec![large, range(165_530, 10)], 7, vec![large, range(165_536, 4)]),
            (vec![large, range(99_990, 70_000)], 7, vec![large, range(99_990, 10), range(165_536, 4454)]),
            // The user's own number is mapped already.
            (vec![large, range(7, 1)], 7, vec![large]),
            (
                vec![range(60_000, 70_000), small, large],
                64_777,
                vec![large, range(60_000, 4777), range(64_778, 35_222), small],
            ),
            (vec![range(60_000, 70_000)], 60_001, vec![range(60_002, 69_998), range(60_000, 1)]),
        ] {
            assert_eq!(mappable(&ranges, own), mapped, "{ranges:?} {own}");
        }
    }

    #[test]
    fn files_are_a_users_where_both_files_reserve_their_numbers() {
        let account = |user, group| Account { user, group };
        let range = |first, count| Reserved { first, count };
        let theirs = Subordinates {
            name: "agent".to_owned(),
            root: account(1000, 1000),
            first: account(200_000, 300_000),
            users: vec![range(200_000, 65_536), range(5000, 10)],
            groups: vec![range(300_000, 65_536)],
        };
        for (account, inside, have) in [
            (account(1000, 1000), true, None),
            (account(200_999, 300_999), true, None),
            (account(5009, 300_000), false, None),
            (account(5010, 300_000), false, Some("/etc/subuid")),
            (account(265_535, 300_000), false, None),
            (account(200_000, 299_999), false, Some("/etc/subgid")),
            (account(0, 0), false, Some("/etc/subuid")),
        ] {
            assert_eq!(theirs.are_inside(account), inside, "{account:?}");
            let why = theirs.have(account).err();
            assert_eq!(why.is_some(), have.is_some(), "{account:?}");
            assert!(why.is_none_or(|why| why.contains(have.unwrap_or_default())));
        }
    }
}
