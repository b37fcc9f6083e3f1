//! The VXLAN tunnel of a VPC to its instances on other hosts: one device in its namespace.
//!
//! The device is made in the host's namespace, so that its packets are the host's, and is put into the
//! VPC's at once. Nothing about it is learned or asked for: an address elsewhere has a route, a neighbour
//! (the end of that host's tunnel), and that end the host's address. There is no entry for everybody, so
//! that nothing is flooded, and an address without a route is unreachable here, not asked for there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::Ipv4Addr,
};

use cumulet_domain::network::TunnelPolicy;
use serde::Deserialize;

use super::{
    NetworkError, Result,
    command::Commands,
    config::{Config, Tunnel},
    host::VpcNamespace,
    names::{TUNNEL, alias, tunnel_mac},
    netns::Device,
};

/// What VXLAN adds to a packet: the outer IPv4, UDP and VXLAN headers, and the inner Ethernet one.
const OVERHEAD: u16 = 50;

/// What is to be done about the tunnel inside the namespace.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// `ip`, before the taps: what is in their way.
    pub(super) first: String,
    /// `ip`, after them.
    pub(super) then: String,
    /// `bridge`, at last.
    pub(super) bridge: String,
    /// Whether the device was made anew.
    pub(super) made: bool,
}

impl Lines {
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.then.is_empty() && self.bridge.is_empty() && !self.made
    }
}

/// What `ip` says of a device.
#[derive(Debug, Deserialize)]
struct Link {
    address: Option<String>,
    mtu: u16,
    linkinfo: Option<LinkInfo>,
}

#[derive(Debug, Deserialize)]
struct LinkInfo {
    info_kind: Option<String>,
    info_data: Option<Vxlan>,
}

#[derive(Debug, Deserialize)]
struct Vxlan {
    id: Option<u32>,
    local: Option<Ipv4Addr>,
    port: Option<u16>,
    learning: Option<bool>,
}

/// An entry of the device's table: which host has an Ethernet address.
#[derive(Debug, Deserialize)]
struct Entry {
    mac: String,
    dst: Option<Ipv4Addr>,
    state: Option<String>,
}

/// Makes the device if it is not there as it should be, and says what is left to do in the namespace.
pub(super) async fn correct(
    netns: &VpcNamespace<'_>,
    policy: Option<&TunnelPolicy>,
    devices: &BTreeMap<String, Device>,
) -> Result<Lines> {
    let there = devices.get(TUNNEL);
    let Some((tunnel, policy)) = netns.config.tunnel.zip(policy) else {
        return Ok(Lines {
            first: there.map_or_else(String::new, |_| format!("link del dev {TUNNEL}\n")),
            ..Lines::default()
        });
    };
    let mut entries = Vec::new();
    let mut good = false;
    if there.is_some_and(|device| device.up) {
        let looks = tokio::try_join!(
            read::<Link>(netns, "ip", &["-json", "-details", "link", "show", "dev", TUNNEL]),
            read::<Entry>(netns, "bridge", &["-json", "fdb", "show", "dev", TUNNEL]),
        );
        let (links, found) = looks?;
        good = links
            .iter()
            .any(|link| is_as_made(link, netns.config, tunnel, policy));
        entries = found;
    }
    let mut lines = Lines::default();
    if !good {
        if there.is_some() {
            let gone = format!("link del dev {TUNNEL}\n");
            netns.commands.ip(Some(&netns.path), &gone).await?;
        }
        let line = make(netns.config, tunnel, policy.vni, &netns.name);
        netns.commands.ip(None, &line).await?;
        let alias = alias(&netns.config.cloud);
        lines.then =
            format!("link set dev {TUNNEL} addrgenmode none alias {alias}\nlink set dev {TUNNEL} up\n");
        lines.made = true;
    }
    let none = Device::default();
    ways(policy, there.filter(|_| good).unwrap_or(&none), &mut lines);
    lines.bridge = ends(policy, if good { &entries } else { &[] });
    Ok(lines)
}

async fn read<T: for<'a> Deserialize<'a>>(
    netns: &VpcNamespace<'_>,
    program: &str,
    args: &[&str],
) -> Result<Vec<T>> {
    let text = netns.commands.run(Some(&netns.path), program, args, "").await?;
    // `bridge` answers nothing at all for an empty table.
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(&text).map_err(|e| NetworkError::io("the tunnel's device", e.into()))
}

fn is_as_made(link: &Link, config: &Config, tunnel: Tunnel, policy: &TunnelPolicy) -> bool {
    let Some(LinkInfo {
        info_kind: Some(kind),
        info_data: Some(data),
    }) = &link.linkinfo
    else {
        return false;
    };
    kind == "vxlan"
        && data.id == Some(policy.vni)
        && data.local == Some(tunnel.address)
        && data.port == Some(tunnel.port)
        && data.learning == Some(false)
        && link.mtu == config.mtu
        && link.address.as_ref() == Some(&tunnel_mac(tunnel.address).to_string())
}

/// In the host's namespace: the device, inside `namespace`, down.
fn make(config: &Config, tunnel: Tunnel, vni: u32, namespace: &str) -> String {
    let (Tunnel { address, port }, mtu) = (tunnel, config.mtu);
    format!(
        "link add name {TUNNEL} address {} mtu {mtu} netns {namespace} type vxlan id {vni} local {address} dstport {port} nolearning\n",
        tunnel_mac(address)
    )
}

