//! `cumulet doctor`: the checks of what this host can do, and of what is enforced on it.

mod ceph;
mod programs;

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Args;
use cumulet_hypervisor::{
    Diagnosis,
    probe::{io_uring, kvm_works},
};

use super::CloudArgs;
use crate::{
    config::Config,
    telemetry::say,
    wiring::guests::{self, GuestUsers, MemoryLimit},
};
use programs::PROGRAMS;

/// See the module.
#[derive(Args, Debug)]
pub(crate) struct Doctor {
    #[command(flatten)]
    cloud: CloudArgs,
}

/// The emulator's program.
const QEMU: &str = "qemu-system-x86_64";

/// What a check found.
struct Finding {
    what: &'static str,
    /// Whether instances can run without it.
    needed: bool,
    result: Result<String, Fault>,
}

/// What is the matter.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    /// It is not there, or not as it has to be.
    Lacks(String),
    /// It is there and does not answer in time.
    Late(String),
    /// It is there, answers, and takes long.
    Slow(String),
}

impl From<String> for Fault {
    fn from(text: String) -> Self {
        Fault::Lacks(text)
    }
}

impl Doctor {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let findings = runtime.block_on(self.findings(&self.cloud.config()?))?;
        // A call of libvirt that has not come back is not waited for.
        runtime.shutdown_background();
        Ok(tell(&findings))
    }

    async fn findings(&self, config: &Config) -> Result<Vec<Finding>> {
        let slow = Duration::from_secs(config.hypervisor.slow_call.get()?);
        let kvm = kvm_works(Path::new(QEMU)).await;
        let mut findings = vec![
            check("root", true, root()),
            check("libvirt", true, libvirt(config.libvirt.uri.text(), slow).await),
            check("acceleration", false, acceleration(kvm)),
            check("UEFI", false, uefi(&FIRMWARE.map(Path::new))),
            check("guests", false, guests(config, kvm)),
            check("bounds", false, bounds(config)),
            check("guests' disks", false, disks(io_uring(Path::new(QEMU)).await)),
            check(
                "confinement",
                false,
                confinement(config.libvirt.uri.text(), slow).await,
            ),
        ];
        for program in &PROGRAMS {
            findings.push(check(program.what, true, program.check().await));
        }
        findings.push(check("tun", true, tun()));
        let (bus, tunnel) = (&config.bus, &config.network.tunnel_address);
        findings.push(check("tunnels", false, tunnels(bus.text(), tunnel.text())));
        findings.extend(ceph::findings(config).await);
        let folder = self
            .cloud
            .open()
            .map_or_else(|_| "/".into(), |s| s.path().to_owned());
        findings.push(check("disk", true, disk(&folder)));
        Ok(findings)
    }
}

/// Prints what was found, and what is enforced.
fn tell(findings: &[Finding]) -> ExitCode {
    let mut sound = true;
    for finding in findings {
        say(finding.line());
        sound &= finding.is_sound();
    }
    say("enforced: security groups and anti-spoofing by nftables in a namespace for each VPC; image formats");
    say(
        "          inspected before QEMU sees them; metadata by interface; in the database, secrets and user data",
    );
    say(
        "          sealed with the master key (a host keeps what its guests read in files that root alone reads)",
    );
    if sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn check(what: &'static str, needed: bool, result: Result<String, impl Into<Fault>>) -> Finding {
    let result = result.map_err(Into::into);
    Finding { what, needed, result }
}

impl Finding {
    /// Whether instances can run with what was found.
    fn is_sound(&self) -> bool {
        !self.needed || matches!(self.result, Ok(_) | Err(Fault::Slow(_)))
    }

    fn line(&self) -> String {
        let (mark, text) = match &self.result {
            Ok(text) => ("ok     ", text),
            Err(Fault::Lacks(text)) if self.needed => ("MISSING", text),
            Err(Fault::Lacks(text)) => ("limited", text),
            Err(Fault::Late(text)) => ("SLOW   ", text),
            Err(Fault::Slow(text)) => ("slow   ", text),
        };
        format!("{mark}  {:14} {text}", self.what)
    }
}

fn root() -> Result<String, String> {
    if nix::unistd::geteuid().is_root() {
        Ok("yes".into())
    } else {
        Err("the worker needs root for namespaces and taps".into())
    }
}

fn tun() -> Result<String, String> {
    if Path::new("/dev/net/tun").exists() {
        Ok("/dev/net/tun".into())
    } else {
        Err("no /dev/net/tun (modprobe tun)".into())
    }
}

/// Where libvirt looks for what describes a guest's firmware.
const FIRMWARE: [&str; 2] = ["/etc/qemu/firmware", "/usr/share/qemu/firmware"];

/// Whether guests can be started by UEFI.
fn uefi(folders: &[&Path]) -> Result<String, String> {
    let files = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok());
    let described = files.flatten().flatten().find(|file| {
        let text = std::fs::read_to_string(file.path()).unwrap_or_default();
        text.contains("\"uefi\"") && text.contains("\"x86_64\"")
    });
    match described {
        Some(file) => Ok(file.path().display().to_string()),
        None => Err(
            "none: an instance of an image that asks for it fails here; what helps: apt-get install ovmf"
                .into(),
        ),
    }
}

