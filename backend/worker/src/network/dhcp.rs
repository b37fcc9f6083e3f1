//! DHCP: one dnsmasq for each namespace, with a fixed answer for each guest and for nobody else.
//!
//! The server is never root, and reads nothing but its own files: `setpriv` starts it as a user of its own, with what
//! it needs of the network in this namespace alone. It writes nothing but its number, and no log: a guest could fill
//! one. (Started as root it would give the file that it logs to, and so `/dev/null`, to the user that it becomes.)
//!
//! It outlives the worker. It is known by its configuration file: the process whose number is
//! in the pid file is signalled only if it is a dnsmasq that was started with that very file. Where there
//! is no such process (the pid file is lost, or the worker died before there was one), all are looked at
//! before another server is started: it would not get the port.

use std::{
    fmt::Write as _,
    fs, io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    time::Duration,
};

use cumulet_domain::{id::VpcId, network::VpcPolicy};
use nix::{
    errno::Errno,
    fcntl::OFlag,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    NetworkError, Result,
    check::gateway,
    command::{Commands, find},
    config::Config,
    links::METADATA,
    names::UPLINK,
};
use crate::files::HostFiles as _;

/// How long a lease is, in seconds.
const LEASE: u32 = 3600;

/// What it may in its namespace: answer guests that have no address yet, from a port below 1024.
const CAPABILITIES: &str = "-all,+net_admin,+net_raw,+net_bind_service";

/// The files of one VPC's server.
#[derive(Clone, Debug)]
pub(super) struct Files {
    dir: PathBuf,
}

impl Files {
    pub(super) fn of(config: &Config, vpc: VpcId) -> Files {
        Files {
            dir: config.run_dir.join(vpc.to_string()),
        }
    }

    fn conf(&self) -> PathBuf {
        self.dir.join("dnsmasq.conf")
    }

    fn hosts(&self) -> PathBuf {
        self.dir.join("hosts")
    }

    /// The server's own directory: what is in there is looked at with care.
    fn own(&self) -> PathBuf {
        self.dir.join("own")
    }

    fn pid(&self) -> PathBuf {
        self.own().join("dnsmasq.pid")
    }
}

/// The configuration: everything but the guests.
pub(super) fn render_conf(config: &Config, policy: &VpcPolicy, files: &Files) -> String {
    let mut text = format!(
        "# No DNS, no files of the system, no lease file; answers go to the asking tap only.\n\
         port=0\nno-resolv\nno-hosts\nno-poll\nno-ping\nleasefile-ro\ndhcp-authoritative\ndhcp-broadcast\n\
         quiet-dhcp\nlog-facility=-\ninterface=cu*\nexcept-interface=lo\nexcept-interface={UPLINK}\n\
         dhcp-lease-max=65536\ndhcp-hostsfile={hosts}\ndhcp-option=option:mtu,{mtu}\n",
        hosts = files.hosts().display(),
        mtu = config.mtu,
    );
    for (number, subnet) in policy.subnets.iter().enumerate() {
        let (gateway, tag) = (gateway(subnet), format!("s{number}"));
        let _ = write!(
            text,
            "dhcp-range=set:{tag},{},static,{},{LEASE}\n\
             dhcp-option=tag:{tag},option:router,{gateway}\n\
             dhcp-option=tag:{tag},121,{METADATA}/32,{gateway},0.0.0.0/0,{gateway}\n",
            subnet.cidr.network(),
            subnet.cidr.netmask(),
        );
    }
    text
}

/// The guests, a line each.
pub(super) fn render_hosts(policy: &VpcPolicy) -> String {
    policy
        .interfaces
        .iter()
        .map(|i| format!("{},{},{},{LEASE}\n", i.mac, i.private_ip, i.hostname))
        .collect()
}

/// Whether a running server can go on with new guests by reading its list again. It keeps the leases
/// of guests that are gone, and would not give their addresses to others.
fn only_additions(old: &str, new: &str) -> bool {
    let new: std::collections::HashSet<_> = new.lines().collect();
    old.lines().all(|line| new.contains(line))
}

/// What [`ensure`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    Nothing,
    Reloaded,
    Started,
}

