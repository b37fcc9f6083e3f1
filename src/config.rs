//! Configuration: one table of keys. Each key has a default, a line in the TOML file and an environment
//! variable; the environment wins over the file, the command line over both. `cumulet config` prints the
//! table.

use std::{collections::BTreeMap, fmt::Display, path::Path, str::FromStr};

use anyhow::{Context, Result, anyhow, bail};

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    /// Dotted: `section.key` of the TOML file.
    pub(crate) name: &'static str,
    pub(crate) default: &'static str,
    pub(crate) doc: &'static str,
}

impl Key {
    /// The environment variable: `CUMULET_` and the name in capitals, dots as underscores.
    pub(crate) fn variable(&self) -> String {
        format!("CUMULET_{}", self.name.to_uppercase().replace('.', "_"))
    }
}

const fn key(name: &'static str, default: &'static str, doc: &'static str) -> Key {
    Key { name, default, doc }
}

/// Every key.
pub(crate) const KEYS: &[Key] = &[
    key(
        "roles",
        "all",
        "What this process does: `all`, or some of gateway, scheduler, conductor, compute, metadata, console.",
    ),
    key(
        "bus",
        "",
        "The broker, an amqp:// or amqps:// URL (RabbitMQ); empty: none, all roles are in this process.",
    ),
    key(
        "bus_ca_file",
        "",
        "With an amqps:// broker: a file (PEM) of the certificates of whoever vouches for it; empty: the system's.",
    ),
    key(
        "cloud",
        "",
        "The cloud's id, for a process that does not open the database; `cumulet admin cloud` prints it.",
    ),
    key(
        "listen",
        "127.0.0.1:8773",
        "Address and port of the API (EC2, IAM, STS).",
    ),
    key(
        "endpoint",
        "",
        "The API's address as clients write it, a host and a port; empty: `listen`.",
    ),
    key(
        "database",
        "",
        "The database server's URL, `postgres://…` or `mysql://…`; empty: SQLite in the state directory.",
    ),
    key("region", "us-east-1", "The region's name."),
    key(
        "availability_zone",
        "us-east-1a",
        "This host's availability zone: the region and one letter.",
    ),
    key(
        "driver",
        "libvirt",
        "What runs instances: `libvirt`, or `fake`, which simulates and says so.",
    ),
    key("host", "", "This host's name in the cloud; empty: the machine's."),
    key(
        "log.format",
        "auto",
        "How the log is written: `text` for people, `json`, or `auto`: text on a terminal, JSON elsewhere. (Its levels are in the variable CUMULET_LOG, for instance info,cumulet_worker=debug.)",
    ),
    key(
        "log.colour",
        "auto",
        "Whether the log's text is coloured: `always`, `never`, or `auto`: on a terminal, unless NO_COLOR is set or TERM is dumb.",
    ),
    key(
        "http.workers",
        "0",
        "Threads that serve the API; 0: one for each processor.",
    ),
    key(
        "http.connections",
        "2048",
        "Open connections to the API; beyond that, those that wait longest for their client are closed.",
    ),
    key(
        "http.idle",
        "60",
        "Seconds that a connection to the API may pause between two requests.",
    ),
    key(
        "http.head",
        "10",
        "Seconds that a request's head may take to arrive.",
    ),
    key(
        "http.body",
        "30",
        "Seconds that a request's body may take to arrive.",
    ),
    key(
        "http.stall",
        "30",
        "Seconds after which a client that takes nothing of its answer is cut.",
    ),
    key(
        "http.body_memory",
        "32",
        "MiB for the bodies of all requests to the API together; the first 16 KiB of each are not counted. One client, by its address, and one account may hold as much of it as is free, so one alone half of it.",
    ),
    key(
        "requests.account_in_flight",
        "2000",
        "Requests of one account that are answered at the same time, by weight: 1 for one that reads, 5 for one that writes, 10 for a launch, 100 for a new RSA key; 0: no limit, as in all of `requests`. More get RequestLimitExceeded.",
    ),
    key(
        "requests.account_rate",
        "4000",
        "Weight of requests that an account may make each second in the long run; a launch weighs one more for each instance, and what long listings take is added.",
    ),
    key(
        "requests.account_burst",
        "40000",
        "Weight of requests that an account may make at once after a pause.",
    ),
    key("requests.key_in_flight", "1000", "The same for each access key."),
    key("requests.key_rate", "2000", "The same for each access key."),
    key("requests.key_burst", "20000", "The same for each access key."),
    key(
        "auth.sigv2",
        "false",
        "Accept the old signature version 2 (SHA-256; for boto 2 and old euca2ools).",
    ),
    key(
        "hypervisor.slow_call",
        "15",
        "Seconds from which a call of the hypervisor is too slow: the host then takes no launches, and says why. A healthy one takes a tenth of a second, one on a loaded host that emulates a few; a launch makes three such calls, and each guest's start has 40 seconds.",
    ),
    key("libvirt.uri", "qemu:///system", "The libvirt daemon."),
    key(
        "libvirt.accel",
        "auto",
        "`kvm`, `qemu` (emulation), or `auto`: KVM where a probe guest runs on it.",
    ),
    key(
        "libvirt.stop_grace",
        "60",
        "Seconds that a guest has to obey the power button before it is cut.",
    ),
    key(
        "libvirt.guest_uids",
        "1900000001-1900065535",
        "User numbers for guests' processes, which nobody else on this host has: each instance gets one; empty: all run as the user that libvirt is configured with.",
    ),
    key(
        "libvirt.guests_as_root",
        "false",
        "Let guests run as root whose disks nobody else could reach (a state directory below /root). Whoever gets out of a guest is root then.",
    ),
    key(
        "libvirt.memory_limit",
        "auto",
        "Bound the memory of each guest's process to the guest's and what its emulator needs: `auto`, where the kernel and libvirt can (`cumulet doctor` says it), or `never`.",
    ),
    key(
        "libvirt.disk_mib",
        "1000",
        "MiB that an instance's disk may read and write in a second; 0: any number.",
    ),
    key(
        "libvirt.disk_operations",
        "16000",
        "Reads and writes of an instance's disk in a second; 0: any number.",
    ),
    key(
        "images.unused_hours",
        "168",
        "Hours that a host keeps an image which no instance there uses any more.",
    ),
    key(
        "images.unused_gib",
        "50",
        "GiB of such images that a host keeps; beyond, those unused for the longest time go.",
    ),
    key(
        "metrics.listen",
        "",
        "Address and port at which this process tells Prometheus what it counts (/metrics); empty: nowhere.",
    ),
    key(
        "network.public_pool",
        "",
        "Block for public addresses; empty: a /24 of 198.18.0.0/15 that is free here, chosen at first start.",
    ),
    key(
        "network.egress",
        "false",
        "Let instances open connections out of the public side.",
    ),
    key(
        "network.guest_mbit",
        "5000",
        "Megabits that an instance may send, and receive, in a second; 0: any number.",
    ),
    key(
        "network.guest_connections",
        "auto",
        "Connections that an instance may have open at a time, those to it and those from it, before new ones are dropped; `auto`: a quarter of what the kernel keeps track of; 0: any number.",
    ),
    key(
        "network.dhcp_uid",
        "1900000000",
        "User number of the DHCP servers of this host, which nobody else on it has.",
    ),
    key(
        "network.tunnel_address",
        "",
        "This host's IPv4 address for tunnels to the cloud's other hosts; empty: it is the only one. Where there are others it takes no launches without.",
    ),
    key(
        "network.tunnel_port",
        "4789",
        "UDP port of the tunnels (VXLAN), the same on every host.",
    ),
    key(
        "network.mtu",
        "0",
        "Largest packet of an instance; 0: 1500, or what the tunnel leaves of its device's.",
    ),
    key(
        "console.listen",
        "",
        "Address and port of the role console; empty: 127.0.0.1:6080, or any free port of 127.0.0.1 where all roles are in one process.",
    ),
    key(
        "console.endpoint",
        "",
        "The console role's address as clients write it, a host and a port; empty: where it listens.",
    ),
    key(
        "console.address",
        "",
        "Address and port at which this host takes connections of the console role; empty: none, or only from within the process.",
    ),
    key(
        "console.public_key",
        "",
        "What verifies console tokens, for a process that does not open the database; `cumulet admin console-key` prints it.",
    ),
    key(
        "console.token_ttl",
        "600",
        "Seconds within which a console token has to be used.",
    ),
    key(
        "console.idle",
        "1800",
        "Seconds after which a console is closed in which nothing is shown or typed.",
    ),
    key(
        "console.sessions",
        "64",
        "Consoles that one process keeps open at the most.",
    ),
    key(
        "scheduler.cpu_allocation_ratio",
        "16.0",
        "vCPUs that may be given out for each processor.",
    ),
    key(
        "scheduler.ram_allocation_ratio",
        "1.5",
        "Memory that may be given out for each byte there is.",
    ),
    key(
        "scheduler.disk_allocation_ratio",
        "1.0",
        "Disk that may be given out for each byte there is.",
    ),
    key(
        "scheduler.enabled_filters",
        "retry,availability_zone,enabled,compute,cpu,ram,disk,compute_capabilities,image_properties,aggregate_multi_tenancy_isolation,server_group_anti_affinity,server_group_affinity,different_host,same_host",
        "The scheduler's filters, in the order in which they run; there is also `aggregate_instance_extra_specs`.",
    ),
    key(
        "scheduler.host_subset_size",
        "1",
        "A launch goes to one of so many of the best hosts, at random.",
    ),
    key(
        "scheduler.max_attempts",
        "3",
        "Hosts that a launch is tried on at the most.",
    ),
    key(
        "scheduler.ram_weight_multiplier",
        "1.0",
        "What free memory counts for: positive spreads instances, negative stacks them, 0 leaves it out, as in all multipliers.",
    ),
    key(
        "scheduler.cpu_weight_multiplier",
        "1.0",
        "What free vCPUs count for.",
    ),
    key(
        "scheduler.disk_weight_multiplier",
        "1.0",
        "What free disk counts for.",
    ),
    key(
        "scheduler.io_ops_weight_multiplier",
        "-1.0",
        "What instances that are being launched on a host count for.",
    ),
    key(
        "scheduler.metrics_weight_multiplier",
        "1.0",
        "What a host's metrics count for, by `scheduler.metrics_weight_setting`.",
    ),
    key(
        "scheduler.metrics_weight_setting",
        "",
        "What each metric that hosts tell counts for: `name=ratio`, separated by commas.",
    ),
    key(
        "scheduler.soft_affinity_weight_multiplier",
        "1.0",
        "What other members of a group count for whose policy is soft affinity.",
    ),
    key(
        "scheduler.soft_anti_affinity_weight_multiplier",
        "1.0",
        "What other members of a group count for whose policy is soft anti-affinity.",
    ),
    key(
        "quota.public_addresses",
        "0",
        "Public addresses that the instances of one account have at the most; 0: half of `network.public_pool`, so that nobody takes all of it. A launch that asks for them makes as many instances as it gets addresses; one whose subnet would give them goes on without, and its instances say so (StateReason).",
    ),
    key(
        "retention.terminated_instances",
        "3600",
        "Seconds that a terminated instance is still shown; 0: for ever, as in all of `retention`.",
    ),
    key(
        "retention.client_tokens",
        "86400",
        "Seconds that a client token is good; a terminated instance's row is kept, unseen, as long as its token.",
    ),
    key(
        "retention.operations",
        "86400",
        "Seconds that finished operations of the journal are kept.",
    ),
    key(
        "retention.audit_log",
        "7776000",
        "Seconds that entries of the audit log are kept: 90 days.",
    ),
    key(
        "retention.audit_log_bytes",
        "4294967296",
        "Bytes that the audit log may take, about: 4 GiB; beyond, the oldest entries go before their time.",
    ),
    key(
        "fake.hosts",
        "1",
        "With `driver = \"fake\"`: how many hosts to simulate.",
    ),
    key("fake.vcpus", "4096", "Processors of each simulated host."),
    key(
        "fake.memory_mib",
        "16777216",
        "Memory of each simulated host, in MiB.",
    ),
    key(
        "fake.architecture",
        "x86_64",
        "Architecture of simulated hosts, x86_64 or arm64; where they differ, one after the other, separated by semicolons: the first host, the second and so on, and again.",
    ),
    key(
        "fake.capabilities",
        "",
        "What simulated hosts tell of themselves besides: `name=value`, separated by commas; hosts as in `fake.architecture`.",
    ),
    key(
        "fake.metrics",
        "",
        "The metrics that simulated hosts tell: `name=number`, separated by commas; hosts as in `fake.architecture`.",
    ),
    key(
        "fake.latency_ms",
        "0",
        "Time that each call to a simulated hypervisor takes, in milliseconds.",
    ),
    key(
        "fake.slow_file",
        "",
        "A file: while it is there, each call to a simulated hypervisor takes as many milliseconds as it says; for tests of a slow one.",
    ),
];

