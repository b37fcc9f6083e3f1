//! The doctor's checks of the pool of volumes that a host is told of: programs, QEMU's driver, the keyring, and whether the
//! pool is reached. A host that is told of none has none.

use std::{
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use cumulet_worker::{Ceph, Rbd};
use tokio::process::Command;

use super::{Finding, check, programs::CEPH};
use crate::{config::Config, wiring::ceph};

/// How long QEMU may take to say whether it has a driver.
const DEADLINE: Duration = Duration::from_secs(20);

/// Opens an image by a configuration that there is not: whoever has the driver complains of that.
const PROBE: &str =
    r#"json:{"driver":"raw","file":{"driver":"rbd","pool":"a","image":"b","conf":"/nonexistent"}}"#;

/// What a QEMU without the driver complains of.
const UNKNOWN: &str = "Unknown driver";

/// What is found; nothing where there is nothing to look for.
pub(super) async fn findings(config: &Config) -> Vec<Finding> {
    match ceph::read(config) {
        Ok(None) => Vec::new(),
        Ok(Some(ceph)) => of(ceph).await,
        Err(error) => vec![check("ceph", false, Err::<String, _>(error.to_string()))],
    }
}

async fn of(ceph: Ceph) -> Vec<Finding> {
    let mut findings = Vec::new();
    for program in &CEPH {
        findings.push(check(program.what, false, program.check().await));
    }
    findings.push(check("ceph: QEMU", false, driver().await));
    findings.push(check("ceph: keyring", false, keyring(&ceph.keyring)));
    findings.push(check("ceph: pool", false, pool(ceph).await));
    findings
}

/// Whether QEMU opens images.
async fn driver() -> Result<String, String> {
    let mut command = Command::new("qemu-img");
    command
        .args(["info", PROBE])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(DEADLINE, command.output())
        .await
        .map_err(|_| "qemu-img does not say whether QEMU has the driver".to_owned())?;
    has_driver(&output.map_err(|error| format!("qemu-img: {error}"))?)
}

fn has_driver(said: &Output) -> Result<String, String> {
    match String::from_utf8_lossy(&said.stderr).contains(UNKNOWN) {
        true => Err("it has no driver for images of Ceph's: apt-get install qemu-block-extra".into()),
        false => Ok("it has the driver rbd".into()),
    }
}

/// Whether the key is root's alone.
fn keyring(file: &Path) -> Result<String, String> {
    std::fs::metadata(file).map_err(|error| format!("{}: {error}", file.display()))?;
    match ceph::open_to_others(file) {
        Some(why) => Err(why),
        None => Ok(format!("{}, for root alone", file.display())),
    }
}

/// Whether the pool is reached.
async fn pool(ceph: Ceph) -> Result<String, String> {
    let name = ceph.pool.clone();
    let reached = Rbd::new(ceph).reached().await;
    reached.map_err(|error| format!("{name} is not reached: {error}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn a_qemu_without_the_driver_says_that_it_knows_none() {
        let said = |stderr: &str| {
            has_driver(&Output {
                status: std::process::ExitStatus::from_raw(256),
                stdout: Vec::new(),
                stderr: stderr.into(),
            })
        };
        let lacks = said("qemu-img: Could not open 'json:{}': Unknown driver 'rbd'\n");
        assert!(lacks.is_err_and(|told| told.ends_with("qemu-block-extra")));
        assert!(said("error reading conf file /nonexistent: No such file or directory\n").is_ok());
    }

    #[tokio::test]
    async fn only_a_host_that_is_told_of_a_pool_is_asked_for_one() {
        assert!(findings(&Config::of(&[])).await.is_empty());
        let wrong = findings(&Config::of(&[("ceph.pool", "a")])).await;
        let lines: Vec<String> = wrong.iter().map(Finding::line).collect();
        assert!(
            lines.len() == 1 && lines[0].starts_with("limited  ceph"),
            "{lines:?}"
        );
        assert!(lines[0].contains("ceph.monitors"), "{lines:?}");
    }

    #[test]
    fn a_keyring_that_is_not_there_is_named() {
        assert!(keyring(Path::new("/nonexistent/keyring")).is_err_and(|told| told.contains("/nonexistent/")));
    }
}
