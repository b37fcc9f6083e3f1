//! The authoriser under every door. A call asks it once, for its permission, and gets a grant; every load of rows
//! takes the grant ([`crate::resource`]): what is loaded is in its scope, and a row that the call is about is
//! shown to the principal's policy before the operation has it. So a policy may look at a row and its tags, and no
//! operation knows.

mod permission;

use std::{fmt, sync::Arc};

use cumulet_domain::{
    Error, ResourceKind, Result,
    account::{AccountId, Principal, Role},
    id::Digits,
    tag::Tag,
    time::Timestamp,
};

pub use permission::Permission;

/// A row that a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Object<'a> {
    pub kind: ResourceKind,
    pub digits: Digits,
    pub owner: AccountId,
    /// Empty where the policy does not want them.
    pub tags: &'a [Tag],
}

/// What a principal's policy says of rows. It has what it needs to know of the principal.
pub trait Policy: fmt::Debug + Send + Sync {
    /// Whether it goes by tags; they are read for those that do.
    fn wants_tags(&self) -> bool;

    /// Whether the principal may use the permission on the object.
    fn allows(&self, permission: Permission, object: &Object<'_>) -> bool;
}

/// Who says what principals may do.
pub trait Authoriser: fmt::Debug + Send + Sync {
    /// What there is to say of rows where the principal has the permission; `None` where it has it on all that is in
    /// its account's sight.
    ///
    /// # Errors
    /// `Unauthorized` where the principal has it on nothing.
    fn policy(&self, who: &Principal, permission: Permission) -> Result<Option<Arc<dyn Policy>>>;
}

/// Roles: an administrator does all, a reader reads, whichever row it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Roles;

impl Authoriser for Roles {
    fn policy(&self, who: &Principal, permission: Permission) -> Result<Option<Arc<dyn Policy>>> {
        match who.role {
            Role::Administrator => Ok(None),
            Role::ReadOnly if !permission.writes() => Ok(None),
            Role::ReadOnly => Err(permission.refused()),
        }
    }
}

/// What an account's principals see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visibility {
    /// Whose rows.
    pub account: AccountId,
    /// Of what has ended, what ended after this.
    pub ended_after: Timestamp,
    /// What others let everybody see is in sight too.
    pub public: bool,
}

impl Visibility {
    /// Whether what ended then has gone out of sight since it was read.
    #[inline]
    pub fn has_lost(self, ended: Option<i64>) -> bool {
        ended.is_some_and(|ended| ended <= self.ended_after.0)
    }
}

/// On whose authority rows are loaded: a [`Grant`], or the [`Operator`]'s.
pub trait Authority: Send + Sync {
    /// What is in sight; `None`: everything.
    fn sight(&self) -> Option<Visibility>;

    /// Whom each row has to be shown to.
    fn policy(&self) -> Option<&dyn Policy>;

    /// For what.
    fn permission(&self) -> Permission;
}

/// A principal's permission for one call.
#[derive(Clone, Debug)]
pub struct Grant {
    permission: Permission,
    visibility: Visibility,
    policy: Option<Arc<dyn Policy>>,
}

impl Grant {
    /// Asks the authoriser.
    ///
    /// # Errors
    /// `Unauthorized`, naming the permission.
    pub fn ask(
        authoriser: &dyn Authoriser,
        who: &Principal,
        permission: Permission,
        ended_after: Timestamp,
    ) -> Result<Grant> {
        let policy = authoriser.policy(who, permission)?;
        let visibility = Visibility {
            account: who.account,
            ended_after,
            public: true,
        };
        Ok(Grant {
            permission,
            visibility,
            policy,
        })
    }

    /// Whose.
    pub fn account(&self) -> AccountId {
        self.visibility.account
    }

    /// What is in sight.
    pub fn visibility(&self) -> Visibility {
        self.visibility
    }

    /// The same for what is the account's own.
    #[must_use]
    pub fn own(mut self) -> Self {
        self.visibility.public = false;
        self
    }

    /// The same for what has not ended.
    #[must_use]
    pub fn present(mut self) -> Self {
        self.visibility.ended_after = Timestamp(i64::MAX);
        self
    }
}

impl Authority for Grant {
    fn sight(&self) -> Option<Visibility> {
        Some(self.visibility)
    }

    fn policy(&self) -> Option<&dyn Policy> {
        self.policy.as_deref()
    }

    fn permission(&self) -> Permission {
        self.permission
    }
}

/// The operator's own authority, for what `cumulet` does on the command line: no principal is asked, and every
/// account's rows are in sight.
#[derive(Clone, Copy, Debug, Default)]
pub struct Operator;

impl Authority for Operator {
    fn sight(&self) -> Option<Visibility> {
        None
    }

    fn policy(&self) -> Option<&dyn Policy> {
        None
    }

    fn permission(&self) -> Permission {
        Permission::OPERATE
    }
}

impl Permission {
    /// The error of whom it is refused to.
    pub fn refused(self) -> Error {
        Error::Unauthorized {
            action: self.name().into(),
        }
    }
}

#[cfg(test)]
mod tests {
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
        for (role, permission, allowed) in [
            (Role::Administrator, Permission::RUN_INSTANCES, true),
            (Role::Administrator, Permission::DESCRIBE_INSTANCES, true),
            (Role::ReadOnly, Permission::DESCRIBE_INSTANCES, true),
            (Role::ReadOnly, Permission::RUN_INSTANCES, false),
        ] {
            let answer = Grant::ask(&Roles, &who(role), permission, Timestamp(0));
            match answer {
                Ok(grant) => assert!(allowed && grant.policy().is_none(), "{role:?} {permission:?}"),
                Err(error) => assert!(!allowed && error == permission.refused(), "{error}"),
            }
        }
    }

    #[test]
    fn permissions_are_named_once() {
        let mut names: Vec<&str> = Permission::ALL
            .iter()
            .map(|permission| permission.name())
            .collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
