//! The nftables rules of a VPC, as text for `nft -f`.
//!
//! # What a rule speaks of
//! Rules are not asked of packets but of the connection a packet belongs to: who opened it (`ct
//! original ip saddr`), to whom after translation (`ct reply ip saddr`) and to which port (`ct reply
//! proto-src`). So every packet of both directions, and ICMP errors about them, pass exactly as long
//! as the rules let the connection be opened, and a revoked rule ends what it had let in. Addresses
//! can stand for interfaces because the chain `identity` has tied them to the tap and the Ethernet address
//! before anything else looks at a packet; before reassembly too, so that nobody slips a piece into
//! a neighbour's packet.
//!
//! # Atomic replacement
//! A new set of rules is one transaction. The chains that hang on the kernel's hooks stay and only
//! change what is in them: a chain that is deleted and made again would drop or let pass packets
//! between the two. Everything else has a name with the letter of its edition, `a` or `b`, so that
//! old rules never meet a new set. What an edition leaves behind is deleted with the next change: a
//! packet that is on its way through the old rules at that moment would find their sets empty. Only if
//! the tables are not known (after a restart of the worker) they are made from nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::Ipv4Addr,
};

use cumulet_domain::{
    id::SecurityGroupId,
    network::{Direction, Peer, VpcPolicy},
};

use self::rule::rule;
use super::names::{TABLE, TUNNEL, UPLINK, device_name, tunnel_mac};

mod bounds;
mod rule;

/// Connections that came from the uplink; their replies are routed by this mark as well.
pub(super) const FROM_UPLINK: &str = "0x1";
/// Packets whose connection may leave its source.
const MAY_LEAVE: &str = "0x100";
/// The chains on hooks, `inet` then `arp`.
const BASE_CHAINS: [&str; 7] = [
    "identity", "origin", "inward", "to_host", "between", "bounds", "outward",
];

/// Which of the two sets of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edition {
    A,
    B,
}

impl Edition {
    fn other(self) -> Edition {
        match self {
            Edition::A => Edition::B,
            Edition::B => Edition::A,
        }
    }

    fn letter(self) -> char {
        match self {
            Edition::A => 'a',
            Edition::B => 'b',
        }
    }
}

/// The named objects of the rules in force, to delete them when they are so no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Objects {
    edition: Edition,
    maps: Vec<String>,
    chains: Vec<String>,
    sets: Vec<String>,
    arp_sets: Vec<String>,
    /// Those of the edition before, which nothing leads to any more.
    before: Option<Box<Objects>>,
}

/// What the rules depend on beside the policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// Guests with a public address may open connections to outside. (Not to the host: see `doorway`.)
    pub(super) egress: bool,
    /// Connections that a guest may have open at a time, those to it and from it; 0: any number.
    pub(super) connections: u32,
    /// Bytes that a guest may send, and receive, in a second; 0: any number.
    pub(super) rate: u64,
}

/// The transaction that replaces `old` by the rules of `policy`.
pub(super) fn render(policy: &VpcPolicy, options: &Options, old: Option<&Objects>) -> (String, Objects) {
    let edition = old.map_or(Edition::A, |o| o.edition.other());
    let mut text = match old {
        Some(old) => removal(old),
        None => ["inet", "arp"]
            .iter()
            .map(|f| format!("add table {f} {TABLE}\ndelete table {f} {TABLE}\n"))
            .collect(),
    };
    let mut page = Page {
        policy,
        options,
        letter: edition.letter(),
        body: String::new(),
        objects: Objects {
            edition,
            maps: Vec::new(),
            chains: Vec::new(),
            sets: Vec::new(),
            arp_sets: Vec::new(),
            before: old.map(|old| {
                let before = None;
                Box::new(Objects {
                    before,
                    ..old.clone()
                })
            }),
        },
    };
    page.identities();
    page.remotes();
    page.groups();
    page.profiles();
    page.translations();
    page.base_chains();
    let _ = write!(text, "table inet {TABLE} {{\n{}}}\n", page.body);
    text.push_str(&page.arp());
    (text, page.objects)
}

/// Takes the old rules out of the chains on hooks, and what the ones before them left behind away, users
/// first: nftables deletes nothing that is in use.
fn removal(old: &Objects) -> String {
    let mut text = format!("flush chain arp {TABLE} to_host\n");
    for chain in BASE_CHAINS {
        let _ = writeln!(text, "flush chain inet {TABLE} {chain}");
    }
    let Some(before) = &old.before else {
        return text;
    };
    let lists = [
        ("map inet", &before.maps),
        ("chain inet", &before.chains),
        ("set inet", &before.sets),
        ("set arp", &before.arp_sets),
    ];
    for (kind, names) in lists {
        for name in names {
            let (kind, family) = kind.split_once(' ').unwrap_or((kind, ""));
            let _ = writeln!(text, "delete {kind} {family} {TABLE} {name}");
        }
    }
    text
}

