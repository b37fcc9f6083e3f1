//! The host network's configuration.

use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

use super::{NetworkError, Result};

/// Where a host's tunnels to other hosts end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// An address of this host that the other hosts reach.
    pub address: Ipv4Addr,
    /// The UDP port, the same on every host.
    pub port: u16,
}

/// The configuration of the host network.
#[derive(Clone, Debug)]
pub struct Config {
    /// A short name of the cloud, so that several live side by side on one host: 1 to 8 lower-case
    /// letters and digits.
    pub cloud: String,
    /// Where the DHCP servers' files are. Its parents must be open to everybody: the servers read
    /// their lists of guests after they gave up root.
    pub run_dir: PathBuf,
    /// The user who may open the taps, when the hypervisor does not do it as root.
    pub tap_owner: Option<u32>,
    /// The largest packet of a guest, announced by DHCP.
    pub mtu: u16,
    /// Whether guests with a public address may open connections to outside, through the host.
    pub uplink_egress: bool,
    /// How long a program may take.
    pub deadline: Duration,
    /// The user whom the DHCP servers run as.
    pub dhcp_user: String,
    /// The tunnels to other hosts; `None` for a host that is alone.
    pub tunnel: Option<Tunnel>,
}

impl Config {
    /// The usual configuration.
    pub fn new(cloud: impl Into<String>, run_dir: impl Into<PathBuf>) -> Config {
        Config {
            cloud: cloud.into(),
            run_dir: run_dir.into(),
            tap_owner: None,
            mtu: 1500,
            uplink_egress: false,
            deadline: Duration::from_secs(5),
            dhcp_user: "nobody".to_owned(),
            tunnel: None,
        }
    }

    /// Refuses what would end up in a name, a file or an argument and mean something else there.
    pub(super) fn check(&self) -> Result<()> {
        let bad = |what: &str| Err(NetworkError::Policy(what.to_owned()));
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        if !(1..=8).contains(&self.cloud.len()) || !self.cloud.chars().all(plain) {
            return bad("the cloud's name is 1 to 8 lower-case letters and digits");
        }
        let user = |c: char| plain(c) || c == '-' || c == '_';
        if self.dhcp_user.is_empty() || !self.dhcp_user.chars().all(user) {
            return bad("the DHCP servers' user is not a plain name");
        }
        let path = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        if !self
            .run_dir
            .to_str()
            .is_some_and(|p| p.starts_with('/') && p.chars().all(path))
        {
            return bad("the run directory is not an absolute path of plain characters");
        }
        // 68 is the least that IPv4 allows; guests that speak DHCP need 576.
        if !(576..=9216).contains(&self.mtu) {
            return bad("the MTU is 576 to 9216");
        }
        if let Some(tunnel) = self.tunnel {
            let address = tunnel.address;
            if address.is_unspecified() || address.is_multicast() || address.is_broadcast() {
                return bad("the tunnels' address is not one of a host");
            }
            if tunnel.port == 0 {
                return bad("the tunnels' port is 1 to 65535");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_are_checked() {
        assert!(Config::new("main", "/run/cumulet/main/net").check().is_ok());
        for (cloud, dir) in [
            ("", "/run/x"),
            ("Main", "/run/x"),
            ("a-b", "/run/x"),
            ("ninechars", "/run/x"),
            ("main", "run/x"),
            ("main", "/run/x\ndhcp-script=/bin/sh"),
            ("main", "/run/a b"),
        ] {
            assert!(Config::new(cloud, dir).check().is_err(), "{cloud:?} {dir:?}");
        }
        let mut config = Config::new("main", "/run/x");
        config.mtu = 100;
        assert!(config.check().is_err());
    }
}
