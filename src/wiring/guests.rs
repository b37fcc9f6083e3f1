//! The users of guests' processes on this host: what libvirt is configured with, and the numbers of our own. Read by the
//! wiring of a host, by the preflight checks and by `cumulet doctor`.

use std::{ops::RangeInclusive, os::unix::fs::MetadataExt as _, path::Path};

use anyhow::{Context, Result, bail, ensure};
use cumulet_hypervisor::probe::kvm_works;
use nix::unistd::{Gid, Group, Uid, User};

use crate::config::Config;

/// What libvirt is configured with, and whom QEMU runs as where that says nothing (Debian's, others').
const QEMU_CONF: &str = "/etc/libvirt/qemu.conf";
const QEMU_USERS: [&str; 2] = ["libvirt-qemu", "qemu"];

/// Where libvirt has the sockets and keys of running guests, which their processes open by themselves.
const RUNNING: &str = "/var/lib/libvirt/qemu";

/// As whom guests run.
#[derive(Clone, Debug, Default)]
pub(crate) struct GuestUsers {
    /// The user that libvirt runs guests as which have no number of their own, and its group.
    pub(crate) usual: Option<(u32, u32)>,
    /// The group that guests pass through their directories by; `None`: they run as the worker's own user.
    pub(crate) group: Option<u32>,
    /// The numbers of their own.
    pub(crate) uids: Option<RangeInclusive<u32>>,
    /// Why they have none, where they were to have.
    pub(crate) shared: Option<String>,
}

/// As whom guests run on this host, on KVM or emulated.
pub(crate) fn read(config: &Config, kvm: bool) -> Result<GuestUsers> {
    let range = uids(config)?;
    // Only the machine's own daemon runs guests as another user than the one that asks.
    if config.driver.text() != "libvirt" || config.libvirt.uri.text() != "qemu:///system" {
        return Ok(GuestUsers::default());
    }
    let text = std::fs::read_to_string(QEMU_CONF).unwrap_or_default();
    let Some(user) = qemu_user(&text) else {
        return Ok(GuestUsers::default());
    };
    let gid = qemu_group(&text, &user);
    let mut found = GuestUsers {
        usual: Some((user.uid.as_raw(), gid)),
        group: Some(gid),
        ..GuestUsers::default()
    };
    if let Some(range) = range {
        match own_group(gid, kvm).and_then(|group| mapped(&range).map(|()| group)) {
            Ok(group) => (found.group, found.uids) = (Some(group), Some(range)),
            Err(why) => found.shared = Some(why),
        }
    }
    Ok(found)
}

/// Whether guests run on KVM here, as far as that is known before libvirt is asked.
pub(crate) async fn on_kvm(config: &Config) -> bool {
    config.libvirt.accel.text() != "qemu" && kvm_works(Path::new("/usr/bin/qemu-system-x86_64")).await
}

/// The configured numbers.
fn uids(config: &Config) -> Result<Option<RangeInclusive<u32>>> {
    let key = config.libvirt.guest_uids.name();
    let text = config.libvirt.guest_uids.text();
    if text.is_empty() {
        return Ok(None);
    }
    let context =
        || format!("configuration: {key} = {text:?}: expecting two numbers, such as 1900000001-1900065535");
    let (first, last) = text.split_once('-').with_context(context)?;
    let (first, last): (u32, u32) = (
        first.parse().with_context(context)?,
        last.parse().with_context(context)?,
    );
    // Below are the system's own users and people; the last number is nobody's.
    ensure!(first >= 1000 && first <= last && last < u32::MAX, context());
    let others = [
        ("network.dhcp_uid", config.network.dhcp_uid.get()?),
        ("images.convert_uid", config.images.convert_uid.get()?),
    ];
    for (other, uid) in others {
        ensure!(
            !(first..=last).contains(&uid),
            "configuration: {other} = {uid} is among {key} = {text}"
        );
    }
    Ok(Some(first..=last))
}

/// The group in which a guest with a number of its own gets to what libvirt keeps for it, and to KVM where it uses that.
fn own_group(usual: u32, kvm: bool) -> Result<u32, String> {
    let needs = std::fs::metadata("/dev/kvm").ok().filter(|_| kvm);
    let needs = needs
        .filter(|kvm| kvm.mode() & 0o006 != 0o006)
        .map(|kvm| kvm.gid());
    let group = needs.unwrap_or(usual);
    let Some(closed) = closed(Path::new(RUNNING), group)? else {
        return Ok(group);
    };
    let (closed, gets) = (
        closed.display(),
        if needs.is_some() {
            "gets to /dev/kvm and"
        } else {
            "does"
        },
    );
    Err(format!(
        "a guest with a number of its own {gets} not get through {closed}; what helps: scripts/setup-host, or \
         chmod o+x {closed}"
    ))
}

