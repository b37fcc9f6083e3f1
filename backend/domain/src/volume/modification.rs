//! Modifications of volumes: what one is asked to become, and what it comes to by EC2's rules. A volume only grows; its
//! type, and what is provisioned for it, may be changed to anything that such a volume may have.

use super::{Provisioned, VolumeType};
use crate::{Error, Result, named};

named! {
    /// Where a modification is in its life. Nothing is left to be optimised here once a volume is as it is to be.
    ModificationState {
        Modifying = "modifying",
        Optimizing = "optimizing",
        Completed = "completed",
        Failed = "failed",
    }
}

/// What of a volume can be modified, as it is or as it is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeShape {
    /// Its size.
    pub size_gib: u32,
    /// Its type.
    pub kind: VolumeType,
    /// What was asked for.
    pub provisioned: Provisioned,
}

/// What is asked of a volume; nothing where it is to stay as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct VolumeChange {
    pub size_gib: Option<u32>,
    pub kind: Option<VolumeType>,
    pub iops: Option<u32>,
    pub throughput: Option<u32>,
}

/// Reads and writes in a second that a volume gets with a type that has to be told them.
const IOPS: u32 = 3000;

impl VolumeShape {
    /// What becomes of such a volume.
    ///
    /// # Errors
    /// `InvalidParameter`, `InvalidCombination`, each naming what it is about.
    pub fn changed(self, asked: VolumeChange) -> Result<VolumeShape> {
        if asked == VolumeChange::default() {
            let reason = "At least one of Size, VolumeType, Iops and Throughput must be specified".into();
            return Err(Error::InvalidCombination { reason });
        }
        let size_gib = asked.size_gib.unwrap_or(self.size_gib);
        if size_gib < self.size_gib {
            let reason = "New size cannot be smaller than existing size";
            return Err(Error::invalid("Size", &size_gib.to_string(), reason));
        }
        let kind = asked.kind.unwrap_or(self.kind);
        // What was said of another type does not hold for this one.
        let kept = match kind == self.kind {
            true => self.provisioned,
            false => Provisioned {
                iops: matches!(kind, VolumeType::Io1 | VolumeType::Io2).then_some(IOPS),
                throughput: None,
            },
        };
        let changed = VolumeShape {
            size_gib,
            kind,
            provisioned: Provisioned {
                iops: asked.iops.or(kept.iops),
                throughput: asked.throughput.or(kept.throughput),
            },
        };
        kind.check(size_gib, changed.provisioned)?;
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn shape(
        size_gib: u32,
        kind: VolumeType,
        iops: Option<u32>,
        throughput: Option<u32>,
    ) -> VolumeShape {
        VolumeShape {
            size_gib,
            kind,
            provisioned: Provisioned { iops, throughput },
        }
    }

    const fn change(
        size_gib: Option<u32>,
        kind: Option<VolumeType>,
        iops: Option<u32>,
        throughput: Option<u32>,
    ) -> VolumeChange {
        VolumeChange {
            size_gib,
            kind,
            iops,
            throughput,
        }
    }

    #[test]
    fn what_becomes_of_a_volume() {
        use VolumeType::*;
        let (gp2, gp3) = (shape(8, Gp2, None, None), shape(8, Gp3, Some(4000), Some(500)));
        for (from, asked, expected) in [
            (
                gp2,
                change(Some(9), None, None, None),
                Ok(shape(9, Gp2, None, None)),
            ),
            (gp2, change(Some(8), None, None, None), Ok(gp2)),
            // It keeps what was asked of it, and gives it up with its type.
            (
                gp3,
                change(Some(80), None, None, None),
                Ok(shape(80, Gp3, Some(4000), Some(500))),
            ),
            (gp3, change(None, Some(Gp2), None, None), Ok(gp2)),
            (
                gp2,
                change(None, Some(Gp3), None, None),
                Ok(shape(8, Gp3, None, None)),
            ),
            (
                gp3,
                change(None, None, None, Some(1000)),
                Ok(shape(8, Gp3, Some(4000), Some(1000))),
            ),
            (
                gp2,
                change(Some(60), Some(Io1), None, None),
                Ok(shape(60, Io1, Some(3000), None)),
            ),
            (
                gp2,
                change(None, Some(Io1), Some(400), None),
                Ok(shape(8, Io1, Some(400), None)),
            ),
            (
                gp2,
                change(None, Some(Io1), None, None),
                Err("too high; maximum is 50 to 1"),
            ),
            (
                gp2,
                change(None, None, Some(400), None),
                Err("iops is not supported for gp2"),
            ),
            (
                gp3,
                change(None, Some(Gp2), None, Some(125)),
                Err("throughput is not supported for gp2"),
            ),
            (
                gp2,
                change(Some(7), None, None, None),
                Err("New size cannot be smaller than existing size"),
            ),
            (
                gp2,
                change(Some(16_385), None, None, None),
                Err("maximum is 16384GiB"),
            ),
            (gp2, change(None, Some(St1), None, None), Err("minimum is 125GiB")),
            (
                gp3,
                change(None, None, Some(2000), None),
                Err("is too low; minimum is 3000"),
            ),
            (gp2, change(None, None, None, None), Err("At least one of")),
        ] {
            let found = from.changed(asked);
            match (&found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(*found, expected, "{from:?} {asked:?}"),
                (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
                (found, expected) => panic!("{from:?} {asked:?}: {found:?}, {expected:?}"),
            }
        }
    }
}
