//! The tunnel guard: the filter of packets that come out of tunnels.
//!
//! A VXLAN device hands on whatever is sent to its port; who sent it is known only outside, in the
//! host's own namespace. So one table there looks into the packets of each VPC's number: the outer source
//! and the inner one must be a host and an address that the policy puts there. Whatever else is sent to
//! that number, ARP among it, is dropped. Packets of other numbers are nobody's business here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::Ipv4Addr,
};

use cumulet_domain::{
    id::VpcId,
    network::{TunnelPeer, TunnelPolicy},
};
use tokio::sync::Mutex;

use super::{NetworkError, Result, command::Commands, config::Tunnel};

/// Bits of a packet from the beginning of its UDP header (`@th`): 8 bytes of UDP, 8 of VXLAN, 14 of Ethernet.
const VNI: &str = "@th,96,24";
const INNER_TYPE: &str = "@th,224,16";
const INNER_SOURCE: &str = "@th,336,32";
/// What a VPC's chain is called, before its id.
const PREFIX: &str = "from_";

/// What is known to be in the table.
type Known = BTreeMap<VpcId, Entry>;

/// One VPC's part.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    vni: u32,
    /// What it was made from, if this process made it.
    policy: Option<TunnelPolicy>,
}

/// The table in the host's namespace.
#[derive(Debug)]
pub(super) struct Guard {
    table: String,
    /// `None` when it has to be looked at.
    known: Mutex<Option<Known>>,
}

impl Guard {
    pub(super) fn new(cloud: &str) -> Guard {
        Guard {
            table: format!("cumulet_{cloud}"),
            known: Mutex::default(),
        }
    }

    /// From now on a VPC's tunnel lets this and nothing else through; nothing at all without a policy.
    pub(super) async fn set(
        &self,
        commands: &Commands,
        tunnel: Tunnel,
        vpc: VpcId,
        policy: Option<&TunnelPolicy>,
    ) -> Result<()> {
        let mut turn = self.known.lock().await;
        let mut known = match turn.take() {
            Some(known) => known,
            None => self.look(commands).await?,
        };
        // Until the end of this it is not known what is there.
        let old = known.get(&vpc);
        match (policy, old) {
            (None, None) => {}
            (Some(policy), Some(old)) if old.policy.as_ref() == Some(policy) => {}
            (Some(policy), old) => {
                let renumbered = old.filter(|old| old.vni != policy.vni);
                let mut text = renumbered.map_or_else(String::new, |old| self.without(vpc, old.vni));
                text.push_str(&self.with(tunnel, vpc, policy));
                commands.nft(None, &text).await?;
                let entry = Entry {
                    vni: policy.vni,
                    policy: Some(policy.clone()),
                };
                known.insert(vpc, entry);
            }
            (None, Some(old)) => {
                let text = match known.len() {
                    1 => format!("delete table ip {}\n", self.table),
                    _ => self.without(vpc, old.vni),
                };
                commands.nft(None, &text).await?;
                known.remove(&vpc);
            }
        }
        *turn = Some(known);
        Ok(())
    }

    /// The VPCs whose tunnels are guarded.
    pub(super) async fn guarded(&self, commands: &Commands) -> Result<BTreeSet<VpcId>> {
        Ok(self.look(commands).await?.into_keys().collect())
    }

    /// Looks at what is there; what should be and is not will be made again by the next [`Guard::set`].
    pub(super) async fn check(&self, commands: &Commands) -> Result<()> {
        let mut turn = self.known.lock().await;
        let there = self.look(commands).await?;
        if turn.as_ref().is_some_and(|known| !known.keys().eq(there.keys())) {
            *turn = None;
        }
        Ok(())
    }

    /// Whether the tunnel of the VPC is known to be guarded as this policy says.
    pub(super) async fn stands(&self, vpc: VpcId, policy: &TunnelPolicy) -> bool {
        let known = self.known.lock().await;
        let of_vpc = known.as_ref().and_then(|known| known.get(&vpc));
        of_vpc.is_some_and(|entry| entry.policy.as_ref() == Some(policy))
    }

    /// The VPCs in the table; none where the way into their chains is gone.
    async fn look(&self, commands: &Commands) -> Result<Known> {
        let args = ["--terse", "list", "table", "ip", &self.table];
        match commands.run(None, "nft", &args, "").await {
            Ok(text) if text.contains("vmap @numbers") => Ok(chains(&text)),
            Ok(_) => Ok(Known::new()),
            Err(NetworkError::Command { detail, .. }) if detail.contains("No such file") => Ok(Known::new()),
            Err(e) => Err(e),
        }
    }

