//! The host network's configuration.

use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

use cumulet_domain::host_address::check_tunnel_address;

use super::{NetworkError, Result};

/// The usual user of DHCP servers, among numbers that nobody hands out.
pub const DHCP_UID: u32 = 1_900_000_000;

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
    /// Where the DHCP servers' files are. Everybody must be able to pass through its parents: the servers read
    /// their own files, and are never root.
    pub run_dir: PathBuf,
    /// The user who may open the taps, when the hypervisor does not do it as root.
    pub tap_owner: Option<u32>,
    /// The largest packet of a guest, announced by DHCP.
    pub mtu: u16,
    /// Whether guests with a public address may open connections to outside, through the host.
    pub uplink_egress: bool,
    /// How long a program may take.
    pub deadline: Duration,
    /// The user and group whom the DHCP servers run as, nobody else's on this host.
    pub dhcp_uid: u32,
    /// Megabits that a guest may send, and receive, in a second; 0: any number.
    pub guest_mbit: u32,
    /// Connections that a guest may have open at a time; 0: any number.
    pub guest_connections: u32,
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
            dhcp_uid: DHCP_UID,
            guest_mbit: 0,
            guest_connections: 0,
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
        if self.dhcp_uid == 0 || self.dhcp_uid == u32::MAX {
            return bad("the DHCP servers' user is not root, and one that there can be");
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
            if let Err(why) = check_tunnel_address(tunnel.address) {
                return bad(&format!("the tunnels' address {}: {why}", tunnel.address));
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
