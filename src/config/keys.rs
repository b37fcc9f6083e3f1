//! The configuration keys, each declared once: its name, the type that its text is read as, its default, and
//! what it means. `settings!` makes of them the typed [`Config`], whose fields are the keys, and the table
//! [`KEYS`] that `cumulet config` prints.

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZero,
};

use cumulet_certs::ConsoleVerifier;
use cumulet_domain::volume::VolumeStore;

use super::{Key, Setting, Texts};
use crate::{
    roles::Roles,
    telemetry::{Colour, Format},
};

macro_rules! settings {
    (
        $( $(#[doc = $doc:literal])+ $key:ident: $kind:ty = $default:literal; )+
        $( [$section:ident: $Section:ident]
            $( $(#[doc = $its_doc:literal])+ $its_key:ident: $its_kind:ty = $its_default:literal; )+
        )+
    ) => {
        /// Every key, those of the file's sections after the others.
        pub(crate) const KEYS: &[Key] = &[
            $( Key { name: stringify!($key), default: $default, doc: concat!($($doc),+) }, )+
            $( $( Key {
                name: concat!(stringify!($section), ".", stringify!($its_key)),
                default: $its_default,
                doc: concat!($($its_doc),+),
            }, )+ )+
        ];

        /// The values in force.
        #[derive(Debug)]
        pub(crate) struct Config {
            $( $(#[doc = $doc])+ pub(crate) $key: Setting<$kind>, )+
            $( pub(crate) $section: $Section, )+
        }

        $(
            /// A section of the file.
            #[derive(Debug)]
            pub(crate) struct $Section {
                $( $(#[doc = $its_doc])+ pub(crate) $its_key: Setting<$its_kind>, )+
            }
        )+

        impl Config {
            /// The defaults, and what was given instead.
            pub(super) fn of_texts(mut given: Texts) -> Self {
                Config {
                    $( $key: Setting::new(stringify!($key), $default, &mut given), )+
                    $( $section: $Section {
                        $( $its_key: Setting::new(
                            concat!(stringify!($section), ".", stringify!($its_key)),
                            $its_default,
                            &mut given,
                        ), )+
                    }, )+
                }
            }
        }
    };
}

settings! {
    /// What this process does: `all`, or some of gateway, scheduler, conductor, compute, metadata, console.
    roles: Roles = "all";

    /// The broker, an amqp:// or amqps:// URL (RabbitMQ); empty: none, all roles are in this process.
    bus: String = "";

    /// With an amqps:// broker: a file (PEM) of the certificates of whoever vouches for it; empty: the
    /// system's.
    bus_ca_file: String = "";

    /// The cloud's id, for a process that does not open the database; `cumulet admin cloud` prints it.
    cloud: String = "";

    /// Address and port of the API (EC2, IAM, STS).
    listen: String = "127.0.0.1:8773";

    /// The API's address as clients write it, a host and a port; empty: `listen`.
    endpoint: String = "";

    /// The database server's URL, `postgres://…` or `mysql://…`; empty: SQLite in the state directory.
    database: String = "";

    /// The region's name.
    region: String = "us-east-1";

    /// This host's availability zone: the region and one letter.
    availability_zone: String = "us-east-1a";

    /// What runs instances: `libvirt`, or `fake`, which simulates and says so.
    driver: String = "libvirt";

    /// This host's name in the cloud; empty: the machine's.
    host: String = "";

    [log: Log]
        /// How the log is written: `text` for people, `json`, or `auto`: text on a terminal, JSON elsewhere.
        /// (Its levels are in the variable CUMULET_LOG, for instance info,cumulet_worker=debug.)
        format: Format = "auto";

        /// Whether the log's text is coloured: `always`, `never`, or `auto`: on a terminal, unless NO_COLOR
        /// is set or TERM is dumb.
        colour: Colour = "auto";

    [http: Http]
        /// Threads that serve the API; 0: one for each processor.
        workers: usize = "0";

        /// Open connections to the API; beyond that, those that wait longest for their client are closed.
        connections: usize = "2048";

        /// Seconds that a connection to the API may pause between two requests.
        idle: NonZero<u32> = "60";

        /// Seconds that a request's head may take to arrive.
        head: NonZero<u32> = "10";

        /// Seconds that a request's body may take to arrive.
        body: NonZero<u32> = "30";

        /// Seconds after which a client that takes nothing of its answer is cut.
        stall: NonZero<u32> = "30";

        /// MiB for the bodies of all requests to the API together; the first 16 KiB of each are not counted.
        /// One client, by its address, and one account may hold as much of it as is free, so one alone half
        /// of it.
        body_memory: usize = "32";

    [requests: Requests]
        /// Requests of one account that are answered at the same time, by weight: 1 for one that reads, 5 for
        /// one that writes, 10 for a launch, 100 for a new RSA key; 0: no limit, as in all of `requests`.
        /// More get RequestLimitExceeded.
        account_in_flight: u32 = "2000";

        /// Weight of requests that an account may make each second in the long run; a launch weighs one more
        /// for each instance, and what long listings take is added.
        account_rate: u32 = "4000";

        /// Weight of requests that an account may make at once after a pause.
        account_burst: u32 = "40000";

        /// The same for each access key.
        key_in_flight: u32 = "1000";

        /// The same for each access key.
        key_rate: u32 = "2000";

        /// The same for each access key.
        key_burst: u32 = "20000";

    [auth: Auth]
        /// Accept the old signature version 2 (SHA-256; for boto 2 and old euca2ools).
        sigv2: bool = "false";

    [hypervisor: Hypervisor]
        /// Seconds from which a call of the hypervisor is too slow: the host then takes no launches, and says
        /// why. A healthy one takes a tenth of a second, one on a loaded host that emulates a few; a launch
        /// makes three such calls, and each guest's start has 40 seconds.
        slow_call: u64 = "15";

    [libvirt: Libvirt]
        /// The libvirt daemon.
        uri: String = "qemu:///system";

        /// `kvm`, `qemu` (emulation), or `auto`: KVM where a probe guest runs on it.
        accel: String = "auto";

        /// Seconds that a guest has to obey the power button before it is cut.
        stop_grace: u64 = "60";

        /// User numbers for guests' processes, which nobody else on this host has: each instance gets one;
        /// empty: all run as the user that libvirt is configured with.
        guest_uids: String = "1900000001-1900065535";

        /// Let guests run as root whose disks nobody else could reach (a state directory below /root).
        /// Whoever gets out of a guest is root then.
        guests_as_root: bool = "false";

        /// Bound the memory of each guest's process to the guest's and what its emulator needs: `auto`, where
        /// the kernel and libvirt can (`cumulet doctor` says it), `always`, where a guest without such a bound is
        /// not to start, or `never`.
        memory_limit: String = "auto";

        /// MiB that an instance's disk may read and write in a second; 0: any number.
        disk_mib: u64 = "1000";

        /// Reads and writes of an instance's disk in a second; 0: any number.
        disk_operations: u64 = "16000";

    [images: Images]
        /// Hours that a host keeps an image which no instance there uses any more.
        unused_hours: u32 = "168";

        /// GiB of such images that a host keeps; beyond, those unused for the longest time go.
        unused_gib: u64 = "50";

        /// User number of the process that converts a file which is imported, which nobody else on this host has.
        convert_uid: u32 = "1900065536";

    [storage: Storage]
        /// Address and port at which the role conductor gives hosts images and snapshots, out of its state
        /// directory; empty: nowhere, hosts have that directory. Plain HTTP: it belongs into a network of the
        /// cloud's own, or behind a proxy that speaks TLS.
        listen: SocketAddr = "";

        /// Where this host gets images and snapshots, http://HOST:PORT or https://HOST[:PORT]; empty: from
        /// `images` and `snapshots` in its state directory, which it then has in common with the control plane.
        url: String = "";

        /// With an https URL: a file (PEM) of the certificates of whoever vouches for it; empty: the system's.
        ca_file: String = "";

        /// Disks that this host copies whole at a time, 1 to 4: images that it fetches, and volumes that it makes
        /// of snapshots, which leave the last place of several to images. An account has half of them.
        copies: usize = "3";

    [ceph: Ceph]
        /// Addresses of the monitors of the Ceph whose pool this host reaches for volumes (`volumes.store`), separated
        /// by commas, each with a port where it is not Ceph's own; empty, as all keys of `ceph`: it reaches none.
        monitors: String = "";

        /// The name of the pool, which the cloud shares with nobody. With `driver = "fake"` it is all that is needed,
        /// and pretended.
        pool: String = "";

        /// The name of the user there, without `client.`: it may `profile rbd` in this pool, and nothing else.
        user: String = "";

        /// The keyring file with that user's key, an absolute path; it is root's, and nobody else may read it.
        keyring: String = "";

    [metrics: Metrics]
        /// Address and port at which this process tells Prometheus what it counts (/metrics); empty: nowhere.
        listen: SocketAddr = "";

    [network: Network]
        /// Block for public addresses; empty: a /24 of 198.18.0.0/15 that is free here, chosen at first
        /// start.
        public_pool: String = "";

        /// Let instances open connections out of the public side.
        egress: bool = "false";

        /// Megabits that an instance may send, and receive, in a second; 0: any number.
        guest_mbit: u32 = "5000";

        /// Connections that an instance may have open at a time, those to it and those from it, before new
        /// ones are dropped; `auto`: a quarter of what the kernel keeps track of; 0: any number.
        guest_connections: u32 = "auto";

        /// User number of the DHCP servers of this host, which nobody else on it has.
        dhcp_uid: u32 = "1900000000";

        /// This host's IPv4 address for tunnels to the cloud's other hosts; empty: it is the only one. Where
        /// there are others it takes no launches without.
        tunnel_address: Ipv4Addr = "";

        /// UDP port of the tunnels (VXLAN), the same on every host.
        tunnel_port: u16 = "4789";

        /// Largest packet of an instance; 0: 1500, or what the tunnel leaves of its device's.
        mtu: u16 = "0";

    [console: Console]
        /// Address and port of the role console; empty: 127.0.0.1:6080, or any free port of 127.0.0.1 where
        /// all roles are in one process.
        listen: String = "";

        /// The console role's address as clients write it, a host and a port; empty: where it listens.
        endpoint: String = "";

        /// Address and port at which this host takes connections of the console role; empty: none, or only
        /// from within the process.
        address: String = "";

        /// What verifies console tokens, for a process that does not open the database; `cumulet admin
        /// console-key` prints it.
        public_key: ConsoleVerifier = "";

        /// Seconds within which a console token has to be used.
        token_ttl: u32 = "600";

        /// Seconds after which a console is closed in which nothing is shown or typed.
        idle: u64 = "1800";

        /// Consoles that one process keeps open at the most.
        sessions: usize = "64";

    [scheduler: Scheduler]
        /// vCPUs that may be given out for each processor.
        cpu_allocation_ratio: f64 = "16.0";

        /// Memory that may be given out for each byte there is.
        ram_allocation_ratio: f64 = "1.5";

        /// Disk that may be given out for each byte there is.
        disk_allocation_ratio: f64 = "1.0";

        /// The scheduler's filters, in the order in which they run; there is also
        /// `aggregate_instance_extra_specs`.
        enabled_filters: String = "retry,availability_zone,enabled,compute,cpu,ram,disk,volume_store,compute_capabilities,image_properties,aggregate_multi_tenancy_isolation,server_group_anti_affinity,server_group_affinity,different_host,same_host";

        /// A launch goes to one of so many of the best hosts, at random.
        host_subset_size: usize = "1";

        /// Hosts that a launch is tried on at the most.
        max_attempts: usize = "3";

        /// What free memory counts for: positive spreads instances, negative stacks them, 0 leaves it out, as
        /// in all multipliers.
        ram_weight_multiplier: f64 = "1.0";

        /// What free vCPUs count for.
        cpu_weight_multiplier: f64 = "1.0";

        /// What free disk counts for.
        disk_weight_multiplier: f64 = "1.0";

        /// What instances that are being launched on a host count for.
        io_ops_weight_multiplier: f64 = "-1.0";

        /// What a host's metrics count for, by `scheduler.metrics_weight_setting`.
        metrics_weight_multiplier: f64 = "1.0";

        /// What each metric that hosts tell counts for: `name=ratio`, separated by commas.
        metrics_weight_setting: String = "";

        /// What other members of a group count for whose policy is soft affinity.
        soft_affinity_weight_multiplier: f64 = "1.0";

        /// What other members of a group count for whose policy is soft anti-affinity.
        soft_anti_affinity_weight_multiplier: f64 = "1.0";

    [quota: Quota]
        /// Public addresses that the instances of one account have at the most; 0: half of
        /// `network.public_pool`, so that nobody takes all of it. A launch that asks for them makes as many
        /// instances as it gets addresses; one whose subnet would give them goes on without, and its
        /// instances say so (StateReason).
        public_addresses: u64 = "0";

    [volumes: Volumes]
        /// Seconds from a modification of a volume to the next (ModifyVolume). EC2 has six hours; here no data is
        /// moved for it, so that nothing has to be waited for.
        modification_cooldown: u64 = "0";

        /// Where new volumes are: `local`, files of the hosts of their first instances, or `rbd`, images in the pool of
        /// Ceph's that hosts are told of (`ceph`), so that they come to instances of any such host. Those that are
        /// there stay where they are, and root volumes are files in either case.
        store: VolumeStore = "local";

    [retention: Retention]
        /// Seconds that a terminated instance is still shown; 0: for ever, as in all of `retention`.
        terminated_instances: u64 = "3600";

        /// Seconds that a client token is good; a terminated instance's row is kept, unseen, as long as its
        /// token.
        client_tokens: u64 = "86400";

        /// Seconds that finished operations of the journal are kept.
        operations: u64 = "86400";

        /// Seconds that entries of the audit log are kept: 90 days.
        audit_log: u64 = "7776000";

        /// Bytes that the audit log may take, about: 4 GiB; beyond, the oldest entries go before their time.
        audit_log_bytes: u64 = "4294967296";

    [fake: Fake]
        /// With `driver = "fake"`: how many hosts to simulate.
        hosts: usize = "1";

        /// Processors of each simulated host.
        vcpus: u32 = "4096";

        /// Memory of each simulated host, in MiB.
        memory_mib: u64 = "16777216";

        /// Architecture of simulated hosts, x86_64 or arm64; where they differ, one after the other,
        /// separated by semicolons: the first host, the second and so on, and again.
        architecture: String = "x86_64";

        /// What simulated hosts tell of themselves besides: `name=value`, separated by commas; hosts as in
        /// `fake.architecture`.
        capabilities: String = "";

        /// The metrics that simulated hosts tell: `name=number`, separated by commas; hosts as in
        /// `fake.architecture`.
        metrics: String = "";

        /// Time that each call to a simulated hypervisor takes, in milliseconds.
        latency_ms: u64 = "0";

        /// A file: while it is there, each call to a simulated hypervisor takes as many milliseconds as it
        /// says; for tests of a slow one.
        slow_file: String = "";
}
