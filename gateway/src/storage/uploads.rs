//! What hosts bring: the segment and the manifest of a snapshot, piece by piece.

use std::io;

use actix_web::{HttpRequest, HttpResponse, error::PayloadError, web};
use bytes::Bytes;
use cumulet_backend::api::snapshots::{Digest, Most, Part, Put, UploadName};
use cumulet_domain::{
    id::SnapshotId,
    storage::{OFFSET, PIECE, StorageGrant, most_of_manifest, most_of_segment},
};
use serde::Deserialize;

use super::{
    Shared,
    pieces::digest,
    refusal::Refusal,
    requests::{blocking, granted},
};

/// Where a piece belongs.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct At {
    offset: u64,
}

/// Which uploads a snapshot consists of.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parts {
    name: String,
    manifest: String,
    segment: Option<String>,
}

/// The query of a request, as it is to be.
fn query<T: serde::de::DeserializeOwned>(request: &HttpRequest) -> Result<T, Refusal> {
    let query = web::Query::<T>::from_query(request.query_string());
    let query = query.map_err(|error| Refusal::Malformed(format!("?{}: {error}", request.query_string())))?;
    Ok(query.into_inner())
}

/// The snapshot of a path, which the grant must name, and the bytes of its disk.
fn snapshot(grant: &StorageGrant, text: &str) -> Result<(String, u64), Refusal> {
    let id: SnapshotId = text
        .parse()
        .map_err(|_| Refusal::Malformed(format!("{text:?} is no snapshot's id")))?;
    let none = || Refusal::NotGranted(format!("the grant does not name {id}"));
    Ok((id.to_string(), grant.disk_of(id).ok_or_else(none)?))
}

fn upload(snapshot: &str, number: &str, part: Part) -> Result<UploadName, Refusal> {
    let wrong = || {
        Refusal::Malformed(format!(
            "{number:?} is no upload's number, 1 to 16 hexadecimal digits"
        ))
    };
    let number = u64::from_str_radix(number, 16).map_err(|_| wrong())?;
    UploadName::new(snapshot, number, part).ok_or_else(wrong)
}

fn part(text: &str) -> Result<Part, Refusal> {
    match text {
        "segment" => Ok(Part::Segment),
        "manifest" => Ok(Part::Manifest),
        _ => Err(Refusal::Malformed(format!(
            "{text:?} is no part of a snapshot; expecting segment or manifest"
        ))),
    }
}

/// A piece, whole.
async fn piece(body: web::Payload) -> Result<Bytes, Refusal> {
    let limit = usize::try_from(PIECE).unwrap_or(usize::MAX);
    let too_large = || Refusal::Malformed(format!("a piece has {limit} bytes at the most"));
    let body = body.to_bytes_limited(limit).await.map_err(|_| too_large())?;
    body.map_err(|error| match error.as_error::<PayloadError>() {
        Some(PayloadError::Io(late)) if late.kind() == io::ErrorKind::TimedOut => Refusal::Late,
        _ => Refusal::Malformed(format!("the piece did not come whole: {error}")),
    })
}

/// Adds a piece.
pub(super) async fn put(
    shared: web::Data<Shared>,
    request: HttpRequest,
    path: web::Path<(String, String, String)>,
    body: web::Payload,
) -> Result<HttpResponse, Refusal> {
    let grant = granted(&shared, &request)?;
    let (id, disk) = snapshot(&grant, &path.0)?;
    let (name, At { offset }) = (upload(&id, &path.2, part(&path.1)?)?, query(&request)?);
    let most = Most {
        segment: most_of_segment(disk),
        manifest: most_of_manifest(disk),
    };
    // Its memory is counted by its turn.
    let turn = shared.turns.wait(&grant.host).await?;
    let piece = piece(body).await?;
    let uploads = shared.uploads.clone();
    let put = blocking(move || {
        let _turn = turn;
        Ok(uploads.put(&name, offset, &piece, most)?)
    });
    match put.await? {
        Put::There(bytes) => Ok(HttpResponse::Ok()
            .insert_header((OFFSET, bytes.to_string()))
            .finish()),
        Put::Gap(bytes) => Err(Refusal::Gap(bytes)),
    }
}

/// Gives uploads their names.
pub(super) async fn finish(
    shared: web::Data<Shared>,
    request: HttpRequest,
    path: web::Path<String>,
) -> Result<HttpResponse, Refusal> {
    let grant = granted(&shared, &request)?;
    let (id, _) = snapshot(&grant, &path)?;
    let parts: Parts = query(&request)?;
    let name = digest(&parts.name)?;
    let manifest = upload(&id, &parts.manifest, Part::Manifest)?;
    let segment = parts.segment.map(|number| upload(&id, &number, Part::Segment));
    let segment = segment.transpose()?;
    let bases = grant.manifests.iter().map(|base| digest(base));
    let bases: Vec<Digest> = bases.collect::<Result<_, _>>()?;
    let turn = shared.turns.wait(&grant.host).await?;
    let uploads = shared.uploads.clone();
    blocking(move || {
        let _turn = turn;
        Ok(uploads.finish(segment.as_ref(), &manifest, name, &bases)?)
    })
    .await?;
    tracing::info!(host = %grant.host, snapshot = %id, manifest = %name, "a host has brought a snapshot");
    Ok(HttpResponse::NoContent().finish())
}

/// Removes what came of an upload.
pub(super) async fn give_up(
    shared: web::Data<Shared>,
    request: HttpRequest,
    path: web::Path<(String, String, String)>,
) -> Result<HttpResponse, Refusal> {
    let grant = granted(&shared, &request)?;
    let (id, _) = snapshot(&grant, &path.0)?;
    let name = upload(&id, &path.2, part(&path.1)?)?;
    let turn = shared.turns.wait(&grant.host).await?;
    let uploads = shared.uploads.clone();
    blocking(move || {
        let _turn = turn;
        Ok(uploads.give_up(&name)?)
    })
    .await?;
    Ok(HttpResponse::NoContent().finish())
}
