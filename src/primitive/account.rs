//! Whom an agent runs as: numbers, by what its image's `/etc/passwd` and `/etc/group` say.

use crate::plan::DEFAULT_HOME;

/// The numbers of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Account {
    /// The user's.
    pub(super) user: u32,
    /// The group's.
    pub(super) group: u32,
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.user, self.group)
    }
}

impl Account {
    /// Two numbers with a colon, or one for both; `None` where it is a name.
    pub(super) fn numbers(text: &str) -> Option<Self> {
        let (user, group) = text.split_once(':').unwrap_or((text, text));
        Some(Self { user: user.parse().ok()?, group: group.parse().ok()? })
    }

    /// The account that is meant, by these files (passwd(5), group(5)).
    pub(super) fn find(text: &str, passwd: &str, groups: &str) -> Result<Self, String> {
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

    /// The two files with a line for this account, where they have none.
    pub(super) fn in_files(self, passwd: &str, groups: &str) -> (String, String) {
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

/// The name and the number of a line of either file.
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
    fn a_line_is_added_only_where_there_is_none() {
        let node = Account { user: 1000, group: 1001 };
        assert_eq!(node.in_files(PASSWD, GROUPS), (PASSWD.to_owned(), GROUPS.to_owned()));
        let (passwd, groups) = Account { user: 4711, group: 4712 }.in_files(PASSWD, GROUPS);
        assert!(passwd.ends_with("/bin/sh\nagent:x:4711:4712:agent:/home/agent:/bin/sh\n"), "{passwd}");
        assert!(groups.ends_with("\nagent:x:4712:\n"), "{groups}");
    }
}
