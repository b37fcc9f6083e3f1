//! The settings that roles can't do without in a process of their own.

use anyhow::{Result, ensure};

use crate::{
    config::Config,
    roles::{Role, Roles},
};

/// Whether what these roles need is configured.
///
/// # Errors
/// Names the key that is missing.
pub(super) fn check(roles: &Roles, config: &Config) -> Result<()> {
    // These speak to compute processes and to nobody else.
    let alone = roles
        .iter()
        .all(|role| matches!(role, Role::Metadata | Role::Console));
    ensure!(
        roles.all() || alone || !config.bus.text().is_empty(),
        "roles {roles} in a process of their own need a broker: set `bus` to an amqp:// or amqps:// URL"
    );
    let control = Role::ALL.into_iter().filter(|role| role.controls());
    let some = roles.control() && !control.clone().all(|role| roles.has(role));
    ensure!(
        !some || !config.database.text().is_empty(),
        "roles {roles} share the database with other processes: set `database` to the URL of a server"
    );
    ensure!(
        roles.control() || !roles.has(Role::Compute) || !config.cloud.text().is_empty(),
        "role compute without the database needs the cloud's id: set `cloud` to what `cumulet admin cloud` prints"
    );
    let key = roles.control() || !config.console.public_key.text().is_empty();
    let takes = roles.has(Role::Compute) && !config.console.address.text().is_empty();
    ensure!(
        key || !(takes || roles.has(Role::Console)),
        "consoles without the database need the cloud's key: set `console.public_key` to what `cumulet admin console-key` prints"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_of_its_own_needs_is_named() {
        let (bus, database) = (("bus", "amqp://b"), ("database", "postgres://d"));
        let cases = [
            ("all", vec![], ""),
            ("gateway,scheduler,conductor", vec![], "`bus`"),
            ("gateway,scheduler,conductor", vec![bus], ""),
            ("gateway", vec![bus], "`database`"),
            ("gateway", vec![bus, database], ""),
            ("compute", vec![], "`bus`"),
            ("compute", vec![bus], "`cloud`"),
            ("compute", vec![bus, ("cloud", "01234567")], ""),
            ("metadata", vec![], ""),
            ("console", vec![], "`console.public_key`"),
            ("console,metadata", vec![("console.public_key", "k")], ""),
            (
                "compute",
                vec![bus, ("cloud", "01234567"), ("console.address", "a:1")],
                "`console.public_key`",
            ),
            ("console,gateway", vec![bus, database], ""),
        ];
        for (roles, given, missing) in cases {
            let checked = check(&roles.parse().unwrap(), &Config::of(&given));
            match checked {
                Ok(()) => assert_eq!(missing, "", "{roles} {given:?}"),
                Err(error) => assert!(
                    !missing.is_empty() && error.to_string().contains(missing),
                    "{roles}: {error}"
                ),
            }
        }
    }
}
