//! The authoriser under every door: whether a principal may do something. Roles for now; resources are
//! guarded by the scope of every load, which is the principal's account.

use cumulet_domain::{
    Error, Result,
    account::{Principal, Role},
};

/// Lets `who` perform `action`, or says that it is not allowed. `write` marks what changes anything.
///
/// # Errors
/// `Unauthorized`, naming the action.
pub fn authorise(who: &Principal, action: &str, write: bool) -> Result<()> {
    match who.role {
        Role::Administrator => Ok(()),
        Role::ReadOnly if !write => Ok(()),
        Role::ReadOnly => Err(Error::Unauthorized {
            action: action.into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use cumulet_domain::account::AccountId;

    use super::*;

    #[test]
    fn readers_read_and_administrators_do_all() {
        let who = |role| Principal {
            account: AccountId(123_456_789_012),
            user_id: "AIDAX".into(),
            user_name: "x".into(),
            access_key_id: "AKIAX".into(),
            role,
        };
        for (role, write, allowed) in [
            (Role::Administrator, true, true),
            (Role::Administrator, false, true),
            (Role::ReadOnly, false, true),
            (Role::ReadOnly, true, false),
        ] {
            let answer = authorise(&who(role), "RunInstances", write);
            assert_eq!(answer.is_ok(), allowed, "{role:?} {write}");
        }
    }
}
