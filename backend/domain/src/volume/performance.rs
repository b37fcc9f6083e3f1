//! Sizes and provisioned performance of volumes by their type: EC2's bounds and what it shows where nothing is said.

use std::ops::RangeInclusive;

use super::VolumeType;
use crate::{Error, Result};

/// What is asked of a volume; each is what it is to have, and nothing where the type says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Provisioned {
    /// Reads and writes in a second.
    pub iops: Option<u32>,
    /// MiB in a second.
    pub throughput: Option<u32>,
}

/// What EC2 shows of a volume's performance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Performance {
    pub iops: Option<u32>,
    pub throughput: Option<u32>,
}

/// How many reads and writes may be provisioned: the bounds, and for each GiB at the most.
struct Iops {
    range: RangeInclusive<u32>,
    each_gib: u32,
    required: bool,
}

impl VolumeType {
    /// Its sizes in GiB.
    pub const fn sizes(self) -> RangeInclusive<u32> {
        match self {
            VolumeType::Gp2 => 1..=16_384,
            VolumeType::Gp3 => 1..=65_536,
            VolumeType::Io1 => 4..=16_384,
            VolumeType::Io2 => 4..=65_536,
            VolumeType::St1 | VolumeType::Sc1 => 125..=16_384,
            VolumeType::Standard => 1..=1024,
        }
    }

    /// How many snapshots of one are taken at a time, at the most (EBS user guide, "Quotas": concurrent snapshots per
    /// volume).
    pub const fn concurrent_snapshots(self) -> u64 {
        match self {
            VolumeType::Gp2 | VolumeType::Gp3 | VolumeType::Io1 | VolumeType::Io2 | VolumeType::Standard => 5,
            VolumeType::St1 | VolumeType::Sc1 => 1,
        }
    }

    const fn provisionable(self) -> Option<Iops> {
        let (range, each_gib, required) = match self {
            VolumeType::Gp3 => (3000..=80_000, 500, false),
            VolumeType::Io1 => (100..=64_000, 50, true),
            VolumeType::Io2 => (100..=256_000, 1000, true),
            VolumeType::Gp2 | VolumeType::St1 | VolumeType::Sc1 | VolumeType::Standard => return None,
        };
        Some(Iops {
            range,
            each_gib,
            required,
        })
    }

    /// Checks what is asked of a new volume of this type.
    ///
    /// # Errors
    /// `InvalidParameter`, `InvalidCombination`, `MissingParameter`, each naming what it is about.
    pub fn check(self, size_gib: u32, asked: Provisioned) -> Result<()> {
        let sizes = self.sizes();
        let size = size_gib.to_string();
        if size_gib < *sizes.start() {
            let reason = format!(
                "volume of {size}GiB is too small; minimum is {}GiB",
                sizes.start()
            );
            return Err(Error::invalid("Size", &size, reason));
        }
        if size_gib > *sizes.end() {
            let most = sizes.end();
            let reason =
                format!("volume of {size}GiB is too large for volume type {self}; maximum is {most}GiB");
            return Err(Error::invalid("Size", &size, reason));
        }
        self.check_iops(size_gib, asked.iops)?;
        self.check_throughput(asked)
    }

    fn check_iops(self, size_gib: u32, asked: Option<u32>) -> Result<()> {
        let combination = |reason: String| Err(Error::InvalidCombination { reason });
        match (self.provisionable(), asked) {
            (None, Some(_)) => {
                combination(format!("The parameter iops is not supported for {self} volumes."))
            }
            (Some(Iops { required: true, .. }), None) => combination(format!(
                "The parameter iops must be specified for {self} volumes."
            )),
            (_, None) => Ok(()),
            (Some(Iops { range, each_gib, .. }), Some(iops)) => {
                if self == VolumeType::Io2 && iops > *range.end() {
                    return combination(
                        "io2 volumes configured with greater than 64 TiB or 256K IOPS or 1000:1 IOPS:GB ratio are \
                         not supported"
                            .into(),
                    );
                }
                if !range.contains(&iops) {
                    let (word, bound, value) = if iops < *range.start() {
                        ("low; minimum", range.start(), iops)
                    } else {
                        ("high; maximum", range.end(), iops)
                    };
                    let reason = format!("volume iops of {value} is too {word} is {bound}");
                    return Err(Error::invalid("Iops", &value.to_string(), reason));
                }
                // What a type has anyway, its smallest volume has too.
                if iops > *range.start() && u64::from(iops) > u64::from(size_gib) * u64::from(each_gib) {
                    return combination(format!(
                        "Iops to volume size ratio of {iops} to {size_gib} is too high; maximum is {each_gib} to 1."
                    ));
                }
                Ok(())
            }
        }
    }

