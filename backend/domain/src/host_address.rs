//! Host addresses: where a host's tunnels end and where it takes console connections. A host tells them, the
//! operator confirms them, and one that would lead elsewhere than to a host is neither taken nor confirmed.

use std::net::{IpAddr, Ipv4Addr};

use crate::console::{IN_PROCESS, MAX_ADDRESS};

/// Whether an address can be a host's on a network that it shares with others.
///
/// # Errors
/// What it is instead, in words that go on from "…: ".
pub fn check_tunnel_address(address: Ipv4Addr) -> Result<(), &'static str> {
    let [first, ..] = address.octets();
    match first {
        0 => Err("it is no host's address"),
        127 => Err("it is a loopback address, which leads every host to itself"),
        _ if address.is_link_local() => Err("it is a link-local address, as that of the metadata service"),
        224..=239 => Err("it is a multicast address"),
        240.. => Err("it is a broadcast or a reserved address"),
        _ => Ok(()),
    }
}

/// Whether a text can be where a host takes console connections: a host and a port. That it leads to whoever asks
/// is an error too, unless the operator says so himself: see [`is_console_syntax`].
///
/// # Errors
/// What is wrong, in words that go on from "…: ".
pub fn check_console_address(text: &str) -> Result<(), &'static str> {
    if text == IN_PROCESS {
        return Ok(());
    }
    let host = is_console_syntax(text)?;
    if host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost") {
        return Err("it is a loopback address, which leads the console process to itself");
    }
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => check_tunnel_address(address),
        Ok(IpAddr::V6(address)) => match address.to_ipv4_mapped() {
            Some(address) => check_tunnel_address(address),
            None if address.is_loopback() => Err("it is a loopback address"),
            None if address.is_unspecified() => Err("it is no host's address"),
            None if address.is_multicast() || address.is_unicast_link_local() => {
                Err("it is a multicast or a link-local address")
            }
            None => Ok(()),
        },
        // Resolvers take these for addresses: `127.1`, `2130706433`, `0x7f.1`.
        Err(_) if host.split('.').next_back().is_some_and(looks_numeric) => Err("it is no host's name"),
        Err(_) => Ok(()),
    }
}

fn looks_numeric(label: &str) -> bool {
    label.starts_with(|c: char| c.is_ascii_digit())
}

/// Whether a text is a host and a port, whatever host that is; the host.
///
/// # Errors
/// What is wrong, in words that go on from "…: ".
pub fn is_console_syntax(text: &str) -> Result<&str, &'static str> {
    if text.len() > MAX_ADDRESS {
        return Err("it is too long");
    }
    let wrong = "expecting a host and a port, such as 192.0.2.11:6081";
    let (host, port) = text.rsplit_once(':').ok_or(wrong)?;
    let digits = !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    if !digits || port.parse::<u16>().is_ok_and(|port| port == 0) || port.parse::<u16>().is_err() {
        return Err(wrong);
    }
    if let Some(v6) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return v6.parse::<std::net::Ipv6Addr>().map(|_| v6).map_err(|_| wrong);
    }
    let edge = |c: char| !c.is_ascii_alphanumeric();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    if host.is_empty() || host.starts_with(edge) || host.ends_with(edge) || !host.bytes().all(plain) {
        return Err(wrong);
    }
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_ends_at_an_address_of_a_host_and_at_no_other() {
        for good in [
            "10.0.0.1",
            "192.0.2.11",
            "172.16.0.9",
            "198.18.0.1",
            "1.1.1.1",
            "223.255.255.254",
        ] {
            assert_eq!(check_tunnel_address(good.parse().unwrap()), Ok(()), "{good}");
        }
        for bad in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.255.0.9",
            "169.254.169.254",
            "169.254.0.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
        ] {
            assert!(check_tunnel_address(bad.parse().unwrap()).is_err(), "{bad}");
        }
    }

    #[test]
    fn consoles_are_at_a_host_and_a_port() {
        for good in [
            "local",
            "192.0.2.11:6081",
            "node-1.example:1",
            "node-1:65535",
            "[2001:db8::1]:6081",
        ] {
            assert_eq!(check_console_address(good), Ok(()), "{good}");
        }
        let long = format!("{}:1", "a".repeat(MAX_ADDRESS));
        for bad in [
            "",
            "node-1",
            ":6081",
            "node-1:",
            "node-1:0",
            "node-1:65536",
            "node-1:+1",
            "a b:1",
            "a\n:1",
            "-a:1",
            "a/b:1",
            "user@a:1",
            "0.0.0.0:1",
            "127.0.0.1:1",
            "127.1:1",
            "2130706433:1",
            "0x7f.1:1",
            "localhost:1",
            "LOCALHOST:1",
            "a.localhost:1",
            "[::1]:1",
            "[::]:1",
            "[::ffff:127.0.0.1]:1",
            "[fe80::1]:1",
            "[ff02::1]:1",
            "169.254.169.254:80",
            "255.255.255.255:1",
            "::1:1",
            &long,
        ] {
            assert!(check_console_address(bad).is_err(), "{bad}");
        }
        // What the operator may say himself.
        assert_eq!(is_console_syntax("127.0.0.1:6081"), Ok("127.0.0.1"));
    }
}
