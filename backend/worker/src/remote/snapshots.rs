//! Snapshots' data from afar: the backing of a store whose manifests and segments another machine has. Blocks are read as
//! they are needed, and brought as they come; nothing of a snapshot is kept on this host.

use std::{io, sync::Arc};

use cumulet_domain::{id::SnapshotId, rng::SharedRng, storage::PIECE};
use cumulet_snapshots::{BLOCK, Backing, Digest, NewSegment, Segments, SnapshotStore};
use rand::Rng as _;
use ureq::http::Method;

use super::{
    client::{Has, StorageClient},
    grants::{Grants, Of},
};
use crate::snapshots::Stores;

/// See the module.
#[derive(Clone)]
pub struct RemoteSnapshots {
    client: Arc<StorageClient>,
    grants: Arc<Grants>,
    rng: SharedRng,
}

impl RemoteSnapshots {
    /// The snapshots at a storage door.
    pub const fn new(client: Arc<StorageClient>, grants: Arc<Grants>, rng: SharedRng) -> Self {
        RemoteSnapshots { client, grants, rng }
    }

    fn store(&self, of: &Of, brings: Option<SnapshotId>) -> io::Result<SnapshotStore<RemoteBacking>> {
        Ok(SnapshotStore::over(RemoteBacking {
            grant: self.grants.of(of)?,
            client: self.client.clone(),
            rng: self.rng.clone(),
            brings,
        }))
    }
}

impl Stores for RemoteSnapshots {
    type Backing = RemoteBacking;

    fn to_read(&self, manifest: &str) -> io::Result<SnapshotStore<RemoteBacking>> {
        self.store(&Of::Manifest(manifest.to_owned()), None)
    }

    fn to_bring(&self, snapshot: SnapshotId) -> io::Result<SnapshotStore<RemoteBacking>> {
        self.store(&Of::Snapshot(snapshot), Some(snapshot))
    }
}

/// The store as one command may use it.
pub struct RemoteBacking {
    client: Arc<StorageClient>,
    grant: Arc<str>,
    rng: SharedRng,
    /// The snapshot that it is used to bring.
    brings: Option<SnapshotId>,
}

impl RemoteBacking {
    fn upload(&self, part: &'static str) -> io::Result<Upload> {
        let brings = self
            .brings
            .ok_or_else(|| io::Error::other("nothing is to be brought"))?;
        Ok(Upload {
            client: self.client.clone(),
            grant: self.grant.clone(),
            snapshot: brings,
            part,
            number: self.rng.with(|rng| rng.next_u64()),
            waiting: Vec::new(),
            sent: 0,
            is_done: false,
        })
    }
}

impl Backing for RemoteBacking {
    type New = Upload;

    fn manifest(&self, name: Digest) -> io::Result<Vec<u8>> {
        let (path, mut bytes) = (format!("/manifests/{name}"), Vec::new());
        loop {
            let (piece, all) = self.client.get(&self.grant, &path, bytes.len() as u64, PIECE)?;
            bytes.extend_from_slice(&piece);
            if piece.is_empty() || bytes.len() as u64 >= all {
                return Ok(bytes);
            }
        }
    }

    fn segments(&self, manifest: Digest) -> Box<dyn Segments + '_> {
        Box::new(Reader {
            backing: self,
            manifest,
            ahead: None,
        })
    }

    fn begin(&self) -> io::Result<Upload> {
        self.upload("segment")
    }

    fn publish(&self, segment: Option<(Upload, Digest)>, name: Digest, manifest: &[u8]) -> io::Result<()> {
        let mut whole = self.upload("manifest")?;
        for piece in manifest.chunks(usize::try_from(PIECE).unwrap_or(usize::MAX)) {
            whole.send(piece)?;
        }
        let mut path = format!(
            "/snapshots/{}?name={name}&manifest={:x}",
            whole.snapshot, whole.number
        );
        let mut segment = segment.map(|(segment, _)| segment);
        if let Some(segment) = &mut segment {
            segment.flush()?;
            path.push_str(&format!("&segment={:x}", segment.number));
        }
        self.client.tell(Method::POST, &self.grant, &path)?;
        whole.is_done = true;
        if let Some(segment) = &mut segment {
            segment.is_done = true;
        }
        Ok(())
    }
}

