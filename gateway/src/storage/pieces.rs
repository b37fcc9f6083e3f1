//! What hosts read: a piece of a file at a time, so that whoever is cut off asks for the rest.

use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    sync::{Arc, Mutex, PoisonError},
};

use actix_web::{HttpRequest, HttpResponse, body::SizedStream, http::StatusCode, web};
use bytes::Bytes;
use cumulet_backend::api::snapshots::{Digest, Uploads};
use futures::stream;

use super::{
    Shared,
    refusal::Refusal,
    requests::{Turn, blocking, granted, range},
};

/// Bytes that are handed over to a connection at a time.
const CHUNK: usize = 64 << 10;

/// Manifests whose segments are kept in mind.
const KNOWN: usize = 64;

/// Which segments manifests name: those that are read at the moment.
#[derive(Default)]
pub(super) struct Named(Mutex<HashMap<Digest, Arc<BTreeSet<Digest>>>>);

impl Named {
    fn of(&self, uploads: &Uploads, manifest: Digest) -> io::Result<Arc<BTreeSet<Digest>>> {
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(named) = known().get(&manifest) {
            return Ok(named.clone());
        }
        let named = Arc::new(uploads.segments_of(manifest)?);
        let mut known = known();
        if known.len() >= KNOWN {
            known.clear();
        }
        known.insert(manifest, named.clone());
        Ok(named)
    }
}

/// The digest in a path.
pub(super) fn digest(text: &str) -> Result<Digest, Refusal> {
    let wrong = || {
        Refusal::Malformed(format!(
            "{text:?} is no SHA-256 in 64 lower-case hexadecimal digits"
        ))
    };
    Digest::parse(text).ok_or_else(wrong)
}

/// That one of these is what the path names.
fn among(granted: &[String], wanted: &str) -> Result<(), Refusal> {
    match granted.iter().any(|digest| digest == wanted) {
        true => Ok(()),
        false => Err(Refusal::NotGranted(format!("the grant does not name {wanted}"))),
    }
}

/// A piece of an image's file.
pub(super) async fn image(
    shared: web::Data<Shared>,
    request: HttpRequest,
    image: web::Path<String>,
) -> Result<HttpResponse, Refusal> {
    let (grant, image) = (granted(&shared, &request)?, digest(&image)?.to_string());
    among(&grant.images, &image)?;
    let (first, most) = range(&request)?;
    let turn = shared.turns.wait(&grant.host).await?;
    let path = shared.images.join(image);
    let read = blocking(move || Piece::read(&File::open(path)?, first, most));
    Ok(read.await?.answer(turn))
}

/// A piece of a manifest.
pub(super) async fn manifest(
    shared: web::Data<Shared>,
    request: HttpRequest,
    manifest: web::Path<String>,
) -> Result<HttpResponse, Refusal> {
    let (grant, manifest) = (granted(&shared, &request)?, digest(&manifest)?);
    among(&grant.manifests, &manifest.to_string())?;
    let (first, most) = range(&request)?;
    let turn = shared.turns.wait(&grant.host).await?;
    let uploads = shared.uploads.clone();
    let read = blocking(move || Piece::read(&uploads.store().manifest_file(manifest)?, first, most));
    Ok(read.await?.answer(turn))
}

/// A piece of a segment that a manifest names.
pub(super) async fn segment(
    shared: web::Data<Shared>,
    request: HttpRequest,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Refusal> {
    let grant = granted(&shared, &request)?;
    let (manifest, segment) = (digest(&path.0)?, digest(&path.1)?);
    among(&grant.manifests, &manifest.to_string())?;
    let (first, most) = range(&request)?;
    let turn = shared.turns.wait(&grant.host).await?;
    let shared = shared.clone().into_inner();
    let read = blocking(move || {
        if !shared.named.of(&shared.uploads, manifest)?.contains(&segment) {
            let why = format!("the manifest {manifest} does not name the segment {segment}");
            return Err(Refusal::NotGranted(why));
        }
        Piece::read(&shared.uploads.store().segment_file(segment)?, first, most)
    });
    Ok(read.await?.answer(turn))
}

/// A piece of a file.
struct Piece {
    bytes: Bytes,
    first: u64,
    /// The bytes of the file.
    all: u64,
}

impl Piece {
    /// So many bytes at the most.
    fn read(file: &File, first: u64, most: u64) -> Result<Self, Refusal> {
        let all = file.metadata()?.len();
        if first >= all {
            return Err(Refusal::NoSuchRange(all));
        }
        let length = most.min(all - first);
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, first)?;
        let bytes = bytes.into();
        Ok(Piece { bytes, first, all })
    }

    /// The turn is over when the host has taken it, or is cut.
    fn answer(self, turn: Turn) -> HttpResponse {
        let length = self.bytes.len() as u64;
        let range = format!("bytes {}-{}/{}", self.first, self.first + length - 1, self.all);
        let mut left = self.bytes;
        let chunks = std::iter::from_fn(move || {
            let _its = &turn;
            let chunk = left.split_to(CHUNK.min(left.len()));
            (!chunk.is_empty()).then_some(Ok::<_, io::Error>(chunk))
        });
        HttpResponse::build(StatusCode::PARTIAL_CONTENT)
            .content_type("application/octet-stream")
            .insert_header(("content-range", range))
            .body(SizedStream::new(length, stream::iter(chunks)))
    }
}