    /// One transaction that may be repeated.
    fn with(&self, tunnel: Tunnel, vpc: VpcId, policy: &TunnelPolicy) -> String {
        let (table, port) = (&self.table, tunnel.port);
        let (chain, set) = names(vpc, policy.vni);
        let mut text = self.frame(vpc, policy.vni);
        let elements: Vec<_> = policy.peers.iter().flat_map(pairs).collect();
        if !elements.is_empty() {
            let _ = writeln!(text, "add element ip {table} {set} {{ {} }}", elements.join(", "));
        }
        let _ = write!(
            text,
            "add rule ip {table} {chain} {INNER_TYPE} 0x0800 ip saddr . {INNER_SOURCE} @{set} accept\n\
             add rule ip {table} {chain} counter drop\n\
             add element ip {table} numbers {{ {} : jump {chain} }}\n\
             flush chain ip {table} door\n\
             add rule ip {table} door udp dport {port} {VNI} vmap @numbers\n",
            policy.vni
        );
        text
    }

    /// Everything that a VPC has in the table, empty.
    fn frame(&self, vpc: VpcId, vni: u32) -> String {
        let table = &self.table;
        let (chain, set) = names(vpc, vni);
        format!(
            "add table ip {table}\n\
             add chain ip {table} door {{ type filter hook input priority -10; policy accept; }}\n\
             add map ip {table} numbers {{ typeof {VNI} : verdict; }}\n\
             add set ip {table} {set} {{ typeof ip saddr . {INNER_SOURCE}; }}\n\
             add chain ip {table} {chain}\n\
             flush chain ip {table} {chain}\n\
             flush set ip {table} {set}\n"
        )
    }

    /// Takes away what a VPC has in the table.
    fn without(&self, vpc: VpcId, vni: u32) -> String {
        let table = &self.table;
        let (chain, set) = names(vpc, vni);
        format!(
            "delete element ip {table} numbers {{ {vni} }}\n\
             flush chain ip {table} {chain}\ndelete chain ip {table} {chain}\ndelete set ip {table} {set}\n"
        )
    }
}

/// The names of a VPC's chain and set, from which both numbers can be read again.
fn names(vpc: VpcId, vni: u32) -> (String, String) {
    let id = format!("{:016x}_{vni}", vpc.number());
    (format!("{PREFIX}{id}"), format!("peers_{id}"))
}

/// Which host sends as whom.
fn pairs(peer: &TunnelPeer) -> impl Iterator<Item = String> + '_ {
    let pair = |address: &Ipv4Addr| format!("{} . 0x{:08x}", peer.host, u32::from(*address));
    peer.addresses.iter().map(pair)
}

/// The VPCs that have chains, from the listing of the table.
fn chains(text: &str) -> Known {
    text.lines()
        .filter_map(|line| {
            let name = line.trim().strip_prefix("chain ")?.strip_suffix(" {")?;
            let (id, vni) = name.strip_prefix(PREFIX)?.split_once('_')?;
            let entry = Entry {
                vni: vni.parse().ok()?,
                policy: None,
            };
            Some((VpcId::new(u64::from_str_radix(id, 16).ok()?), entry))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{super::testing::spread, *};

    #[test]
    fn a_listing_tells_whose_tunnels_are_guarded() {
        let policy = spread(1).tunnel.unwrap();
        let (guard, vpc) = (Guard::new("main"), VpcId::new(0xab));
        let tunnel = Tunnel {
            address: Ipv4Addr::new(10, 200, 0, 1),
            port: 4789,
        };
        let text = guard.with(tunnel, vpc, &policy);
        assert!(
            text.contains("{ 10.200.0.2 . 0xac1f2004, 10.200.0.2 . 0xac1f2005, 10.200.0.3 . 0xac1f2006 }")
        );
        assert!(text.contains("numbers { 42 : jump from_00000000000000ab_42 }"));
        let listing =
            "table ip cumulet_main {\n\tchain door {\n\t}\n\n\tchain from_00000000000000ab_42 {\n\t}\n}\n";
        let known = chains(listing);
        assert_eq!(known.keys().collect::<Vec<_>>(), [&vpc]);
        assert_eq!(known[&vpc].vni, 42);
    }
}