/// The values in force.
#[derive(Clone, Debug)]
pub(crate) struct Config(BTreeMap<&'static str, String>);

impl Config {
    /// Defaults, then the file, then the environment, then `given` (the command line).
    pub(crate) fn load(file: Option<&Path>, given: &[(&'static str, Option<String>)]) -> Result<Self> {
        let mut values: BTreeMap<_, _> = KEYS
            .iter()
            .map(|key| (key.name, key.default.to_owned()))
            .collect();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("the configuration {}", path.display()))?;
            let from_file = parse(&text).with_context(|| format!("the configuration {}", path.display()))?;
            values.extend(from_file);
        }
        let from_env = KEYS
            .iter()
            .filter_map(|key| Some((key.name, std::env::var(key.variable()).ok()?)));
        values.extend(from_env);
        values.extend(
            given
                .iter()
                .filter_map(|(name, value)| Some((*name, value.clone()?))),
        );
        Ok(Config(values))
    }

    /// The same with one value replaced.
    pub(crate) fn with(mut self, name: &'static str, value: String) -> Self {
        self.0.insert(name, value);
        self
    }

    /// The text of a key; empty for a name that is not in the table.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// A key's value as something typed.
    pub(crate) fn get<T: FromStr<Err: Display>>(&self, name: &str) -> Result<T> {
        let text = self.text(name);
        text.parse()
            .map_err(|error| anyhow!("configuration: {name} = {text:?}: {error}"))
    }
}

/// A TOML file's keys, flattened to dotted names; unknown ones are errors.
fn parse(text: &str) -> Result<BTreeMap<&'static str, String>> {
    let table: toml::Table = text.parse().context("this is not TOML")?;
    let mut values = BTreeMap::new();
    for (name, value) in table {
        match value {
            toml::Value::Table(section) => {
                for (inner, value) in section {
                    put(&mut values, &format!("{name}.{inner}"), &value)?;
                }
            }
            value => put(&mut values, &name, &value)?,
        }
    }
    Ok(values)
}