/// Makes the server of a namespace run with the guests of the policy.
pub(super) async fn ensure(
    commands: &Commands,
    config: &Config,
    policy: &VpcPolicy,
    namespace: &Path,
) -> Result<Done> {
    let files = Files::of(config, policy.vpc);
    let (conf, hosts) = (render_conf(config, policy, &files), render_hosts(policy));
    let old_conf = fs::read_to_string(files.conf()).unwrap_or_default();
    let old_hosts = fs::read_to_string(files.hosts()).unwrap_or_default();
    let running = server(&files).filter(|pid| same_namespace(*pid, namespace));
    if let Some(pid) = running
        && conf == old_conf
        && only_additions(&old_hosts, &hosts)
    {
        if old_hosts == hosts {
            return Ok(Done::Nothing);
        }
        write(&files.hosts(), &hosts, config.dhcp_uid)?;
        signal(pid, Signal::SIGHUP)?;
        return Ok(Done::Reloaded);
    }
    stop(commands, &files).await?;
    prepare(&files, config.dhcp_uid).map_err(|e| NetworkError::io("the directory of a DHCP server", e))?;
    write(&files.conf(), &conf, config.dhcp_uid)?;
    write(&files.hosts(), &hosts, config.dhcp_uid)?;
    start(commands, config, &files, namespace).await?;
    Ok(Done::Started)
}

/// Starts the server; it comes back when its child is listening.
async fn start(commands: &Commands, config: &Config, files: &Files, namespace: &Path) -> Result<()> {
    let (uid, gid) = (
        format!("--reuid={}", config.dhcp_uid),
        format!("--regid={}", config.dhcp_uid),
    );
    let [bounding, inheritable, ambient] =
        ["bounding-set", "inh-caps", "ambient-caps"].map(|set| format!("--{set}={CAPABILITIES}"));
    let program = find("dnsmasq").display().to_string();
    let (conf, pid) = (
        format!("--conf-file={}", files.conf().display()),
        format!("--pid-file={}", files.pid().display()),
    );
    let words: [&str; 10] = [
        &uid,
        &gid,
        "--clear-groups",
        "--no-new-privs",
        &bounding,
        &inheritable,
        &ambient,
        &program,
        &conf,
        &pid,
    ];
    let begun = commands.daemon(namespace, "setpriv", &words).await;
    begun.map_err(|error| match error {
        // Its words went nowhere; what its numbers mean is in its manual.
        NetworkError::Command { detail, .. } => NetworkError::Command {
            program: "dnsmasq (by setpriv)".to_owned(),
            detail: format!("{detail}: 1 is its configuration or a user number that there is not here, 2 the network, 3 its files"),
        },
        other => other,
    })
}

/// The directories, which the server may read, and its own in there.
fn prepare(files: &Files, uid: u32) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(&files.dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    chown(&files.dir, Some(0), Some(uid))?;
    fs::set_permissions(&files.dir, fs::Permissions::from_mode(0o750))?;
    // Made anew: what the server before left there is nobody's business.
    match fs::remove_dir_all(files.own()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::DirBuilder::new().mode(0o700).create(files.own())?;
    chown(files.own(), Some(uid), Some(uid))
}

/// Ends the server of a VPC and removes its files.
pub(super) async fn remove(commands: &Commands, config: &Config, vpc: VpcId) -> Result<()> {
    let files = Files::of(config, vpc);
    stop(commands, &files).await?;
    match fs::remove_dir_all(&files.dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(NetworkError::io("the directory of a DHCP server", e))
        }
        _ => Ok(()),
    }
}

/// Whether the VPC's server runs.
pub(super) fn alive(config: &Config, vpc: VpcId) -> bool {
    server(&Files::of(config, vpc)).is_some()
}

/// The process of the server, if the number in the pid file is still its.
fn server(files: &Files) -> Option<Pid> {
    let pid = read_number(&files.pid())?;
    is_server(pid, files).then(|| Pid::from_raw(pid))
}

/// The number in a file that another user may have put there: never a link, never one that a reader would wait at.
fn read_number(path: &Path) -> Option<i32> {
    use std::io::Read as _;

    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .ok()?;
    let mut text = String::new();
    let is_file = file.metadata().is_ok_and(|found| found.is_file());
    file.take(32).read_to_string(&mut text).ok().filter(|_| is_file)?;
    text.trim().parse().ok()
}

/// A process of the server that no pid file tells of.
fn stray(files: &Files) -> Option<Pid> {
    let processes = fs::read_dir("/proc").ok()?;
    let mut numbers = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.find(|pid| is_server(*pid, files)).map(Pid::from_raw)
}

