//! The user that an agent runs as: numbers and a home, from the image's `/etc/passwd` and `/etc/group`.

use crate::layout::agent::DEFAULT_HOME;

/// The numeric ids of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(in crate::primitive) struct Account {
    /// The user id.
    pub(in crate::primitive) user: u32,
    /// The group id.
    pub(in crate::primitive) group: u32,
}

/// Folders that are not a home (hier(7)), although images name some of them for users without a home.
const SYSTEM: [&str; 18] = [
    "bin",
    "boot",
    "dev",
    "etc",
    "lib",
    "lib32",
    "lib64",
    "media",
    "nonexistent",
    "proc",
    "run",
    "sbin",
    "sys",
    "tmp",
    "usr",
    "workspace",
    "bottler",
    "empty",
];

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.user, self.group)
    }
}

impl Account {
    /// Parses `uid:gid`, or one number for both; `None` if it is a name.
    pub(in crate::primitive) fn numbers(text: &str) -> Option<Self> {
        let (user, group) = text.split_once(':').unwrap_or((text, text));
        Some(Self { user: user.parse().ok()?, group: group.parse().ok()? })
    }

    /// Looks up an account in the two files (passwd(5), group(5)).
    pub(in crate::primitive) fn find(text: &str, passwd: &str, groups: &str) -> Result<Self, String> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let lines = || passwd.lines().filter_map(|line| Some((fields(line)?, line)));
        let number: Option<u32> = user.parse().ok();
        let entry = lines().find(|((name, id), _)| number.map_or(*name == user, |number| *id == number));
        let primary = entry.and_then(|(_, line)| line.split(':').nth(3)?.parse().ok());
        let id = number.or(entry.map(|((_, id), _)| id));
        let user_id = id.ok_or_else(|| format!("the image has no user {user:?}"))?;
        let group = match group {
            None => primary.unwrap_or(user_id),
            Some(group) => {
                let found = groups.lines().filter_map(fields).find(|(name, _)| *name == group).map(|(_, id)| id);
                let id = group.parse().ok().or(found);
                id.ok_or_else(|| format!("the image has no group {group:?}"))?
            }
        };
        Ok(Self { user: user_id, group })
    }

    /// Its home: from the image's `HOME` variable, else from `/etc/passwd`, else bottler's default. Unsuitable
    /// folders are skipped.
    pub(in crate::primitive) fn home(self, variable: Option<&str>, passwd: &str) -> String {
        let line = passwd.lines().find(|line| fields(line).is_some_and(|(_, id)| id == self.user));
        let known = line.and_then(|line| line.split(':').nth(5));
        let said = [variable, known].into_iter().flatten().find(|home| self.may_live_in(home));
        said.unwrap_or(DEFAULT_HOME).to_owned()
    }

    /// Whether a folder is suitable as a home: it belongs neither to the system nor to bottler.
    fn may_live_in(self, home: &str) -> bool {
        let mut parts = home.strip_prefix('/').unwrap_or_default().split('/');
        let plain = parts.clone().all(|part| !matches!(part, "" | "." | ".."));
        let taken = match parts.next() {
            Some("root") => self.user != 0,
            // A subfolder of these is suitable.
            Some("var" | "opt" | "srv" | "mnt" | "home") => parts.next().is_none() || home.starts_with("/var/run"),
            Some(first) => SYSTEM.contains(&first),
            None => true,
        };
        plain && !taken
    }

    /// Returns both files with an added line for this account, unless they have one.
    pub(in crate::primitive) fn in_files(self, passwd: &str, groups: &str) -> (String, String) {
        let Self { user, group } = self;
        let add = |text: &str, id: u32, rest: &str| {
            let known: Vec<(&str, u32)> = text.lines().filter_map(fields).collect();
            if known.iter().any(|(_, other)| *other == id) {
                return text.to_owned();
            }
            let name = if known.iter().any(|(name, _)| *name == "agent") { "bottler-agent" } else { "agent" };
            let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
            format!("{text}{end}{name}:x:{id}:{rest}\n")
        };
        let rest = format!("{group}:agent:{DEFAULT_HOME}:/bin/sh");
        (add(passwd, user, &rest), add(groups, group, ""))
    }
}

/// The name and the id in a line of either file.
fn fields(line: &str) -> Option<(&str, u32)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    Some((name, fields.nth(1)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1001::/home/node:/bin/sh";
    const GROUPS: &str = "root:x:0:\nnode:x:1001:\n";

    #[test]
    fn users_are_numbers_or_names_that_the_image_knows() {
        for (text, user, group) in
            [("1000:1000", 1000, 1000), ("node", 1000, 1001), ("1000", 1000, 1001), ("7", 7, 7), ("node:root", 1000, 0)]
        {
            assert_eq!(Account::find(text, PASSWD, GROUPS), Ok(Account { user, group }), "{text}");
        }
        assert!(Account::find("nobody", PASSWD, GROUPS).unwrap_err().contains("no user"));
        assert!(Account::find("node:x", PASSWD, GROUPS).unwrap_err().contains("no group"));
    }

    #[test]
    fn a_home_is_what_the_image_says_where_that_can_be_one() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\ndev:x:1000:1000::/home/dev:/bin/sh\nwww:x:33:33::/usr/sbin:/x\npg:x:70:70::/var/lib/postgresql:/x\nno:x:65534:65534::/nonexistent:/x\n";
        for (user, variable, home) in [
            (1000, None, "/home/dev"),
            (1000, Some("/home/jovyan"), "/home/jovyan"),
            (1000, Some("/root"), "/home/dev"),
            (1000, Some("/home/dev/../other"), "/home/dev"),
            (1000, Some("relative"), "/home/dev"),
            (0, None, "/root"),
            (33, None, DEFAULT_HOME),
            (70, None, "/var/lib/postgresql"),
            (65534, None, DEFAULT_HOME),
            (4711, None, DEFAULT_HOME),
            (4711, Some("/"), DEFAULT_HOME),
            (4711, Some("/tmp"), DEFAULT_HOME),
            (4711, Some("/app"), "/app"),
        ] {
            assert_eq!(Account { user, group: user }.home(variable, passwd), home, "{user} {variable:?}");
        }
    }

    #[test]
    fn a_line_is_added_only_where_there_is_none() {
        let node = Account { user: 1000, group: 1001 };
        assert_eq!(node.in_files(PASSWD, GROUPS), (PASSWD.to_owned(), GROUPS.to_owned()));
        let (passwd, groups) = Account { user: 4711, group: 4712 }.in_files(PASSWD, GROUPS);
        assert!(passwd.ends_with("/bin/sh\nagent:x:4711:4712:agent:/home/agent:/bin/sh\n"), "{passwd}");
        assert!(groups.ends_with("\nagent:x:4712:\n"), "{groups}");
    }
}