fn put(values: &mut BTreeMap<&'static str, String>, name: &str, value: &toml::Value) -> Result<()> {
    let Some(key) = KEYS.iter().find(|key| key.name == name) else {
        bail!("there is no key {name:?}; `cumulet config` lists them");
    };
    let text = match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => number.to_string(),
        toml::Value::Boolean(flag) => flag.to_string(),
        _ => bail!("{name} is a single value, not a list or a section"),
    };
    values.insert(key.name, text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_sets_keys_and_unknown_ones_are_named() {
        let values =
            parse("region = \"eu-1\"\n[scheduler]\ncpu_allocation_ratio = 4.5\n[auth]\nsigv2 = true")
                .unwrap();
        assert_eq!(values["region"], "eu-1");
        assert_eq!(values["scheduler.cpu_allocation_ratio"], "4.5");
        assert_eq!(values["auth.sigv2"], "true");
        for (text, named) in [
            ("regoin = 1", "regoin"),
            ("listen = [1]", "listen"),
            ("=", "TOML"),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn a_wrong_type_is_named_with_its_key() {
        let config = Config::load(None, &[("http.workers", Some("many".into()))]).unwrap();
        let error = config.get::<usize>("http.workers").unwrap_err().to_string();
        assert!(
            error.contains("http.workers") && error.contains("many"),
            "{error}"
        );
    }

    #[test]
    fn every_default_has_its_key_once() {
        for key in KEYS {
            assert_eq!(
                KEYS.iter().filter(|other| other.name == key.name).count(),
                1,
                "{}",
                key.name
            );
        }
    }
}