/// The key with the address that other hosts send to.
const TUNNEL: &str = "network.tunnel_address";

/// Whether instances of a VPC reach each other across hosts.
fn tunnels(bus: &str, address: &str) -> Result<String, String> {
    match (bus, address) {
        ("", _) => Ok("none are needed: all roles are in one process".into()),
        (_, "") => Err(format!(
            "none: where the cloud has other hosts, this one takes no launches; what helps: set `{TUNNEL}` to an \
             address that they reach, then `cumulet admin host confirm NAME`"
        )),
        (_, address) => Ok(format!(
            "{address}; `cumulet admin host show NAME` tells whether it is confirmed"
        )),
    }
}

fn acceleration(kvm: bool) -> Result<String, String> {
    match (kvm, Path::new("/dev/kvm").exists()) {
        (true, _) => Ok("KVM (a probe guest ran on it)".into()),
        (false, true) => Err("emulation: /dev/kvm exists and a probe guest did not run on it".into()),
        (false, false) => Err("emulation: there is no /dev/kvm".into()),
    }
}

/// As whom guests run.
fn guests(config: &Config, kvm: bool) -> Result<String, String> {
    let users = guests::read(config, kvm).map_err(|error| error.to_string())?;
    let root = config.libvirt.guests_as_root.get().unwrap_or(false);
    as_whom(&users, root)
}

/// The same, once it is read.
fn as_whom(users: &GuestUsers, may_be_root: bool) -> Result<String, String> {
    let usual = users.usual.map_or_else(
        || "the user of this process".to_owned(),
        |(uid, _)| format!("user {uid}"),
    );
    let found = match (&users.uids, users.usual) {
        (Some(uids), _) => Ok(format!(
            "each as a user of its own ({}-{})",
            uids.start(),
            uids.end()
        )),
        (None, Some((0, _))) => {
            Err("all as root, as qemu.conf says: who gets out of one has the host".to_owned())
        }
        (None, _) => {
            let why = users
                .shared
                .as_ref()
                .map(|why| format!(": {why}"))
                .unwrap_or_default();
            Err(format!("all as {usual}: who gets out of one gets into all{why}"))
        }
    };
    match (found, may_be_root) {
        (Ok(text) | Err(text), true) => Err(format!(
            "{text}; as root where nobody else could reach their disks (`libvirt.guests_as_root`)"
        )),
        (found, false) => found,
    }
}

/// How guests' disks are read and written.
fn disks(uring: Result<(), &str>) -> Result<String, String> {
    let past = "past the page cache, where their file system can do that";
    match uring {
        Ok(()) => Ok(format!("by io_uring, {past}")),
        Err(why) => Err(format!(
            "by the kernel's older asynchronous I/O, {past}; io_uring: {why}"
        )),
    }
}

