//! Permissions of images and snapshots: what a request says of who is to have them, in either of EC2's two forms, and
//! how they are shown. Both are accounts and the group `all`.

use cumulet_backend::api::snapshots::{Grantees, Sharing};

use crate::fault::Fault;

/// A permission of a request: a user's or a group's.
pub(crate) type Permission<'a> = (&'a Option<String>, &'a Option<String>);

/// The form of before: an operation on lists.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flat<'a> {
    /// `add` or `remove`.
    pub(crate) operation: Option<&'a str>,
    pub(crate) users: &'a [String],
    pub(crate) groups: &'a [String],
}

/// The change that a request asks for, by the permissions to be added and to be removed, and by the form of before.
///
/// # Errors
/// What is missing, or is no permission.
pub(crate) fn asked<'a>(
    add: impl Iterator<Item = Permission<'a>>,
    remove: impl Iterator<Item = Permission<'a>>,
    flat: Flat<'_>,
) -> Result<Sharing, Fault> {
    let mut change = Sharing::default();
    grantees(&mut change.add, add)?;
    grantees(&mut change.remove, remove)?;
    if let Some(operation) = flat.operation
        && flat.users.is_empty()
        && flat.groups.is_empty()
    {
        return repeated(operation, change);
    }
    let into = match flat.operation {
        Some("add") => &mut change.add,
        Some("remove") => &mut change.remove,
        None if flat.users.is_empty() && flat.groups.is_empty() => return Ok(change),
        None => return Err(Fault::missing("OperationType")),
        Some(other) => return Err(Fault::invalid("OperationType", other, "expecting add or remove")),
    };
    for user in flat.users {
        add_user(into, user)?;
    }
    for group in flat.groups {
        add_group(into, group)?;
    }
    Ok(change)
}

/// An operation without lists: it may say once more what the other form says, and nothing else.
fn repeated(operation: &str, change: Sharing) -> Result<Sharing, Fault> {
    let (said, other) = match operation {
        "add" => (&change.add, &change.remove),
        "remove" => (&change.remove, &change.add),
        unknown => {
            return Err(Fault::invalid(
                "OperationType",
                unknown,
                "expecting add or remove",
            ));
        }
    };
    if *other != Grantees::default() {
        return Err(Fault::combination(
            "The OperationType is another one than that of the permissions",
        ));
    }
    if *said == Grantees::default() {
        return Err(Fault::missing("UserId"));
    }
    Ok(change)
}

fn grantees<'a>(into: &mut Grantees, given: impl Iterator<Item = Permission<'a>>) -> Result<(), Fault> {
    for each in given {
        match each {
            (Some(user), None) => add_user(into, user)?,
            (None, Some(group)) => add_group(into, group)?,
            (Some(_), Some(_)) => return Err(Fault::combination("A permission is a user's or a group's")),
            (None, None) => return Err(Fault::missing("UserId")),
        }
    }
    Ok(())
}

fn add_user(into: &mut Grantees, user: &str) -> Result<(), Fault> {
    let account = user.parse();
    let account =
        account.map_err(|_| Fault::invalid("UserId", user, "expecting the 12 digits of an account"))?;
    into.accounts.insert(account);
    Ok(())
}

fn add_group(into: &mut Grantees, group: &str) -> Result<(), Fault> {
    if group != "all" {
        return Err(Fault::invalid("UserGroup", group, "expecting all"));
    }
    into.all = true;
    Ok(())
}

/// The permissions that there are, each made of its user or its group.
pub(crate) fn shown<T>(found: &Grantees, of: impl Fn(Option<String>, Option<String>) -> T) -> Vec<T> {
    let all = found.all.then(|| of(None, Some("all".into())));
    let accounts = found.accounts.iter();
    let accounts = accounts.map(|account| of(Some(account.to_string()), None));
    all.into_iter().chain(accounts).collect()
}