struct Page<'a> {
    policy: &'a VpcPolicy,
    options: &'a Options,
    letter: char,
    body: String,
    objects: Objects,
}

impl Page<'_> {
    fn named(&self, name: &str) -> String {
        format!("{name}_{}", self.letter)
    }

    fn elements(elements: &[String]) -> String {
        if elements.is_empty() {
            String::new()
        } else {
            format!("\t\telements = {{ {} }}\n", elements.join(", "))
        }
    }

    fn set(&mut self, name: &str, kind: &str, elements: &[String]) {
        let name = self.named(name);
        let _ = write!(
            self.body,
            "\tset {name} {{\n\t\t{kind}\n{}\t}}\n",
            Self::elements(elements)
        );
        self.objects.sets.push(name);
    }

    fn map(&mut self, name: &str, kind: &str, elements: &[String]) {
        let name = self.named(name);
        let _ = write!(
            self.body,
            "\tmap {name} {{\n\t\t{kind}\n{}\t}}\n",
            Self::elements(elements)
        );
        self.objects.maps.push(name);
    }

    fn chain(&mut self, name: &str, rules: &[String]) {
        let name = self.named(name);
        let rules: String = rules.iter().map(|r| format!("\t\t{r}\n")).collect();
        let _ = write!(self.body, "\tchain {name} {{\n{rules}\t}}\n");
        self.objects.chains.push(name);
    }

    /// Who sends from which tap, and what a DHCP request of theirs says inside: the client's address
    /// (none or its own) and Ethernet address, so that nobody declines or releases a neighbour's.
    fn identities(&mut self) {
        let mut pins = Vec::new();
        let mut macs = Vec::new();
        let mut dhcp = Vec::new();
        for i in &self.policy.interfaces {
            let device = device_name(i.id);
            pins.push(format!("\"{device}\" . {} . {}", i.mac, i.private_ip));
            macs.push(format!("\"{device}\" . {}", i.mac));
            let mac: String = i.mac.0.iter().map(|b| format!("{b:02x}")).collect();
            for address in [0, u32::from(i.private_ip)] {
                dhcp.push(format!("\"{device}\" . 0x{address:08x} . 0x{mac}"));
            }
        }
        // From the tunnel comes what the host that has the address sent (see `guard`).
        for peer in self.policy.tunnel.iter().flat_map(|tunnel| &tunnel.peers) {
            let mac = tunnel_mac(peer.host);
            let pin = |address| format!("\"{TUNNEL}\" . {mac} . {address}");
            pins.extend(peer.addresses.iter().map(pin));
        }
        self.set("pins", "type ifname . ether_addr . ipv4_addr", &pins);
        self.set("macs", "type ifname . ether_addr", &macs);
        self.set("dhcp", "typeof iifname . @th,160,32 . @th,288,48", &dhcp);
        self.body.push_str(
            "\tset dhcp_rate {\n\t\ttype ifname\n\t\tsize 65535\n\t\tflags dynamic\n\t\ttimeout 1m\n\t}\n",
        );
    }

    /// The VPC's addresses on other hosts.
    fn remotes(&mut self) {
        if let Some(tunnel) = &self.policy.tunnel {
            let all = tunnel.peers.iter().flat_map(|peer| &peer.addresses);
            let all: Vec<_> = all.map(Ipv4Addr::to_string).collect();
            self.set("remote", "type ipv4_addr", &all);
        }
    }

    fn groups(&mut self) {
        // Groups that rules name and nobody described have no members.
        let named: BTreeSet<SecurityGroupId> = self
            .policy
            .groups
            .iter()
            .flat_map(|g| &g.rules)
            .filter_map(|r| match r.peer {
                Peer::Group(id) => Some(id),
                Peer::Cidr(_) => None,
            })
            .collect();
        for id in named {
            let members = self
                .policy
                .groups
                .iter()
                .find(|g| g.id == id)
                .map(|g| &g.members[..])
                .unwrap_or_default();
            let members: Vec<_> = members.iter().map(Ipv4Addr::to_string).collect();
            self.set(&format!("sg_{:x}", id.number()), "type ipv4_addr", &members);
        }
        for group in &self.policy.groups {
            for direction in [Direction::Egress, Direction::Ingress] {
                let rules: Vec<_> = group
                    .rules
                    .iter()
                    .filter(|r| r.direction == direction)
                    .map(|r| rule(r, self.letter))
                    .collect();
                self.chain(&group_chain(group.id, direction), &rules);
            }
        }
    }

    /// Interfaces with the same groups share their chains; the maps lead from an address to them.
    fn profiles(&mut self) {
        let mut profiles: BTreeMap<BTreeSet<SecurityGroupId>, Vec<Ipv4Addr>> = BTreeMap::new();
        for interface in &self.policy.interfaces {
            let groups = interface.groups.iter().copied().collect();
            profiles.entry(groups).or_default().push(interface.private_ip);
        }
        // The chains of groups must be deleted after those that jump to them.
        let groups = std::mem::take(&mut self.objects.chains);
        for direction in [Direction::Egress, Direction::Ingress] {
            let mut elements = Vec::new();
            for (number, (ids, addresses)) in profiles.iter().enumerate() {
                let name = format!("{}_{number}", way(direction));
                let jumps: Vec<_> = ids
                    .iter()
                    .map(|id| format!("jump {}", self.named(&group_chain(*id, direction))))
                    .collect();
                self.chain(&name, &jumps);
                let name = self.named(&name);
                elements.extend(addresses.iter().map(|a| format!("{a} : jump {name}")));
            }
            self.map(way(direction), "type ipv4_addr : verdict", &elements);
        }
        self.objects.chains.extend(groups);
    }

    fn translations(&mut self) {
        let pairs: Vec<_> = self
            .policy
            .interfaces
            .iter()
            .filter_map(|i| Some((i.public_ip?, i.private_ip)))
            .collect();
        let list = |f: fn(&(Ipv4Addr, Ipv4Addr)) -> String| pairs.iter().map(f).collect::<Vec<_>>();
        let (public, both) = (list(|p| p.0.to_string()), list(|p| format!("{} . {}", p.0, p.1)));
        let (dnat, snat) = (
            list(|p| format!("{} : {}", p.0, p.1)),
            list(|p| format!("{} : {}", p.1, p.0)),
        );
        let turned = list(|p| format!("{} . {}", p.1, p.0));
        let private = list(|p| p.1.to_string());
        self.shares();
        self.set("public", "type ipv4_addr", &public);
        self.set("pairs", "type ipv4_addr . ipv4_addr", &both);
        self.map("dnat", "type ipv4_addr : ipv4_addr", &dnat);
        if self.options.egress {
            self.set("leavers", "type ipv4_addr", &private);
            self.set("left", "type ipv4_addr . ipv4_addr", &turned);
            self.map("snat", "type ipv4_addr : ipv4_addr", &snat);
        }
    }

    fn base_chains(&mut self) {
        let l = self.letter;
        // -450 is before reassembly (-400).
        self.base(
            "identity",
            "type filter hook prerouting priority -450; policy drop;",
            &[
                format!("iifname \"{UPLINK}\" ip daddr @public_{l} accept"),
                format!("iifname . ether saddr . ip saddr @pins_{l} accept"),
                format!(
                    "ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 iifname . ether saddr @macs_{l} accept"
                ),
                "iifname \"lo\" accept".to_owned(),
            ],
        );
        self.base(
            "origin",
            "type filter hook prerouting priority mangle; policy accept;",
            &[
                format!("iifname \"{UPLINK}\" ct state new ct mark set {FROM_UPLINK}"),
                format!("iifname != \"{UPLINK}\" ct direction reply ct mark {FROM_UPLINK} meta mark set {FROM_UPLINK}"),
            ],
        );
        self.base(
            "inward",
            "type nat hook prerouting priority dstnat; policy accept;",
            &[format!("iifname \"{UPLINK}\" dnat ip to ip daddr map @dnat_{l}")],
        );
        self.towards_host();
        self.forward();
        self.bounds();
        let snat = self.options.egress.then(|| {
            format!("oifname \"{UPLINK}\" ct mark != {FROM_UPLINK} snat ip to ip saddr map @snat_{l}")
        });
        self.base(
            "outward",
            "type nat hook postrouting priority srcnat; policy accept;",
            snat.as_slice(),
        );
    }

    /// What of the host guests may speak to: metadata, DHCP, the gateway's echo.
    fn towards_host(&mut self) {
        let l = self.letter;
        let outside = match self.policy.tunnel {
            Some(_) => format!("iifname {{ \"{UPLINK}\", \"{TUNNEL}\" }} drop"),
            None => format!("iifname \"{UPLINK}\" drop"),
        };
        let mut to_host = vec!["iifname \"lo\" accept".to_owned(), outside];
        to_host.extend(self.counted("saddr", "from_guest"));
        to_host.extend([
            "ip daddr 169.254.169.254 tcp dport 80 accept".to_owned(),
            "udp dport 67 update @dhcp_rate { iifname limit rate over 20/second burst 40 packets } drop"
                .to_owned(),
            // @th,256,32 is the relay's address: a relayed request is answered to wherever it says.
            format!(
                "udp sport 68 udp dport 67 @th,256,32 0x0 iifname . @th,160,32 . @th,288,48 @dhcp_{l} accept"
            ),
            "icmp type echo-request accept".to_owned(),
            "ct state related icmp type { destination-unreachable, time-exceeded, parameter-problem } accept"
                .to_owned(),
        ]);
        self.base(
            "to_host",
            "type filter hook input priority filter; policy drop;",
            &to_host,
        );
    }

    fn forward(&mut self) {
        let l = self.letter;
        let mut rules = vec![
            "ip saddr 169.254.0.0/16 drop".to_owned(),
            "ip daddr 169.254.0.0/16 drop".to_owned(),
            "ct state invalid drop".to_owned(),
            "meta mark set 0x0".to_owned(),
            // A translation that is no longer valid ends the connections that it made.
            format!(
                "ct mark {FROM_UPLINK} ct original ip daddr . ct reply ip saddr @pairs_{l} meta mark set {MAY_LEAVE}"
            ),
            format!("ct mark != {FROM_UPLINK} ct original ip saddr vmap @out_{l}"),
        ];
        if self.policy.tunnel.is_some() {
            // Whether it may leave, its own host decides.
            rules.push(format!(
                "ct mark != {FROM_UPLINK} ct original ip saddr @remote_{l} meta mark set {MAY_LEAVE}"
            ));
        }
        rules.push(format!("meta mark != {MAY_LEAVE} drop"));
        if self.options.egress {
            let ours = format!("oifname \"{UPLINK}\" ct mark != {FROM_UPLINK} ct direction original");
            rules.push(format!("{ours} ip saddr @leavers_{l} accept"));
            rules.push(format!(
                "iifname \"{UPLINK}\" ct direction reply ct original ip saddr . ct reply ip daddr @left_{l} accept"
            ));
        }
        rules.push(format!("oifname \"{UPLINK}\" ct mark != {FROM_UPLINK} drop"));
        rules.push(format!("ct reply ip saddr vmap @in_{l}"));
        if self.policy.tunnel.is_some() {
            // Whether it may come in, too.
            rules.push(format!(
                "ct mark != {FROM_UPLINK} ct reply ip saddr @remote_{l} accept"
            ));
        }
        self.base(
            "between",
            "type filter hook forward priority filter; policy drop;",
            &rules,
        );
    }

    fn base(&mut self, name: &str, hook: &str, rules: &[String]) {
        let rules: String = rules.iter().map(|r| format!("\t\t{r}\n")).collect();
        let _ = write!(self.body, "\tchain {name} {{\n\t\t{hook}\n{rules}\t}}\n");
    }

    /// Guests speak in ARP as themselves, or as nobody yet (a probe).
    fn arp(&mut self) -> String {
        let name = self.named("pins");
        let pins: Vec<_> = self
            .policy
            .interfaces
            .iter()
            .flat_map(|i| {
                [i.private_ip, Ipv4Addr::UNSPECIFIED]
                    .map(|ip| format!("\"{}\" . {} . {ip}", device_name(i.id), i.mac))
            })
            .collect();
        let text = format!(
            "table arp {TABLE} {{\n\tset {name} {{\n\t\ttype ifname . ether_addr . ipv4_addr\n{}\t}}\n\tchain to_host {{\n\t\ttype filter hook input priority filter; policy drop;\n\t\tiifname . arp saddr ether . arp saddr ip @{name} accept\n\t}}\n}}\n",
            Self::elements(&pins)
        );
        self.objects.arp_sets.push(name);
        text
    }
}

fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::Egress => "out",
        Direction::Ingress => "in",
    }
}

fn group_chain(id: SecurityGroupId, direction: Direction) -> String {
    format!("g{:x}_{}", id.number(), way(direction))
}

#[cfg(test)]
mod tests;