fn is_server(pid: i32, files: &Files) -> bool {
    let comm = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    if pid <= 1 || comm != b"dnsmasq\n" {
        return false;
    }
    let conf = format!("--conf-file={}", files.conf().display());
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    arguments.split(|b| *b == 0).any(|a| a == conf.as_bytes())
}

fn same_namespace(pid: Pid, namespace: &Path) -> bool {
    let inode = |path: &Path| fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
    let theirs = inode(Path::new(&format!("/proc/{pid}/ns/net")));
    theirs.is_some() && theirs == inode(namespace)
}

async fn stop(commands: &Commands, files: &Files) -> Result<()> {
    // It has no state to save; its port is free when it is gone.
    let gone = async {
        while let Some(pid) = server(files).or_else(|| stray(files)) {
            signal(pid, Signal::SIGKILL)?;
            // Not our child: there is nothing to wait for but its absence.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    };
    tokio::time::timeout(commands.deadline, gone)
        .await
        .map_err(|_| NetworkError::Deadline("the end of dnsmasq".to_owned()))?
}

fn signal(pid: Pid, signal: Signal) -> Result<()> {
    match kill(pid, signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(e) => Err(NetworkError::io("a signal to dnsmasq", e.into())),
    }
}

/// Replaces a file as a whole. The server reads it.
fn write(path: &Path, text: &str, uid: u32) -> Result<()> {
    let new = path.with_extension("new");
    let written = || {
        crate::files::DiskFiles.write_fresh(&new, text.as_bytes())?;
        chown(&new, Some(0), Some(uid))?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o640))?;
        fs::rename(&new, path)
    };
    written().map_err(|e| NetworkError::io(path.display().to_string(), e))
}

#[cfg(test)]
mod tests {
    use cumulet_domain::id::NetworkInterfaceId;

    use super::{
        super::{names::device_name, testing::policy},
        *,
    };

    #[test]
    fn configuration_as_expected() {
        let config = Config::new("main", "/run/cumulet/main/net");
        let policy = policy(2);
        let files = Files::of(&config, policy.vpc);
        let text = render_conf(&config, &policy, &files);
        assert!(!text.contains("/dev/") && !text.contains("user="), "{text}");
        assert!(text.ends_with(
            "dhcp-hostsfile=/run/cumulet/main/net/vpc-00000000400000001/hosts\n\
             dhcp-option=option:mtu,1500\n\
             dhcp-range=set:s0,172.31.16.0,static,255.255.240.0,3600\n\
             dhcp-option=tag:s0,option:router,172.31.16.1\n\
             dhcp-option=tag:s0,121,169.254.169.254/32,172.31.16.1,0.0.0.0/0,172.31.16.1\n"
        ));
        assert_eq!(
            render_hosts(&policy),
            "02:16:00:00:00:00,172.31.16.4,guest-0,3600\n02:16:00:00:00:01,172.31.16.5,guest-1,3600\n"
        );
        assert!(device_name(NetworkInterfaceId::new(7)).starts_with("cu"));
        assert!(!UPLINK.starts_with("cu"));
    }

    #[test]
    fn guests_that_go_need_a_new_server() {
        assert!(only_additions("", "a\n"));
        assert!(only_additions("a\n", "b\na\n"));
        assert!(!only_additions("a\nb\n", "b\n"));
    }

    #[test]
    fn other_peoples_processes_are_never_the_server() {
        let dir = std::env::temp_dir().join(format!("cumulet-dhcp-{}", std::process::id()));
        let files = Files { dir: dir.clone() };
        fs::create_dir_all(files.own()).unwrap();
        for pid in ["", "1", "-1", "0", "x", &std::process::id().to_string()] {
            fs::write(files.pid(), pid).unwrap();
            assert_eq!(server(&files), None, "{pid:?}");
        }
        // What a server that was taken over may put there in its place.
        let link = || std::os::unix::fs::symlink("/dev/zero", files.pid());
        fs::remove_file(files.pid()).unwrap();
        link().unwrap();
        assert_eq!(server(&files), None, "a link");
        fs::remove_file(files.pid()).unwrap();
        nix::unistd::mkfifo(&files.pid(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(server(&files), None, "a pipe");
        fs::remove_dir_all(dir).unwrap();
    }
}