/// Routes and neighbours: those that are too many, then those that are missing.
fn ways(policy: &TunnelPolicy, device: &Device, lines: &mut Lines) {
    let wanted: BTreeMap<Ipv4Addr, String> = policy
        .peers
        .iter()
        .flat_map(|peer| {
            let mac = tunnel_mac(peer.host).to_string();
            peer.addresses.iter().map(move |address| (*address, mac.clone()))
        })
        .collect();
    for address in device.routes.iter().filter(|a| !wanted.contains_key(a)) {
        let _ = writeln!(lines.first, "route del {address}/32 dev {TUNNEL}");
    }
    for address in device.neighbours.keys().filter(|a| !wanted.contains_key(a)) {
        let _ = writeln!(lines.first, "neigh del {address} dev {TUNNEL}");
    }
    for (address, mac) in &wanted {
        if device.neighbours.get(address) != Some(mac) {
            let line = format!("neigh replace {address} lladdr {mac} dev {TUNNEL} nud permanent");
            let _ = writeln!(lines.then, "{line}");
        }
        if !device.routes.contains(address) {
            let _ = writeln!(lines.then, "route replace {address}/32 dev {TUNNEL} scope link");
        }
    }
}

/// The hosts behind the Ethernet addresses.
fn ends(policy: &TunnelPolicy, entries: &[Entry]) -> String {
    let wanted: BTreeSet<(String, Ipv4Addr)> = policy
        .peers
        .iter()
        .map(|peer| (tunnel_mac(peer.host).to_string(), peer.host))
        .collect();
    let mut text = String::new();
    let mut good = BTreeSet::new();
    for entry in entries {
        let pair = entry.dst.map(|host| (entry.mac.clone(), host));
        match pair.filter(|pair| wanted.contains(pair) && entry.state.as_deref() == Some("permanent")) {
            Some(pair) => drop(good.insert(pair)),
            None => {
                let to = entry.dst.map(|host| format!(" dst {host}")).unwrap_or_default();
                let _ = writeln!(text, "fdb del {} dev {TUNNEL}{to} self", entry.mac);
            }
        }
    }
    for (mac, host) in wanted.difference(&good) {
        let _ = writeln!(text, "fdb replace {mac} dev {TUNNEL} dst {host} self permanent");
    }
    text
}

/// The largest packet of a guest, if tunnels end at this address: that of the device which has the
/// address, without what the tunnel adds.
pub(super) async fn mtu(commands: &Commands, address: Ipv4Addr) -> Result<u16> {
    let to = address.to_string();
    let text = commands
        .ip_once(&["-json", "-4", "address", "show", "to", &to])
        .await?;
    #[derive(Deserialize)]
    struct Underlay {
        mtu: Option<u32>,
    }
    let found: Vec<Underlay> =
        serde_json::from_str(&text).map_err(|e| NetworkError::io("the list of devices", e.into()))?;
    let mtu = found.iter().find_map(|device| device.mtu);
    let mtu =
        mtu.ok_or_else(|| NetworkError::Policy(format!("no device of this host has the address {address}")))?;
    let inner = u16::try_from(mtu).unwrap_or(u16::MAX).saturating_sub(OVERHEAD);
    Ok(inner.min(9216))
}

#[cfg(test)]
mod tests {
    use super::{super::testing::spread, *};

    fn policy() -> TunnelPolicy {
        spread(1).tunnel.unwrap()
    }

    #[test]
    fn what_is_missing_is_added_and_what_is_too_much_goes() {
        let mut device = Device::default();
        let mut lines = Lines::default();
        ways(&policy(), &device, &mut lines);
        assert_eq!(lines.first, "");
        assert_eq!(lines.then.lines().count(), 6);
        assert!(
            lines
                .then
                .contains("neigh replace 172.31.32.6 lladdr 0a:17:0a:c8:00:03 dev tunnel nud permanent\n")
        );
        for (n, host) in [(4, 2), (5, 2), (6, 2), (7, 2)] {
            let address = Ipv4Addr::new(172, 31, 32, n);
            device.routes.insert(address);
            device
                .neighbours
                .insert(address, tunnel_mac(Ipv4Addr::new(10, 200, 0, host)).to_string());
        }
        let mut lines = Lines::default();
        ways(&policy(), &device, &mut lines);
        assert_eq!(
            lines.first,
            "route del 172.31.32.7/32 dev tunnel\nneigh del 172.31.32.7 dev tunnel\n"
        );
        assert_eq!(
            lines.then,
            "neigh replace 172.31.32.6 lladdr 0a:17:0a:c8:00:03 dev tunnel nud permanent\n"
        );
    }

    #[test]
    fn ends_of_tunnels_are_the_ones_that_are_wanted() {
        let text = r#"[{"mac":"0a:17:0a:c8:00:02","dst":"10.200.0.2","linkNetNsId":0,"flags":["self"],"state":"permanent"},
            {"mac":"00:00:00:00:00:00","dst":"10.200.0.9","flags":["self"],"state":"permanent"}]"#;
        let entries: Vec<Entry> = serde_json::from_str(text).unwrap();
        assert_eq!(
            ends(&policy(), &entries),
            "fdb del 00:00:00:00:00:00 dev tunnel dst 10.200.0.9 self\n\
             fdb replace 0a:17:0a:c8:00:03 dev tunnel dst 10.200.0.3 self permanent\n"
        );
    }
}
