//! The roles of a process: `cumulet up --role …`. All of them in one process is a cloud on one host; in a
//! cluster each process takes some, and they meet in the database and on the bus.

use std::{collections::BTreeSet, fmt, str::FromStr};

use anyhow::{Result, bail};

/// One part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// The API's door: opens the database.
    Gateway,
    /// Finds hosts for instances: opens the database.
    Scheduler,
    /// Drives instances, hears what hosts report: opens the database.
    Conductor,
    /// Runs instances on this host; knows the bus alone.
    Compute,
    /// Serves this host's guests their metadata; knows the compute process of its host alone.
    Metadata,
    /// The door to instances' consoles; knows the cloud's public key and the hosts that tokens name.
    Console,
}

impl Role {
    /// Every role, in the order in which a cloud starts.
    pub(crate) const ALL: [Role; 6] = [
        Role::Gateway,
        Role::Scheduler,
        Role::Conductor,
        Role::Compute,
        Role::Metadata,
        Role::Console,
    ];

    /// The name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Role::Gateway => "gateway",
            Role::Scheduler => "scheduler",
            Role::Conductor => "conductor",
            Role::Compute => "compute",
            Role::Metadata => "metadata",
            Role::Console => "console",
        }
    }

    /// Whether it opens the database.
    pub(crate) const fn controls(self) -> bool {
        matches!(self, Role::Gateway | Role::Scheduler | Role::Conductor)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The roles of one process: at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Roles(BTreeSet<Role>);

impl Roles {
    /// Whether this process has the role.
    pub(crate) fn has(&self, role: Role) -> bool {
        self.0.contains(&role)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Role> {
        self.0.iter().copied()
    }

    /// Whether this process opens the database.
    pub(crate) fn control(&self) -> bool {
        self.iter().any(Role::controls)
    }

    /// Whether everything is in this process, so that neither a broker nor a database server is needed.
    pub(crate) fn all(&self) -> bool {
        Role::ALL.into_iter().all(|role| self.has(role))
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, role) in self.iter().enumerate() {
            write!(f, "{}{role}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl FromStr for Roles {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "all" {
            return Ok(Roles(Role::ALL.into()));
        }
        let mut roles = BTreeSet::new();
        for name in text.split(',').map(str::trim) {
            let Some(role) = Role::ALL.into_iter().find(|role| role.name() == name) else {
                let known: Vec<_> = Role::ALL.iter().map(|role| role.name()).collect();
                bail!(
                    "{name:?} is not a role; expecting all, or some of {}",
                    known.join(", ")
                );
            };
            roles.insert(role);
        }
        Ok(Roles(roles))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_and_printed() {
        for (text, printed) in [
            ("all", "gateway,scheduler,conductor,compute,metadata,console"),
            ("conductor, gateway", "gateway,conductor"),
            ("compute", "compute"),
        ] {
            assert_eq!(text.parse::<Roles>().unwrap().to_string(), printed);
        }
        for wrong in ["", "compute,", "gatway", "All"] {
            let error = wrong.parse::<Roles>().unwrap_err().to_string();
            assert!(error.contains("expecting all, or some of gateway"), "{error}");
        }
    }
}
