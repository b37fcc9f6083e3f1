//! The Ceph cluster that this host is told of, out of the section `ceph` of its configuration: all of its keys, or none. What
//! is wrong is a sentence of its own. The wiring of a host reads it, and so do `cumulet doctor` and the audit.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use cumulet_certs::ceph_key;
use cumulet_domain::{id::HostId, volume::is_pool_name};
use cumulet_hypervisor::CephClient;
use cumulet_worker::{Ceph, guests_config};

use crate::config::Config;

/// The cluster and its pool; `None`: the host is told of none.
pub(crate) fn read(config: &Config) -> Result<Option<Ceph>> {
    let keys = &config.ceph;
    let told = [&keys.monitors, &keys.pool, &keys.user, &keys.keyring];
    let (given, missing): (Vec<_>, Vec<_>) = told.into_iter().partition(|key| !key.is_empty());
    if given.is_empty() {
        return Ok(None);
    }
    if !missing.is_empty() {
        let missing: Vec<&str> = missing.iter().map(|key| key.name()).collect();
        bail!(
            "configuration: of the section ceph all keys are needed, or none; not given: {}",
            missing.join(", ")
        );
    }
    let (monitors, pool, user) = (keys.monitors.text(), keys.pool.text(), keys.user.text());
    ensure!(
        are_addresses(monitors),
        "configuration: ceph.monitors = {monitors:?}; expecting addresses, separated by commas, such as 192.0.2.21,192.0.2.22:3300"
    );
    ensure!(
        is_pool_name(pool),
        "configuration: ceph.pool = {pool:?}; expecting the name of a pool, of letters, digits, dots, underscores and dashes"
    );
    // The same letters do for users; more than that would have to be quoted somewhere.
    ensure!(
        is_pool_name(user) && !user.starts_with("client."),
        "configuration: ceph.user = {user:?}; expecting a user's name without \"client.\""
    );
    let keyring = PathBuf::from(keys.keyring.text());
    ensure!(
        keyring.is_absolute() && !keys.keyring.text().contains(char::is_whitespace),
        "configuration: ceph.keyring = {:?}; expecting an absolute path without blanks",
        keys.keyring.text()
    );
    Ok(Some(Ceph {
        monitors: monitors.to_owned(),
        pool: pool.to_owned(),
        user: user.to_owned(),
        keyring,
    }))
}

/// Whether this is a list of addresses as Ceph's `mon_host` has it, brackets for an address of both protocols included.
fn are_addresses(text: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || ".-:[],/".contains(c);
    let mut parts = text.split(',').map(|part| part.trim_matches(['[', ']']));
    text.chars().all(known) && parts.all(|part| !part.is_empty())
}

/// What guests' processes of the host reach the pool with.
pub(crate) fn client(ceph: &Ceph, state_dir: &Path, host: &HostId) -> Result<CephClient> {
    let context = || format!("configuration: ceph.keyring: {}", ceph.keyring.display());
    let text = std::fs::read_to_string(&ceph.keyring).with_context(context)?;
    let key = ceph_key(&text, &ceph.user).with_context(context)?;
    if let Some(why) = open_to_others(&ceph.keyring) {
        tracing::warn!(why, "the key of the pool of volumes is no secret on this host");
    }
    Ok(CephClient {
        user: ceph.user.clone(),
        config: guests_config(state_dir, host)?,
        key,
    })
}

/// Why others than root can read a file, if they can.
pub(crate) fn open_to_others(file: &Path) -> Option<String> {
    let found = std::fs::metadata(file).ok()?;
    let (mode, owner) = (found.mode() & 0o777, found.uid());
    let is_open = mode & 0o077 != 0 || owner != 0;
    is_open.then(|| {
        format!(
            "{} is user {owner}'s, mode {mode:03o}; what helps: chown root, chmod 600",
            file.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    const ALL: [(&str, &str); 4] = [
        ("ceph.monitors", "192.0.2.21,192.0.2.22:3300"),
        ("ceph.pool", "cumulet"),
        ("ceph.user", "cloud-1"),
        ("ceph.keyring", "/etc/cumulet/ceph.keyring"),
    ];

    #[test]
    fn all_keys_are_needed_or_none() {
        assert_eq!(read(&Config::of(&[])).unwrap(), None);
        let ceph = read(&Config::of(&ALL)).unwrap().unwrap();
        assert_eq!((ceph.pool.as_str(), ceph.user.as_str()), ("cumulet", "cloud-1"));
        for (name, _) in ALL {
            let rest: Vec<_> = ALL.into_iter().filter(|(key, _)| *key != name).collect();
            let error = read(&Config::of(&rest)).unwrap_err().to_string();
            assert!(error.ends_with(&format!("not given: {name}")), "{error}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (name, wrong) in [
            ("ceph.monitors", "192.0.2.21\nkeyring = /x"),
            ("ceph.monitors", "192.0.2.21, 192.0.2.22"),
            ("ceph.monitors", "192.0.2.21,,192.0.2.22"),
            ("ceph.monitors", ","),
            ("ceph.pool", "a/b"),
            ("ceph.pool", "a b"),
            ("ceph.user", "client.cloud"),
            ("ceph.user", "a:b"),
            ("ceph.keyring", "ceph.keyring"),
            ("ceph.keyring", "/etc/a b"),
        ] {
            let all = ALL.map(|(key, text)| (key, if key == name { wrong } else { text }));
            let error = read(&Config::of(&all)).unwrap_err().to_string();
            assert!(
                error.contains(name) && error.contains("expecting"),
                "{wrong:?}: {error}"
            );
        }
        for monitors in [
            "ceph-mon.example",
            "[2001:db8::1]:6789",
            "[v2:192.0.2.1:3300/0,v1:192.0.2.1:6789/0],192.0.2.2",
        ] {
            let all = ALL.map(|(key, text)| (key, if key == "ceph.monitors" { monitors } else { text }));
            assert!(read(&Config::of(&all)).is_ok(), "{monitors}");
        }
    }

    #[test]
    fn the_key_is_read_and_others_are_not_to() {
        let dir = tempfile::tempdir().unwrap();
        let keyring = dir.path().join("keyring");
        let ceph = Ceph {
            keyring: keyring.clone(),
            ..read(&Config::of(&ALL)).unwrap().unwrap()
        };
        let host = HostId("one".into());
        let told = |text: &str| {
            fs::write(&keyring, text).unwrap();
            client(&ceph, dir.path(), &host)
        };
        let found = told("[client.cloud-1]\nkey = Y2xvdWQ=\n").unwrap();
        assert!(found.key.ct_eq(b"cloud"));
        assert!(found.config.ends_with("hosts/one/ceph-guests.conf"));
        let error = format!("{:#}", told("[client.other]\nkey = Y2xvdWQ=\n").unwrap_err());
        assert!(
            error.contains("ceph.keyring") && error.contains("[client.cloud-1]"),
            "{error}"
        );
        fs::set_permissions(&keyring, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(open_to_others(&keyring).is_some_and(|why| why.contains("mode 640")));
        fs::set_permissions(&keyring, fs::Permissions::from_mode(0o600)).unwrap();
        let is_ours = fs::metadata(&keyring).unwrap().uid() == 0;
        assert_eq!(open_to_others(&keyring).is_none(), is_ours);
    }
}
