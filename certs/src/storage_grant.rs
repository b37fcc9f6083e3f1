//! Grants of the stores of images and of snapshots, sealed with the master key for whoever serves them: a host carries
//! one with its requests, and can neither read nor change it. What is sealed is
//!
//! ```text
//! version 1 byte (1) | until 8 | host 1 + its name
//!   | images 2 + 32 each | manifests 2 + 32 each | snapshots 2 + (id 8, bytes of its disk 8) each
//! ```
//!
//! where numbers are big-endian, and a number before a list says how many there are.

use cumulet_domain::{
    id::{HostId, SnapshotId},
    storage::StorageGrant,
    time::Timestamp,
};
use rand::CryptoRng;

use crate::seal::{Purpose, SealError, Sealer};

const VERSION: u8 = 1;

/// Why a grant is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantRefusal {
    /// This cloud has not made it.
    #[error("the grant is not of this cloud")]
    Invalid,
    /// Its time is over. The host is told again what it needs, with another one.
    #[error("the grant has expired")]
    Expired,
}

/// A grant as a host carries it.
///
/// # Errors
/// Those of sealing; `Invalid` where it names what is no SHA-256.
pub fn seal<R: CryptoRng + ?Sized>(
    sealer: &Sealer,
    rng: &mut R,
    grant: &StorageGrant,
) -> Result<String, SealError> {
    let plain = written(grant).ok_or(SealError::Invalid)?;
    sealer.seal(rng, Purpose::STORAGE_GRANT, b"", &plain)
}

/// The grant that a host carries.
///
/// # Errors
/// See [`GrantRefusal`].
pub fn open(sealer: &Sealer, text: &str, now: Timestamp) -> Result<StorageGrant, GrantRefusal> {
    let plain = sealer.open(Purpose::STORAGE_GRANT, b"", text);
    let plain = plain.map_err(|_| GrantRefusal::Invalid)?;
    let grant = read(plain.expose()).ok_or(GrantRefusal::Invalid)?;
    if now >= grant.until {
        return Err(GrantRefusal::Expired);
    }
    Ok(grant)
}

fn written(grant: &StorageGrant) -> Option<Vec<u8>> {
    let mut out = vec![VERSION];
    out.extend_from_slice(&grant.until.0.to_be_bytes());
    let host = grant.host.0.as_bytes();
    out.push(u8::try_from(host.len()).ok()?);
    out.extend_from_slice(host);
    for digests in [&grant.images, &grant.manifests] {
        out.extend_from_slice(&u16::try_from(digests.len()).ok()?.to_be_bytes());
        for digest in digests {
            let mut bytes = [0; 32];
            hex::decode_to_slice(digest, &mut bytes).ok()?;
            out.extend_from_slice(&bytes);
        }
    }
    out.extend_from_slice(&u16::try_from(grant.snapshots.len()).ok()?.to_be_bytes());
    for (id, bytes) in &grant.snapshots {
        out.extend_from_slice(&id.number().to_be_bytes());
        out.extend_from_slice(&bytes.to_be_bytes());
    }
    Some(out)
}

fn read(bytes: &[u8]) -> Option<StorageGrant> {
    let (version, rest) = bytes.split_first()?;
    let (until, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first()?;
    let (host, rest) = rest.split_at_checked(usize::from(*length))?;
    let (images, rest) = digests(rest)?;
    let (manifests, rest) = digests(rest)?;
    let (count, rest) = rest.split_first_chunk::<2>()?;
    let (entries, odd) = rest.as_chunks::<16>();
    if *version != VERSION || !odd.is_empty() || entries.len() != usize::from(u16::from_be_bytes(*count)) {
        return None;
    }
    let snapshots = entries.iter().map(|entry| {
        let (id, bytes) = entry.split_first_chunk::<8>()?;
        let id = SnapshotId::new(u64::from_be_bytes(*id));
        Some((id, u64::from_be_bytes(bytes.try_into().ok()?)))
    });
    Some(StorageGrant {
        host: HostId(std::str::from_utf8(host).ok()?.to_owned()),
        until: Timestamp(i64::from_be_bytes(*until)),
        images,
        manifests,
        snapshots: snapshots.collect::<Option<_>>()?,
    })
}

/// A list of digests, and what comes after it.
fn digests(bytes: &[u8]) -> Option<(Vec<String>, &[u8])> {
    let (count, rest) = bytes.split_first_chunk::<2>()?;
    let (list, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*count)) * 32)?;
    Some((list.chunks(32).map(hex::encode).collect(), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::MasterKey;

    fn sealer(key: u8) -> Sealer {
        Sealer::new(MasterKey::from_bytes([key; 32]))
    }

    fn grant() -> StorageGrant {
        StorageGrant {
            host: HostId("a.example".into()),
            until: Timestamp(1000),
            images: vec!["ab".repeat(32)],
            manifests: vec!["01".repeat(32), "ff".repeat(32)],
            snapshots: vec![(SnapshotId::new(7), 1 << 30)],
        }
    }

    #[test]
    fn a_grant_is_good_until_its_time_and_in_its_cloud() {
        let text = seal(&sealer(1), &mut StdRng::seed_from_u64(1), &grant()).unwrap();
        assert_eq!(open(&sealer(1), &text, Timestamp(999)), Ok(grant()));
        assert_eq!(
            open(&sealer(1), &text, Timestamp(1000)),
            Err(GrantRefusal::Expired)
        );
        assert_eq!(open(&sealer(2), &text, Timestamp(0)), Err(GrantRefusal::Invalid));
        // What is sealed for something else is no grant.
        let token = sealer(1).seal(&mut StdRng::seed_from_u64(1), Purpose::PAGE_TOKEN, b"", b"\x01");
        assert_eq!(
            open(&sealer(1), &token.unwrap(), Timestamp(0)),
            Err(GrantRefusal::Invalid)
        );
        assert_eq!(grant().disk_of(SnapshotId::new(7)), Some(1 << 30));
        assert_eq!(grant().disk_of(SnapshotId::new(8)), None);
    }

    #[test]
    fn what_is_no_digest_is_not_granted() {
        for wrong in ["", "abc", "../x", &"g".repeat(64)] {
            let grant = StorageGrant {
                images: vec![wrong.to_owned()],
                ..grant()
            };
            let sealed = seal(&sealer(1), &mut StdRng::seed_from_u64(1), &grant);
            assert_eq!(sealed, Err(SealError::Invalid), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            host in "[a-z.]{0,64}", until in any::<i64>(),
            images in prop::collection::vec("[0-9a-f]{64}", 0..30),
            manifests in prop::collection::vec("[0-9a-f]{64}", 0..30),
            snapshots in prop::collection::vec((any::<u64>(), any::<u64>()), 0..30),
        ) {
            let snapshots = snapshots.into_iter().map(|(id, bytes)| (SnapshotId::new(id), bytes)).collect();
            let grant = StorageGrant { host: HostId(host), until: Timestamp(until), images, manifests, snapshots };
            let bytes = written(&grant).unwrap();
            prop_assert_eq!(read(&bytes), Some(grant));
            for end in 0..bytes.len() {
                prop_assert_eq!(read(&bytes[..end]), None);
            }
        }

        #[test]
        fn whatever_it_is_it_is_read_within_itself(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(read(&bytes));
        }
    }
}