/// The first folder, of libvirt's and the one above it, that a group does not get through.
fn closed(running: &Path, group: u32) -> Result<Option<&Path>, String> {
    for folder in running.parent().into_iter().chain([running]) {
        let is = std::fs::metadata(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let passes = is.mode() & 0o001 != 0 || (is.gid() == group && is.mode() & 0o010 != 0);
        if !passes {
            return Ok(Some(folder));
        }
    }
    Ok(None)
}

/// Whether the numbers are users here: in a container many are not.
fn mapped(range: &RangeInclusive<u32>) -> Result<(), String> {
    let text = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if is_mapped(&text, range) {
        return Ok(());
    }
    Err(
        "the numbers of libvirt.guest_uids are no users here (a container's are few): set it to others"
            .to_owned(),
    )
}

fn is_mapped(text: &str, range: &RangeInclusive<u32>) -> bool {
    let mut lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let first: u64 = words.next()?.parse().ok()?;
        let count: u64 = words.nth(1)?.parse().ok()?;
        Some(first..first + count)
    });
    lines.any(|mapped| {
        mapped.contains(&u64::from(*range.start())) && mapped.contains(&u64::from(*range.end()))
    })
}

/// The user that libvirt runs QEMU as, by the text of its configuration.
fn qemu_user(text: &str) -> Option<User> {
    let find = |name: &str| User::from_name(name).ok().flatten();
    match configured(text, "user") {
        // `+0`: a number, and no name that looks like one.
        Some(name) => find(name).or_else(|| {
            let uid = name.trim_start_matches('+').parse().ok()?;
            User::from_uid(Uid::from_raw(uid)).ok().flatten()
        }),
        None => QEMU_USERS.into_iter().find_map(find),
    }
}

/// The group that libvirt runs QEMU in.
fn qemu_group(text: &str, user: &User) -> u32 {
    let find = |name: &str| Group::from_name(name).ok().flatten().map(|group| group.gid);
    let gid = match configured(text, "group") {
        Some(name) => find(name).or_else(|| name.trim_start_matches('+').parse().ok().map(Gid::from_raw)),
        // Debian has a group of the user's name beside its primary one.
        None => find(&user.name),
    };
    gid.unwrap_or(user.gid).as_raw()
}

/// A value in the text of qemu.conf.
fn configured<'t>(text: &'t str, wanted: &str) -> Option<&'t str> {
    let mut values = text.lines().filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == wanted).then_some(value.trim().trim_matches('"'))
    });
    values.next_back()
}

/// Whether the memory of guests' processes is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemoryLimit {
    /// Where it can be.
    Auto,
    /// A guest without a bound does not start.
    Always,
    /// It is not.
    Never,
}

/// What is configured of that.
pub(crate) fn memory_limit(config: &Config) -> Result<MemoryLimit> {
    let key = &config.libvirt.memory_limit;
    match key.text() {
        "auto" => Ok(MemoryLimit::Auto),
        "always" => Ok(MemoryLimit::Always),
        "never" => Ok(MemoryLimit::Never),
        other => bail!(
            "configuration: {} = {other:?}; expecting auto, always or never",
            key.name()
        ),
    }
}

/// Why the memory of guests' processes can't be bounded here, if it can't: libvirt needs a control group for it, and
/// the right to let a process lock as much memory.
pub(crate) fn unbounded_memory() -> Option<&'static str> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    match (has_memory_groups(), may_raise_limits(&status)) {
        (false, _) => Some("the kernel has no control group for memory here"),
        (true, false) => Some("root may not raise limits here (CAP_SYS_RESOURCE)"),
        (true, true) => None,
    }
}

/// Whether a process may raise limits, by its status: the capability `CAP_SYS_RESOURCE`.
fn may_raise_limits(status: &str) -> bool {
    const SYS_RESOURCE: u64 = 1 << 24;
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = mask.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    mask.is_some_and(|mask| mask & SYS_RESOURCE != 0)
}

