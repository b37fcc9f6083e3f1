//! Names of devices, as an attachment has them: EC2's, which the guest need not follow.

use crate::{Error, Result};

/// Checks the name under which a volume is to be attached: `/dev/sdb` to `/dev/sdz`, `/dev/xvdb` to `/dev/xvdz`, and
/// both with two letters, also without `/dev/`. (A letter of `a` is the root's.)
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
    Err(Error::NoDeviceName {
        device: device.chars().take(128).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
