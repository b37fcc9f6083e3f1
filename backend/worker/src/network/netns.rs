//! Threads inside a network namespace: each ends with its work, so that no thread of the runtime is ever left
//! in a guests' namespace.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    net::Ipv4Addr,
    path::Path,
    thread,
};

use nix::{
    ifaddrs::getifaddrs,
    net::if_::InterfaceFlags,
    sched::{CloneFlags, setns},
};
use tokio::sync::oneshot;

use super::{NetworkError, Result};

/// Runs `work` on a new thread, in the namespace when one is given.
pub(super) async fn run<T, F>(namespace: Option<&Path>, work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    let (send, receive) = oneshot::channel();
    let file = namespace.map(File::open).transpose();
    let name = namespace.map_or_else(|| "the host's namespace".to_owned(), |p| p.display().to_string());
    let file = file.map_err(|e| NetworkError::io(&name, e))?;
    thread::Builder::new()
        .name("netns".to_owned())
        .spawn(move || {
            let entered = file.map_or(Ok(()), |f| {
                setns(f, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
            });
            // The receiver may have given up.
            let _ = send.send(entered.and_then(|()| work()));
        })
        .map_err(|e| NetworkError::io("starting a thread", e))?;
    match receive.await {
        Ok(result) => result.map_err(|e| NetworkError::io(name, e)),
        Err(_) => Err(NetworkError::Deadline(name)),
    }
}

/// What of a device decides whether it must be configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) up: bool,
    pub(super) mac: Option<[u8; 6]>,
    pub(super) addresses: BTreeSet<Ipv4Addr>,
    /// Destinations routed to it.
    pub(super) routes: BTreeSet<Ipv4Addr>,
    /// Permanent neighbours.
    pub(super) neighbours: BTreeMap<Ipv4Addr, String>,
}

/// The devices of the namespace that the calling thread is in.
pub(super) fn devices() -> io::Result<BTreeMap<String, Device>> {
    let mut found: BTreeMap<String, Device> = BTreeMap::new();
    for entry in getifaddrs()? {
        let device = found.entry(entry.interface_name).or_default();
        device.up |= entry.flags.contains(InterfaceFlags::IFF_UP);
        let Some(address) = entry.address else { continue };
        if let Some(link) = address.as_link_addr() {
            device.mac = link.addr();
        }
        if let Some(v4) = address.as_sockaddr_in() {
            device.addresses.insert(v4.ip());
        }
    }
    read_routes(&fs::read_to_string("/proc/thread-self/net/route")?, &mut found);
    read_neighbours(&fs::read_to_string("/proc/thread-self/net/arp")?, &mut found);
    Ok(found)
}

/// `/proc/net/route`: device, destination in hexadecimal as the memory has it, …
fn read_routes(text: &str, found: &mut BTreeMap<String, Device>) {
    for line in text.lines().skip(1) {
        let mut words = line.split_whitespace();
        let (Some(name), Some(to)) = (words.next(), words.next()) else {
            continue;
        };
        if let (Some(device), Ok(number)) = (found.get_mut(name), u32::from_str_radix(to, 16)) {
            device.routes.insert(Ipv4Addr::from(number.to_ne_bytes()));
        }
    }
}

/// `/proc/net/arp`: address, type, flags, Ethernet address, mask, device. Flag 4 is permanent.
fn read_neighbours(text: &str, found: &mut BTreeMap<String, Device>) {
    for line in text.lines().skip(1) {
        let words: Vec<_> = line.split_whitespace().collect();
        let [address, _, "0x6", mac, _, name] = words[..] else {
            continue;
        };
        if let (Some(device), Ok(address)) = (found.get_mut(name), address.parse()) {
            device.neighbours.insert(address, mac.to_owned());
        }
    }
}

/// The switches of a new namespace. `ip_forward` is the last one: it shows that all were written.
/// Devices take over the values of `default` when they come into the namespace.
const SYSCTLS: [(&str, &str); 17] = [
    ("ipv6/conf/all/disable_ipv6", "1"),
    ("ipv6/conf/default/disable_ipv6", "1"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/conf/all/accept_redirects", "0"),
    ("ipv4/conf/default/accept_redirects", "0"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("ipv4/conf/all/accept_source_route", "0"),
    ("ipv4/conf/default/accept_source_route", "0"),
    ("ipv4/conf/all/arp_ignore", "0"),
    ("ipv4/conf/default/arp_ignore", "0"),
    ("ipv4/conf/all/route_localnet", "0"),
    ("ipv4/conf/all/proxy_arp", "0"),
    ("ipv4/conf/default/proxy_arp", "1"),
    ("ipv4/conf/default/forwarding", "1"),
    ("ipv4/ip_forward", "1"),
];

/// Writes the switches of the namespace that the calling thread is in.
pub(super) fn set_sysctls() -> io::Result<()> {
    for (name, value) in SYSCTLS {
        match fs::write(format!("/proc/sys/net/{name}"), value) {
            // A kernel without IPv6 needs nothing switched off.
            Err(e) if e.kind() == io::ErrorKind::NotFound && name.starts_with("ipv6") => {}
            result => result?,
        }
    }
    Ok(())
}

/// Whether [`set_sysctls`] went through in the namespace that the calling thread is in.
pub(super) fn sysctls_set() -> io::Result<bool> {
    Ok(fs::read_to_string("/proc/sys/net/ipv4/ip_forward")?.trim() == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_the_kernel_are_read() {
        let mut found: BTreeMap<String, Device> = [("cu1".to_owned(), Device::default())].into();
        read_routes(
            "Iface\tDestination\tGateway\ncu1\t04101FAC\t00000000\t0005\nother\t00000000\t0\n",
            &mut found,
        );
        read_neighbours(
            "IP address HW type Flags HW address Mask Device\n\
             172.31.16.4 0x1 0x6 02:16:00:00:00:01 * cu1\n172.31.16.5 0x1 0x2 02:16:00:00:00:02 * cu1\n",
            &mut found,
        );
        let device = &found["cu1"];
        if cfg!(target_endian = "little") {
            assert_eq!(device.routes, [Ipv4Addr::new(172, 31, 16, 4)].into());
        }
        assert_eq!(
            device.neighbours,
            [(Ipv4Addr::new(172, 31, 16, 4), "02:16:00:00:00:01".to_owned())].into()
        );
    }
}
