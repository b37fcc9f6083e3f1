//! Names of devices, as an attachment has them: EC2's, which the guest need not follow.

use crate::{Error, Result};

/// The names that a root device has, as an image says it. The guest's own name for it is its bus's.
pub const ROOT_DEVICES: [&str; 3] = ["/dev/xvda", "/dev/sda1", "/dev/sda"];

/// The one of a root whose image says nothing.
pub const ROOT_DEVICE: &str = ROOT_DEVICES[0];

/// Checks the name of an image's root device: one of [`ROOT_DEVICES`].
///
/// # Errors
/// `NoDeviceName`.
pub fn check_root_device(device: &str) -> Result<()> {
    if ROOT_DEVICES.contains(&device) {
        return Ok(());
    }
    Err(no_name(device))
}

/// Checks the name under which a volume is to be attached: `/dev/sdb` to `/dev/sdz`, `/dev/xvdb` to `/dev/xvdz`, and
/// both with two letters, also without `/dev/`. (A letter of `a` is the root's; a number at the end is for guests of
/// paravirtual machines on EC2, too.)
///
/// # Errors
/// `NoDeviceName`.
pub fn check_device(device: &str) -> Result<()> {
    let name = device.strip_prefix("/dev/").unwrap_or(device);
    let letters = ["xvd", "sd"].into_iter().find_map(|kind| name.strip_prefix(kind));
    let good = |letters: &str| {
        let all = letters.bytes().all(|byte| byte.is_ascii_lowercase());
        all && matches!(letters.len(), 1 | 2) && letters != "a"
    };
    if letters.is_some_and(good) {
        return Ok(());
    }
    Err(no_name(device))
}

fn no_name(device: &str) -> Error {
    Error::NoDeviceName {
        device: device.chars().take(128).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_roots() {
        for good in ["/dev/xvda", "/dev/sda1", "/dev/sda"] {
            assert_eq!(check_root_device(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "/dev/vda",
            "xvda",
            "/dev/sdb",
            "/dev/sda2",
            "/dev/xvda ",
            "/dev/nvme0n1",
        ] {
            let refused = Error::NoDeviceName { device: bad.into() };
            assert_eq!(check_root_device(bad), Err(refused));
        }
    }

    /// Those that clients make up by themselves: Kubernetes' driver for volumes goes through the first list.
    #[test]
    fn every_name_that_ec2_has_for_such_machines() {
        let letters = || 'a'..='z';
        let two =
            ('a'..='d').flat_map(|first| letters().map(move |second| format!("/dev/xvd{first}{second}")));
        let one = ('e'..='z').map(|letter| format!("/dev/xvd{letter}"));
        let sd = letters().skip(1).map(|letter| format!("/dev/sd{letter}"));
        for name in two.chain(one).chain(sd) {
            assert_eq!(check_device(&name), Ok(()), "{name}");
        }
    }

    #[test]
    fn names_of_devices() {
        for good in [
            "/dev/sdb",
            "/dev/sdz",
            "/dev/xvdb",
            "/dev/xvdaa",
            "/dev/sdba",
            "xvdh",
            "sdf",
        ] {
            assert_eq!(check_device(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "/dev/",
            "/dev/sd",
            "/dev/sda",
            "/dev/xvda",
            "/dev/sda1",
            "/dev/sdf1",
            "/dev/sdabc",
            "/dev/SDF",
            "/dev/nvme1n1",
            "/dev/vdb",
            "/dev//sdf",
            "xyz",
            "/dev/sd\u{e4}",
            "/dev/../sdf",
            " /dev/sdf",
        ] {
            assert_eq!(check_device(bad), Err(Error::NoDeviceName { device: bad.into() }));
        }
    }
}