    fn check_throughput(self, asked: Provisioned) -> Result<()> {
        let Some(mib) = asked.throughput else {
            return Ok(());
        };
        if self != VolumeType::Gp3 {
            let reason = format!("The parameter throughput is not supported for {self} volumes.");
            return Err(Error::InvalidCombination { reason });
        }
        if !(125..=2000).contains(&mib) {
            let reason = "a volume has a throughput of 125 to 2000 MiB/s";
            return Err(Error::invalid("Throughput", &mib.to_string(), reason));
        }
        let iops = asked.iops.unwrap_or(3000);
        if u64::from(mib) * 4 > u64::from(iops) {
            let reason =
                format!("Throughput (MiB/s) to iops ratio of {mib} to {iops} is too high; maximum is 0.25.");
            return Err(Error::InvalidCombination { reason });
        }
        Ok(())
    }

    /// What EC2 shows of a volume of this type.
    pub fn performance(self, size_gib: u32, asked: Provisioned) -> Performance {
        let (iops, throughput) = match self {
            VolumeType::Gp2 => (Some(size_gib.saturating_mul(3).clamp(100, 16_000)), None),
            VolumeType::Gp3 => (Some(3000), Some(125)),
            _ => (None, None),
        };
        Performance {
            iops: asked.iops.or(iops),
            throughput: asked.throughput.or(throughput),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn asked(iops: Option<u32>, throughput: Option<u32>) -> Provisioned {
        Provisioned { iops, throughput }
    }

    #[test]
    fn each_type_has_its_bounds() {
        use VolumeType::*;
        for (kind, size, iops, throughput, good) in [
            (Gp2, 0, None, None, false),
            (Gp2, 1, None, None, true),
            (Gp2, 16_384, None, None, true),
            (Gp2, 16_385, None, None, false),
            (Gp2, 100, Some(300), None, false),
            (Gp3, 1, Some(3000), Some(125), true),
            (Gp3, 1, Some(3001), None, false),
            (Gp3, 65_536, Some(80_000), Some(2000), true),
            (Gp3, 100, Some(2999), None, false),
            (Gp3, 1000, Some(80_001), None, false),
            (Gp3, 100, None, Some(124), false),
            (Gp3, 100, None, Some(750), true),
            (Gp3, 100, None, Some(751), false),
            (Gp3, 1000, Some(80_000), Some(2001), false),
            (Io1, 4, None, None, false),
            (Io1, 3, Some(100), None, false),
            (Io1, 4, Some(200), None, true),
            (Io1, 4, Some(201), None, false),
            (Io1, 4, Some(99), None, false),
            (Io2, 256, Some(256_000), None, true),
            (Io2, 256, Some(256_000), Some(125), false),
            (St1, 124, None, None, false),
            (St1, 125, None, None, true),
            (Sc1, 125, None, Some(125), false),
            (Standard, 1024, None, None, true),
            (Standard, 1025, None, None, false),
            (Standard, u32::MAX, None, None, false),
            (Standard, 1, Some(100), None, false),
        ] {
            let found = kind.check(size, asked(iops, throughput));
            assert_eq!(
                found.is_ok(),
                good,
                "{kind} {size} {iops:?} {throughput:?}: {found:?}"
            );
        }
    }

    #[test]
    fn what_is_shown_is_what_was_asked_or_what_the_type_has() {
        use VolumeType::*;
        for (kind, size, wanted, iops, throughput) in [
            (Gp2, 8, asked(None, None), Some(100), None),
            (Gp2, 100, asked(None, None), Some(300), None),
            (Gp2, 16_000, asked(None, None), Some(16_000), None),
            (Gp3, 8, asked(None, None), Some(3000), Some(125)),
            (Gp3, 80, asked(Some(4000), Some(500)), Some(4000), Some(500)),
            (Io2, 80, asked(Some(400), None), Some(400), None),
            (Standard, 8, asked(None, None), None, None),
        ] {
            let shown = kind.performance(size, wanted);
            assert_eq!((shown.iops, shown.throughput), (iops, throughput), "{kind}");
        }
    }
}
