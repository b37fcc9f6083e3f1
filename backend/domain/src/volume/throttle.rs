//! What a volume may do in a second, by its type, size and what is provisioned: EC2's figures, as the disk's limits
//! for its guest.
//!
//! Credits are not counted. A gp2 volume below 1 TiB has the rate of its bursts always, 3,000 reads and writes, and not
//! the 100 that a small root would boot from for minutes once its credits are gone. The types that stream (st1, sc1)
//! have their baseline, which is what they are sized by.

use super::{Provisioned, VolumeType};
use crate::spec::Throttle;

/// What gp2 does in a burst.
const BURST: u32 = 3000;

impl VolumeType {
    /// What the disk of a volume of this type may do.
    pub fn throttle(self, size_gib: u32, asked: Provisioned) -> Throttle {
        let has = self.performance(size_gib, asked);
        let (operations, kib) = match self {
            VolumeType::Gp2 => {
                let mib = if size_gib <= 170 { 128 } else { 250 };
                (has.iops.map(|baseline| baseline.max(BURST)), mib << 10)
            }
            VolumeType::Gp3 => (has.iops, u64::from(has.throughput.unwrap_or(125)) << 10),
            VolumeType::Io1 => (has.iops, io1(has.iops)),
            VolumeType::Io2 => (has.iops, io2(has.iops)),
            VolumeType::St1 => (Some(500), each_tib(40, size_gib, 500)),
            VolumeType::Sc1 => (Some(250), each_tib(12, size_gib, 192)),
            VolumeType::Standard => (Some(100), 90 << 10),
        };
        Throttle {
            bytes: Some(kib << 10),
            operations: operations.map(u64::from),
        }
    }
}

/// KiB in a second of an io1 volume: 256 for each read or write, up to 500 MiB; 16 for each where that is more, up to
/// 1,000 MiB.
fn io1(iops: Option<u32>) -> u64 {
    let iops = iops.map_or(64_000, u64::from);
    (iops * 256).min(500 << 10).max(iops * 16).min(1000 << 10)
}

/// KiB in a second of an io2 volume: 0.256 MiB for each read or write, up to 4,000 MiB.
fn io2(iops: Option<u32>) -> u64 {
    let iops = iops.map_or(256_000, u64::from);
    (iops * 256 * 1024 / 1000).min(4000 << 10)
}

/// KiB in a second of a volume with so many MiB for each TiB, and no more than `most` MiB.
fn each_tib(mib: u64, size_gib: u32, most: u64) -> u64 {
    (mib * u64::from(size_gib)).min(most << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_its_limits() {
        use VolumeType::*;
        let kib = |mib: u64| mib << 10;
        for (kind, size, iops, throughput, operations, most) in [
            (Gp2, 1, None, None, Some(3000), kib(128)),
            (Gp2, 170, None, None, Some(3000), kib(128)),
            (Gp2, 171, None, None, Some(3000), kib(250)),
            (Gp2, 1000, None, None, Some(3000), kib(250)),
            (Gp2, 2000, None, None, Some(6000), kib(250)),
            (Gp2, 16_384, None, None, Some(16_000), kib(250)),
            (Gp3, 1, None, None, Some(3000), kib(125)),
            (Gp3, 100, Some(5000), Some(700), Some(5000), kib(700)),
            (Io1, 100, Some(100), None, Some(100), kib(25)),
            (Io1, 100, Some(2000), None, Some(2000), kib(500)),
            (Io1, 1000, Some(32_000), None, Some(32_000), kib(500)),
            (Io1, 2000, Some(48_000), None, Some(48_000), kib(750)),
            (Io1, 2000, Some(64_000), None, Some(64_000), kib(1000)),
            (Io1, 8, None, None, None, kib(1000)),
            (Io2, 100, Some(1000), None, Some(1000), kib(256)),
            (Io2, 100, Some(15_625), None, Some(15_625), kib(4000)),
            (Io2, 256, Some(256_000), None, Some(256_000), kib(4000)),
            (Io2, 8, None, None, None, kib(4000)),
            (St1, 125, None, None, Some(500), 5000),
            (St1, 1024, None, None, Some(500), kib(40)),
            (St1, 16_384, None, None, Some(500), kib(500)),
            (Sc1, 125, None, None, Some(250), 1500),
            (Sc1, 1024, None, None, Some(250), kib(12)),
            (Sc1, 16_384, None, None, Some(250), kib(192)),
            (Standard, 1, None, None, Some(100), kib(90)),
        ] {
            let found = kind.throttle(size, Provisioned { iops, throughput });
            let expected = Throttle {
                bytes: Some(most << 10),
                operations,
            };
            assert_eq!(found, expected, "{kind} of {size} GiB, {iops:?}, {throughput:?}");
        }
    }
}