/// What of the host each guest may use.
fn bounds(config: &Config) -> Result<String, String> {
    let limit = guests::memory_limit(config).map_err(|error| error.to_string())?;
    match (limit, guests::unbounded_memory()) {
        (MemoryLimit::Never, _) => {
            Err("disk and network of each guest; not its memory: `libvirt.memory_limit` says never".into())
        }
        (_, None) => Ok("memory, disk and network of each guest".into()),
        (MemoryLimit::Auto, Some(why)) => {
            Err(format!("disk and network of each guest; not its memory: {why}"))
        }
        (MemoryLimit::Always, Some(why)) => Err(format!(
            "memory, disk and network of each guest; libvirt may start none: {why}, and `libvirt.memory_limit` says always"
        )),
    }
}

/// What confines guests beside their users.
#[cfg(feature = "libvirt")]
async fn confinement(uri: &str, most: Duration) -> Result<String, Fault> {
    use cumulet_hypervisor::{Error, libvirt};
    let found = match libvirt::confinement(uri, most).await {
        Ok(found) => found,
        Err(Error::Late(_)) => {
            return Err(Fault::Late(
                "not known: libvirt does not answer, see above".into(),
            ));
        }
        Err(error) => return Err(Fault::Lacks(error.to_string())),
    };
    match found.mandatory() {
        Some(model) => Ok(format!("{model}: a guest's process gets at its own files alone")),
        None => Err(Fault::Lacks(
            "neither AppArmor nor SELinux confines guests: their users alone keep them apart".into(),
        )),
    }
}

#[cfg(not(feature = "libvirt"))]
async fn confinement(_: &str, _: Duration) -> Result<String, String> {
    Err("this binary was built without libvirt".into())
}

/// How long libvirt takes for a call such as a launch makes.
#[cfg(feature = "libvirt")]
async fn libvirt(uri: &str, slow: Duration) -> Result<String, Fault> {
    use cumulet_hypervisor::{libvirt::measure, slow::diagnose};
    answered(measure(uri, slow).await, slow, diagnose)
}

/// A call from which on a healthy libvirt is slow, though launches work.
const SLUGGISH: Duration = Duration::from_secs(3);

/// What libvirt's answer says of it.
#[cfg_attr(not(feature = "libvirt"), allow(dead_code))]
fn answered(
    answer: cumulet_hypervisor::Result<Duration>,
    slow: Duration,
    diagnose: impl FnOnce() -> Diagnosis,
) -> Result<String, Fault> {
    use cumulet_hypervisor::Error;
    match answer {
        Ok(took) if took >= slow.min(SLUGGISH) => {
            let Diagnosis { cause, cure } = diagnose();
            let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
            let took = took.as_secs_f64();
            Err(Fault::Slow(format!(
                "it answers, and a call takes {took:.1} s{cause}; a launch makes three; what helps: {cure}"
            )))
        }
        Ok(took) => Ok(format!("a call takes {:.2} s", took.as_secs_f64())),
        Err(Error::Late(_)) => Err(Fault::Late(too_slow(slow, diagnose()))),
        Err(Error::Away(error)) => Err(Fault::Lacks(format!(
            "{error} (is libvirtd running? it is in the package libvirt-daemon-system)"
        ))),
        Err(error) => Err(Fault::Lacks(error.to_string())),
    }
}

#[cfg(not(feature = "libvirt"))]
async fn libvirt(_: &str, _: Duration) -> Result<String, String> {
    Err("this binary was built without libvirt; only --driver fake works".into())
}

/// That a call takes too long, with the cause and what helps.
#[cfg_attr(not(feature = "libvirt"), allow(dead_code))]
fn too_slow(slow: Duration, Diagnosis { cause, cure }: Diagnosis) -> String {
    let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
    format!(
        "it is there and does not answer: a call takes more than {} s{cause}, too slow to launch anything; what helps: {cure}",
        slow.as_secs()
    )
}

