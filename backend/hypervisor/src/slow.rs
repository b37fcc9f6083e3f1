//! Causes of a slow hypervisor, and what helps: found by a look at the host once calls are known to be slow.
//!
//! The worst one is `/dev/kvm` of a kind that udev would not have made. libvirt probes QEMU as root, which finds KVM,
//! and checks what it remembers as the emulators' user, which does not; so what it remembers is never valid, and each
//! call runs QEMU several times.

use std::{fs, io, os::unix::fs::MetadataExt as _};

/// The device of hardware virtualisation.
const KVM: &str = "/dev/kvm";

/// The group that Debian's rule gives the device to, and the user that emulators run as, who is in that group.
const GROUP: &str = "kvm";
const USER: &str = "libvirt-qemu";

/// A host with so many processes that want to run for each of its processors is busy.
const BUSY: f64 = 4.0;

/// Why calls are slow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// The cause, where one was found.
    pub cause: Option<String>,
    /// What the operator can do.
    pub cure: String,
}

/// Who may open a device: its mode, owner and group.
#[derive(Clone, Copy, Debug)]
struct Access {
    mode: u32,
    owner: u32,
    group: u32,
}

/// The numbers of the emulators' user and group, where there are such.
#[derive(Clone, Copy, Debug, Default)]
struct Emulators {
    user: Option<u32>,
    group: Option<u32>,
}

impl Access {
    fn lets_in(self, emulators: Emulators) -> bool {
        let may = |shift: u32| (self.mode >> shift) & 0o6 == 0o6;
        if emulators.user == Some(self.owner) {
            return may(6);
        }
        if emulators.group == Some(self.group) {
            return may(3);
        }
        may(0)
    }
}

/// Looks at the host.
pub fn diagnose() -> Diagnosis {
    let device = fs::metadata(KVM).ok().map(|m| Access {
        mode: m.mode(),
        owner: m.uid(),
        group: m.gid(),
    });
    let number = |file: &str, name: &str| number(&fs::read_to_string(file).ok()?, name);
    let emulators = Emulators {
        user: number("/etc/passwd", USER),
        group: number("/etc/group", GROUP),
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    judge(device, emulators, load().ok(), processors)
}

/// The number of a user or a group, in the text of `/etc/passwd` or `/etc/group`.
fn number(text: &str, name: &str) -> Option<u32> {
    let mut lines = text.lines().map(|line| line.split(':'));
    let mut named = lines.find_map(|mut fields| (fields.next() == Some(name)).then_some(fields))?;
    named.nth(1)?.parse().ok()
}

fn load() -> io::Result<f64> {
    let text = fs::read_to_string("/proc/loadavg")?;
    let first = text.split_whitespace().next().unwrap_or_default();
    first.parse().map_err(io::Error::other)
}

#[allow(clippy::cast_precision_loss)] // a count of processors
fn judge(device: Option<Access>, emulators: Emulators, load: Option<f64>, processors: usize) -> Diagnosis {
    if device.is_some_and(|device| !device.lets_in(emulators)) {
        return Diagnosis {
            cause: Some(format!("{KVM} can't be opened by the group {GROUP}")),
            cure: format!("chgrp {GROUP} {KVM}; chmod 660 {KVM}"),
        };
    }
    match load.filter(|load| *load > BUSY * processors as f64) {
        Some(load) => Diagnosis {
            cause: Some(format!("its load is {load:.0} on {processors} processors")),
            cure: "wait, or look at what runs there (top)".into(),
        },
        None => Diagnosis {
            cause: None,
            cure: "look into libvirtd's log (journalctl -u libvirtd)".into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEM: Emulators = Emulators {
        user: Some(64_055),
        group: Some(108),
    };

    fn device(mode: u32, owner: u32, group: u32) -> Access {
        Access {
            mode: 0o020_000 | mode,
            owner,
            group,
        }
    }

    #[test]
    fn who_may_open_the_device() {
        for (mode, owner, group, lets_in) in [
            (0o600, 0, 0, false),
            (0o660, 0, 0, false),
            (0o660, 0, 108, true),
            (0o640, 0, 108, false),
            (0o666, 0, 0, true),
            (0o606, 0, 108, false),
            (0o600, 64_055, 0, true),
            (0o066, 64_055, 108, false),
        ] {
            let has = device(mode, owner, group).lets_in(THEM);
            assert_eq!(has, lets_in, "{mode:o} {owner} {group}");
        }
        assert!(!device(0o660, 0, 0).lets_in(Emulators::default()));
    }

    #[test]
    fn the_device_comes_first_then_the_load_then_the_log() {
        let closed = Some(device(0o600, 0, 0));
        for (device, load, cause, cure) in [
            (
                closed,
                Some(99.0),
                Some("/dev/kvm"),
                "chgrp kvm /dev/kvm; chmod 660 /dev/kvm",
            ),
            (
                Some(device(0o660, 0, 108)),
                Some(280.2),
                Some("load is 280 on 2"),
                "top",
            ),
            (None, Some(8.1), Some("load is 8"), "top"),
            (None, Some(7.9), None, "log"),
            (None, None, None, "log"),
        ] {
            let found = judge(device, THEM, load, 2);
            assert_eq!(found.cause.is_some(), cause.is_some(), "{found:?}");
            assert!(
                found
                    .cause
                    .unwrap_or_default()
                    .contains(cause.unwrap_or_default())
            );
            assert!(found.cure.contains(cure), "{}", found.cure);
        }
    }

    #[test]
    fn numbers_are_read_from_the_systems_files() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nlibvirt-qemu:x:64055:108::/var/lib/libvirt:\nbad\n";
        assert_eq!(number(passwd, "libvirt-qemu"), Some(64_055));
        assert_eq!(number("kvm:x:108:\n", "kvm"), Some(108));
        assert_eq!((number(passwd, "bad"), number(passwd, "kvm")), (None, None));
        assert!(load().is_ok());
    }
}