fn has_memory_groups() -> bool {
    let unified = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    unified.split_whitespace().any(|name| name == "memory")
        || Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists()
        || Path::new("/sys/fs/cgroup/memory/memory.use_hierarchy").exists()
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::Write as _,
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn a_folder_that_a_guests_group_does_not_get_through_is_named() {
        use std::os::unix::fs::PermissionsExt as _;
        let above = tempfile::tempdir().unwrap();
        let running = above.path().join("qemu");
        std::fs::create_dir(&running).unwrap();
        let own = std::fs::metadata(&running).unwrap().gid();
        let set = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        for (outer, inner, by_own, by_other) in [
            (0o755, 0o750, None, Some(running.as_path())),
            (0o755, 0o751, None, None),
            (0o755, 0o700, Some(running.as_path()), Some(running.as_path())),
            (0o750, 0o751, None, Some(above.path())),
            (0o711, 0o711, None, None),
        ] {
            set(above.path(), outer);
            set(&running, inner);
            assert_eq!(closed(&running, own).unwrap(), by_own, "{outer:o} {inner:o}");
            assert_eq!(
                closed(&running, own + 1).unwrap(),
                by_other,
                "{outer:o} {inner:o}"
            );
        }
        assert!(closed(&above.path().join("none"), own).is_err());
    }

    #[test]
    fn libvirts_configuration_names_the_user() {
        for (text, user) in [
            ("", None),
            ("#user = \"root\"\ngroup = \"kvm\"\n", None),
            ("user = \"root\"\n", Some("root")),
            ("  user=\"+0\"  \n", Some("+0")),
            ("user = \"a\"\nuser = \"b\"\n#user = \"c\"\n", Some("b")),
        ] {
            assert_eq!(configured(text, "user"), user, "{text:?}");
        }
        let root = qemu_user("user = \"+0\"\n").unwrap();
        assert_eq!(
            (root.name.as_str(), qemu_group("group = \"+7\"\n", &root)),
            ("root", 7)
        );
    }

    #[test]
    fn numbers_of_guests_are_two_that_nobody_else_has() {
        let of = |text: &str| uids(&Config::of(&[("libvirt.guest_uids", text)]));
        assert_eq!(of("").unwrap(), None);
        assert_eq!(of("70000-70009").unwrap(), Some(70_000..=70_009));
        for bad in [
            "7",
            "0-9",
            "9-7",
            "a-b",
            "5000-4000",
            "70000-4294967295",
            "1900000000-1900000009",
            "1900065000-1900066000",
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
        let config = Config::of(&[]);
        assert!(uids(&config).unwrap().is_some(), "the default");
    }

    #[test]
    fn limits_are_raised_with_the_capability_for_it() {
        assert!(may_raise_limits("Name:\tx\nCapEff:\t000001ffffffffff\n"));
        assert!(!may_raise_limits("CapEff:\t000001fffeffffff\n"));
        assert!(!may_raise_limits(""));
    }

    #[test]
    fn a_containers_users_are_few() {
        assert!(is_mapped(
            "         0          0 4294967295\n",
            &(1_900_000_001..=1_900_065_535)
        ));
        assert!(!is_mapped("0 100000 65536\n", &(1_900_000_001..=1_900_065_535)));
        assert!(is_mapped("0 100000 65536\n", &(60_000..=65_535)));
        assert!(!is_mapped("", &(60_000..=65_535)));
    }

    /// What virsh says, or why it does not.
    fn virsh(uri: &str, words: &[&str], input: &str) -> Result<String, String> {
        let mut virsh = Command::new("timeout");
        virsh.args(["60", "virsh", "-q", "-c", uri]).args(words);
        let piped = virsh.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = piped.stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let done = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if done.status.success() {
            Ok(text(&done.stdout))
        } else {
            Err(text(&done.stderr))
        }
    }

    /// Starts a domain of KVM with the label that the driver gives guests (`libvirt/xml.rs`), asks it for KVM, and ends
    /// it. It is paused all the while: there are hosts where a guest of KVM hangs.
    fn kvm_of(uri: &str, uid: u32, gid: u32) -> Result<String, String> {
        let name = format!("cumulet-kvm-{}", std::process::id());
        let xml = format!(
            "<domain type='kvm'><name>{name}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>\
             <os><type arch='x86_64' machine='q35'>hvm</type></os>\
             <seclabel type='static' model='dac' relabel='yes'><label>+{uid}:+{gid}</label></seclabel></domain>"
        );
        virsh(uri, &["create", "--paused", "/dev/stdin"], &xml)?;
        let asked = [
            "qemu-monitor-command",
            name.as_str(),
            r#"{"execute":"query-kvm"}"#,
        ];
        let told = virsh(uri, &asked, "");
        virsh(uri, &["destroy", &name], "")?;
        told
    }

    /// With a real libvirtd, which `CUMULET_TEST_LIBVIRT` names, as the tests of its driver have it.
    #[test]
    fn a_guest_of_its_own_user_gets_to_kvm_by_its_group() {
        let Ok(uri) = std::env::var("CUMULET_TEST_LIBVIRT") else {
            println!("not run: CUMULET_TEST_LIBVIRT is not set");
            return;
        };
        let device = match File::options().read(true).write(true).open("/dev/kvm") {
            Ok(device) => device.metadata().unwrap(),
            Err(error) => {
                println!("not run: /dev/kvm: {error}");
                return;
            }
        };
        let text = std::fs::read_to_string(QEMU_CONF).unwrap_or_default();
        let user = qemu_user(&text).expect("libvirt's user for guests");
        let uids = uids(&Config::of(&[])).unwrap().unwrap();
        let own = own_group(qemu_group(&text, &user), true).and_then(|group| mapped(&uids).map(|()| group));
        let group = match own {
            Ok(group) => group,
            Err(why) => {
                println!("not run, since guests have no users of their own here: {why}");
                return;
            }
        };
        let uid = *uids.end();
        let told = kvm_of(&uri, uid, group).unwrap_or_else(|why| panic!("in group {group}: {why}"));
        assert!(told.contains(r#""enabled":true"#), "{told}");
        if device.mode() & 0o006 == 0o006 {
            println!("not run: a guest that can't open /dev/kvm, which everybody can here");
            return;
        }
        // A group that nobody is in.
        let why = kvm_of(&uri, uid, uid).expect_err("it has opened what it may not");
        let shut = why.to_lowercase().contains("initialize kvm: permission denied");
        assert!(shut, "{why}");
    }
}
