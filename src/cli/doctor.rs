//! `cumulet doctor`: what this host can do, and what is enforced on it.

use std::{
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::Result;
use clap::Args;
use cumulet_hypervisor::probe::kvm_works;

use super::Place;
use crate::telemetry::say;

/// See the module.
#[derive(Args, Debug)]
pub(crate) struct Doctor {
    #[command(flatten)]
    place: Place,
}

/// What a check found.
struct Finding {
    what: &'static str,
    /// Whether instances can run without it.
    needed: bool,
    result: Result<String, String>,
}

impl Doctor {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let kvm = runtime.block_on(kvm_works(Path::new("qemu-system-x86_64")));
        let findings = [
            check("root", true, root()),
            check(
                "libvirt",
                true,
                program("virsh", &["-c", "qemu:///system", "version", "--daemon"]),
            ),
            check("qemu", true, program("qemu-system-x86_64", &["--version"])),
            check("acceleration", false, acceleration(kvm)),
            check("qemu-img", true, program("qemu-img", &["--version"])),
            check(
                "nftables",
                true,
                program("nft", &["--check", "add table inet cumulet_doctor"]),
            ),
            check("namespaces", true, program("unshare", &["--net", "true"])),
            check("tun", true, tun()),
            check("dnsmasq", true, program("dnsmasq", &["--version"])),
            check(
                "disk",
                true,
                disk(
                    self.place
                        .open()
                        .map_or_else(|_| "/".into(), |s| s.path().to_owned())
                        .as_path(),
                ),
            ),
        ];
        let mut sound = true;
        for finding in &findings {
            let (mark, text) = match &finding.result {
                Ok(text) => ("ok     ", text),
                Err(text) if finding.needed => ("MISSING", text),
                Err(text) => ("limited", text),
            };
            say(format_args!("{mark}  {:14} {text}", finding.what));
            sound &= finding.result.is_ok() || !finding.needed;
        }
        say(
            "enforced: security groups and anti-spoofing by nftables in a namespace for each VPC; image formats",
        );
        say(
            "          inspected before QEMU sees them; metadata by interface; secrets sealed with the master key",
        );
        Ok(if sound {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

fn check(what: &'static str, needed: bool, result: Result<String, String>) -> Finding {
    Finding { what, needed, result }
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

fn acceleration(kvm: bool) -> Result<String, String> {
    match (kvm, Path::new("/dev/kvm").exists()) {
        (true, _) => Ok("KVM (a probe guest ran on it)".into()),
        (false, true) => Err("emulation: /dev/kvm exists and a probe guest did not run on it".into()),
        (false, false) => Err("emulation: there is no /dev/kvm".into()),
    }
}

/// The first line that a program prints, or why it failed.
fn program(name: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(name)
        .args(arguments)
        .output()
        .map_err(|error| format!("{name}: {error}"))?;
    let text = |bytes: &[u8]| {
        String::from_utf8_lossy(bytes)
            .lines()
            .next()
            .unwrap_or("")
            .to_owned()
    };
    if output.status.success() {
        let line = text(&output.stdout);
        Ok(if line.is_empty() { "works".into() } else { line })
    } else {
        Err(format!(
            "{name} {}: {}",
            arguments.join(" "),
            text(&output.stderr)
        ))
    }
}

fn disk(path: &Path) -> Result<String, String> {
    let stat = nix::sys::statvfs::statvfs(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let free = (stat.blocks_available() * stat.fragment_size()) >> 30;
    let text = format!("{free} GiB free at {}", path.display());
    if free >= 2 { Ok(text) } else { Err(text) }
}