fn disk(path: &Path) -> Result<String, String> {
    let stat = nix::sys::statvfs::statvfs(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let free = (stat.blocks_available() * stat.fragment_size()) >> 30;
    let text = format!("{free} GiB free at {}", path.display());
    if free >= 2 { Ok(text) } else { Err(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uefi_is_what_libvirt_finds_described() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("60-edk2.json");
        assert!(uefi(&[Path::new("/nowhere"), folder.path()]).is_err());
        for (text, there) in [
            (
                r#"{"interface-types": ["bios"], "architecture": "x86_64"}"#,
                false,
            ),
            (
                r#"{"interface-types": ["uefi"], "architecture": "aarch64"}"#,
                false,
            ),
            (r#"{"interface-types": ["uefi"], "architecture": "x86_64"}"#, true),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(uefi(&[folder.path()]).is_ok(), there, "{text}");
        }
    }

    #[test]
    fn as_whom_guests_run_is_told() {
        let usual = Some((64_055, 64_055));
        let own = GuestUsers {
            usual,
            group: Some(7),
            uids: Some(5000..=5009),
            shared: None,
        };
        assert!(as_whom(&own, false).is_ok_and(|told| told.contains("5000-5009")));
        assert!(as_whom(&own, true).is_err_and(|told| told.contains("as root")));
        let shared = GuestUsers {
            uids: None,
            shared: Some("no room".into()),
            ..own.clone()
        };
        assert!(
            as_whom(&shared, false).is_err_and(|told| told.contains("64055") && told.ends_with("no room"))
        );
        let root = GuestUsers {
            usual: Some((0, 0)),
            uids: None,
            ..own
        };
        assert!(as_whom(&root, false).is_err_and(|told| told.contains("all as root")));
    }

    #[test]
    fn what_is_slow_is_told_with_its_cause_and_its_cure() {
        let diagnosis = |cause: Option<&str>| Diagnosis {
            cause: cause.map(str::to_owned),
            cure: "chmod 660 /dev/kvm".into(),
        };
        let told = too_slow(Duration::from_secs(15), diagnosis(Some("it is closed")));
        assert!(told.contains("15 s: it is closed, too slow"), "{told}");
        let told = too_slow(Duration::from_secs(15), diagnosis(None));
        assert!(
            told.contains("15 s, too slow") && told.ends_with("what helps: chmod 660 /dev/kvm"),
            "{told}"
        );
    }

    #[test]
    fn a_slow_libvirt_is_slow_and_only_one_that_is_away_is_missing() {
        use cumulet_hypervisor::Error;
        let (second, slow) = (Duration::from_secs(1), Duration::from_secs(15));
        let diagnose = || Diagnosis {
            cause: Some("its load is 70".into()),
            cure: "wait".into(),
        };
        for (answer, mark, words) in [
            (Ok(second / 10), "ok     ", "a call takes 0.10 s"),
            (
                Ok(7 * second),
                "slow   ",
                "it answers, and a call takes 7.0 s: its load is 70",
            ),
            (
                Err(Error::Late(slow)),
                "SLOW   ",
                "does not answer: a call takes more than 15 s",
            ),
            (
                Err(Error::Away("no socket".into())),
                "MISSING",
                "is libvirtd running?",
            ),
            (Err(Error::Refused("no".into())), "MISSING", "refused"),
        ] {
            let found = check("libvirt", true, answered(answer, slow, diagnose));
            let line = found.line();
            assert_eq!(
                found.is_sound(),
                matches!(mark.trim_end(), "ok" | "slow"),
                "{line}"
            );
            assert!(line.starts_with(mark) && line.contains(words), "{line}");
            assert_eq!(
                line.contains("what helps: wait"),
                mark.eq_ignore_ascii_case("slow   "),
                "{line}"
            );
        }
    }

    #[test]
    fn a_host_of_many_needs_a_tunnel_address() {
        assert!(tunnels("", "").is_ok());
        assert!(tunnels("amqps://x", "192.0.2.11").is_ok_and(|told| told.starts_with("192.0.2.11")));
        assert!(tunnels("amqps://x", "").is_err_and(|told| told.contains(TUNNEL)));
    }
}