/// A part of a snapshot on its way.
pub struct Upload {
    client: Arc<StorageClient>,
    grant: Arc<str>,
    snapshot: SnapshotId,
    part: &'static str,
    /// By it the server knows which one is meant.
    number: u64,
    /// What is less than a piece.
    waiting: Vec<u8>,
    sent: u64,
    is_done: bool,
}

impl Upload {
    fn path(&self) -> String {
        format!("/snapshots/{}/{}/{:x}", self.snapshot, self.part, self.number)
    }

    fn send(&mut self, piece: &[u8]) -> io::Result<()> {
        let end = self.sent + piece.len() as u64;
        let Has(has) = self.client.put(&self.grant, &self.path(), self.sent, piece)?;
        if has != end {
            let why = format!("the upload has {has} bytes and not {end}: somebody has removed it meanwhile");
            return Err(io::Error::new(io::ErrorKind::HostUnreachable, why));
        }
        self.sent = end;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.waiting);
        self.send(&piece)?;
        self.waiting = piece;
        self.waiting.clear();
        Ok(())
    }
}

impl NewSegment for Upload {
    fn add(&mut self, content: &[u8]) -> io::Result<()> {
        self.waiting.extend_from_slice(content);
        match self.waiting.len() as u64 >= PIECE {
            true => self.flush(),
            false => Ok(()),
        }
    }
}

impl Drop for Upload {
    /// Where this fails, too, a sweep removes it.
    fn drop(&mut self) {
        if self.is_done || self.sent == 0 {
            return;
        }
        if let Err(error) = self.client.tell(Method::DELETE, &self.grant, &self.path()) {
            tracing::warn!(snapshot = %self.snapshot, %error, "an upload can't be given up");
        }
    }
}

/// Segments that are read. A disk's blocks lie mostly one behind the other: who reads on is read ahead for.
struct Reader<'b> {
    backing: &'b RemoteBacking,
    manifest: Digest,
    /// The last piece: of which segment, from which slot on.
    ahead: Option<(Digest, u64, Vec<u8>)>,
}

impl Reader<'_> {
    /// Where a block is in the last piece.
    fn found(&self, segment: Digest, slot: u64) -> Option<&[u8]> {
        let (of, first, bytes) = self.ahead.as_ref()?;
        let at = usize::try_from(slot.checked_sub(*first)?.checked_mul(BLOCK)?).ok()?;
        let end = at.checked_add(usize::try_from(BLOCK).ok()?)?;
        bytes.get(at..end).filter(|_| *of == segment)
    }

    /// How many bytes to ask for: more where the last piece ends right before.
    fn most(&self, segment: Digest, slot: u64) -> u64 {
        let goes_on = self
            .ahead
            .as_ref()
            .is_some_and(|(of, first, bytes)| *of == segment && *first + bytes.len() as u64 / BLOCK == slot);
        if goes_on { PIECE } else { BLOCK }
    }
}

impl Segments for Reader<'_> {
    fn read(&mut self, segment: Digest, slot: u32, into: &mut [u8]) -> io::Result<()> {
        let slot = u64::from(slot);
        if self.found(segment, slot).is_none() {
            let path = format!("/manifests/{}/segments/{segment}", self.manifest);
            let most = self.most(segment, slot);
            let backing = self.backing;
            let (bytes, _) = backing.client.get(&backing.grant, &path, slot * BLOCK, most)?;
            self.ahead = Some((segment, slot, bytes));
        }
        let cut = || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("segment {segment} ends before {slot}"),
            )
        };
        into.copy_from_slice(self.found(segment, slot).ok_or_else(cut)?);
        Ok(())
    }
}
