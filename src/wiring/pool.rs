//! The default pool of public addresses: a /24 of 198.18.0.0/15 (RFC 2544, never routed on the Internet) that
//! nothing on this host has a route into.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use cumulet_domain::network::Cidr;
use rand::Rng as _;

use crate::config::Config;

/// The configured block, or one that is free now.
pub(super) fn choose(config: &Config) -> Result<Cidr> {
    let text = config.network.public_pool.text();
    if !text.is_empty() {
        return text
            .parse()
            .map_err(|error| anyhow::anyhow!("configuration: network.public_pool: {error}"));
    }
    let table = std::fs::read_to_string("/proc/net/route").context("/proc/net/route")?;
    let taken = routes(&table);
    let start = rand::rng().next_u32() % 512;
    let candidates = (0..512).map(|i| block((start + i) % 512));
    let mut free = candidates.filter(|block| !taken.iter().any(|route| block.contains(*route)));
    free.next()
        .context("198.18.0.0/15 has no free block; set network.public_pool")
}

/// The `index`-th /24 of 198.18.0.0/15.
fn block(index: u32) -> Cidr {
    Cidr::new(
        Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + (index << 8)),
        24,
    )
}

/// The destinations of `/proc/net/route` (its second column, hexadecimal, in the machine's byte order).
fn routes(table: &str) -> Vec<Ipv4Addr> {
    let destination = |line: &str| {
        let text = line.split_whitespace().nth(1)?;
        u32::from_str_radix(text, 16)
            .ok()
            .map(|number| Ipv4Addr::from(number.to_ne_bytes()))
    };
    table.lines().skip(1).filter_map(destination).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_stay_inside_the_benchmark_range() {
        assert_eq!(block(0).to_string(), "198.18.0.0/24");
        assert_eq!(block(511).to_string(), "198.19.255.0/24");
    }

    #[test]
    fn routes_are_read_from_the_kernels_table() {
        let number = u32::from_ne_bytes([198, 18, 7, 3]);
        let table = format!("Iface\tDestination\tGateway\ncv0\t{number:08X}\t00000000\n");
        assert_eq!(routes(&table), [Ipv4Addr::new(198, 18, 7, 3)]);
    }
}
