//! Bounds of a guest: its share of what all guests of a host have together, entries of the table of connections and the
//! wire. Counted by the guest's address, which `identity` has tied to its tap.

use std::fmt::Write as _;

use super::Page;

impl Page<'_> {
    /// The guests, where something is counted for each.
    pub(super) fn shares(&mut self) {
        if self.options.connections > 0 || self.options.rate > 0 {
            let all = self.policy.interfaces.iter().map(|i| i.private_ip.to_string());
            self.set("guests", "type ipv4_addr", &all.collect::<Vec<_>>());
        }
    }

    /// The rule that drops what would be one connection of a guest too many.
    pub(super) fn counted(&self, side: &str, set: &str) -> Option<String> {
        let (most, l) = (self.options.connections, self.letter);
        let rule = || {
            let count = format!("add @{set} {{ ip {side} ct count over {most} }}");
            format!("ct state new ip {side} @guests_{l} {count} counter drop")
        };
        (most > 0).then(rule)
    }

    /// What a guest may take of what all guests of the host share: entries of the table of connections, and the wire.
    /// Asked only of what the rules let pass, so that nobody else uses up what is a guest's; before the connection is
    /// entered into the table. The sets outlive an edition: a change of the policy gives nobody anything back.
    pub(super) fn bounds(&mut self) {
        let mut rules = Vec::new();
        if self.options.connections > 0 {
            for set in ["from_guest", "to_guest"] {
                let _ = write!(
                    self.body,
                    "\tset {set} {{\n\t\ttype ipv4_addr\n\t\tsize 65535\n\t\tflags dynamic\n\t}}\n"
                );
            }
            rules.extend(self.counted("saddr", "from_guest"));
            rules.extend(self.counted("daddr", "to_guest"));
        }
        if self.options.rate > 0 {
            // The kernel adds a second's worth to the burst, which is a few large packets.
            let (rate, burst) = (self.options.rate, 128 << 10);
            for (set, side) in [("sent", "saddr"), ("received", "daddr")] {
                let _ = write!(
                    self.body,
                    "\tset {set} {{\n\t\ttype ipv4_addr\n\t\tsize 65535\n\t\tflags dynamic,timeout\n\t\ttimeout 1m\n\t}}\n"
                );
                let limit = format!("limit rate over {rate} bytes/second burst {burst} bytes");
                let l = self.letter;
                rules.push(format!(
                    "ip {side} @guests_{l} update @{set} {{ ip {side} {limit} }} counter drop"
                ));
            }
        }
        let hook = "type filter hook postrouting priority filter; policy accept;";
        self.base("bounds", hook, &rules);
    }
}
