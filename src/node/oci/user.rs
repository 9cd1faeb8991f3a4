//! Who a container runs as: `uid`, `uid:gid`, `name`, `name:group` against the image's own files.
//!
//! Never reads a file: the text of `/etc/passwd` and `/etc/group` is passed in.

use thiserror::Error;

/// Numbers that a process runs with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// Home directory, where the image has one for the user.
    pub home: Option<String>,
}

/// A user that can't be resolved.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum UserError {
    /// A user name that the image doesn't have.
    #[error("user {0:?} isn't in the image's /etc/passwd; use a number or one of its names")]
    UnknownUser(String),
    /// A group name that the image doesn't have.
    #[error("group {0:?} isn't in the image's /etc/group; use a number or one of its names")]
    UnknownGroup(String),
}

struct PasswdLine<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct GroupLine<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn passwd_lines(text: &str) -> impl Iterator<Item = PasswdLine<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).unwrap_or_default();
        Some(PasswdLine { name, uid, gid, home })
    })
}

fn group_lines(text: &str) -> impl Iterator<Item = GroupLine<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some(GroupLine { name, gid, members: fields.next().unwrap_or_default() })
    })
}

/// Resolves a user as written in the file or the image; empty means root.
///
/// A number needs no entry. Without a group, the user's own and all that list it are taken; with
/// one, only that.
///
/// # Errors
/// A name that the image's files don't have.
pub fn resolve_user(user: &str, passwd: &str, group: &str) -> Result<Account, UserError> {
    let (who, group_part) = match user.split_once(':') {
        Some((who, group)) => (who, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let who = if who.is_empty() { "0" } else { who };
    let number = who.parse::<u32>().ok();
    let entry = passwd_lines(passwd)
        .find(|line| line.name == who || number.is_some_and(|uid| line.uid == uid));
    if entry.is_none() && number.is_none() {
        return Err(UserError::UnknownUser(who.to_owned()));
    }
    let uid = entry.as_ref().map(|line| line.uid).or(number).unwrap_or_default();
    let home = entry.as_ref().map(|line| line.home.to_owned()).filter(|home| !home.is_empty());
    if let Some(name) = group_part {
        let gid = named_group(name, group)?;
        return Ok(Account { uid, gid, groups: Vec::new(), home });
    }
    let gid = entry.as_ref().map_or(0, |line| line.gid);
    let name = entry.as_ref().map(|line| line.name);
    let mut groups: Vec<u32> = group_lines(group)
        .filter(|line| name.is_some_and(|n| line.members.split(',').any(|m| m.trim() == n)))
        .map(|line| line.gid)
        .filter(|other| *other != gid)
        .collect();
    groups.sort_unstable();
    groups.dedup();
    Ok(Account { uid, gid, groups, home })
}

fn named_group(name: &str, group: &str) -> Result<u32, UserError> {
    let number = name.parse::<u32>().ok();
    group_lines(group)
        .find(|line| line.name == name)
        .map(|line| line.gid)
        .or(number)
        .ok_or_else(|| UserError::UnknownGroup(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use yare::parameterized;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/var/www:/bin/false\nbad\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\nssl:x:90:web,other\nlog:x:91:web\nstaff:x:50:\n";

    fn account(uid: u32, gid: u32, groups: &[u32], home: Option<&str>) -> Account {
        Account { uid, gid, groups: groups.to_vec(), home: home.map(str::to_owned) }
    }

    #[parameterized(
        empty = { "", account(0, 0, &[], Some("/root")) },
        name = { "web", account(33, 34, &[90, 91], Some("/var/www")) },
        number_with_entry = { "33", account(33, 34, &[90, 91], Some("/var/www")) },
        number_without_entry = { "1000", account(1000, 0, &[], None) },
        both_numbers = { "1000:1001", account(1000, 1001, &[], None) },
        name_and_group = { "web:staff", account(33, 50, &[], Some("/var/www")) },
        group_alone = { ":staff", account(0, 50, &[], Some("/root")) },
        open_end = { "web:", account(33, 34, &[90, 91], Some("/var/www")) },
    )]
    fn users_are_resolved(user: &str, want: Account) {
        assert_eq!(resolve_user(user, PASSWD, GROUP), Ok(want));
    }

    #[test]
    fn unknown_names_are_told() {
        assert_eq!(resolve_user("who", PASSWD, GROUP), Err(UserError::UnknownUser("who".into())));
        let group = resolve_user("web:who", PASSWD, GROUP);
        assert_eq!(group, Err(UserError::UnknownGroup("who".into())));
    }
}
