//! The adapter between actix and the door: it reads the request within its limits, and writes the answer.

use std::{io, net::Ipv4Addr, rc::Rc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        Method, StatusCode, Uri, Version,
        header::{self, HeaderName, HeaderValue},
    },
    web::{Data, Payload},
};
use cumulet_backend::api::Presence;
use futures::TryStreamExt as _;
use smallvec::SmallVec;
use tracing::Instrument as _;

use crate::{
    auth::RequestHead,
    bodies::Refusal,
    connection::{Member, Work},
    door::Door,
    limits::Limits,
    reply::{Body, Reply},
    service::Incoming,
};

/// How long a refusal is held back that is not to be had quickly.
const HELD_BACK: Duration = Duration::from_millis(100);

const SERVER: HeaderValue = HeaderValue::from_static("cumulet");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// Headers of a request that cost no allocation.
const HEADERS: usize = 16;

/// Answers every path: the old endpoints of EC2 (`/services/Cloud`, `/services/compute`) are served too.
pub(crate) async fn handle(request: HttpRequest, payload: Payload, door: Data<Door>) -> HttpResponse {
    let member = request.conn_data::<Rc<Member>>();
    let work = member.map(Member::work);
    let presence = member.map(|member| member.presence()).unwrap_or_default();
    let request_id = door.request_id();
    let span = tracing::info_span!("request", request_id = request_id.as_str());
    // In a box, since actix moves what it is given several times, and this is by far the most of it.
    let answer = Box::pin(answer(
        &request,
        payload,
        (work.as_ref(), presence),
        &door,
        &request_id,
    ));
    let reply = answer.instrument(span).await;
    if reply.held_back {
        if let Some(work) = &work {
            work.rests();
        }
        tokio::time::sleep(HELD_BACK).await;
    }
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    response
        .insert_header((header::CONTENT_TYPE, HeaderValue::from_static(reply.content_type)))
        .insert_header((header::SERVER, SERVER))
        .insert_header((REQUEST_ID, request_id));
    if let Some(kind) = &reply.error_type {
        response.insert_header(("x-amzn-errortype", &**kind));
    }
    match reply.body {
        Body::Whole(text) => response.body(text),
        // From here on the connection waits for its client, and an error cuts it.
        Body::Pieces(pieces) => response.streaming(pieces),
    }
}

async fn answer(
    request: &HttpRequest,
    payload: Payload,
    (work, presence): (Option<&Work>, Presence),
    door: &Door,
    request_id: &str,
) -> Reply {
    let head = request.head();
    let headers: SmallVec<[(&str, &[u8]); HEADERS]> = head
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    let view = RequestHead {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query().unwrap_or_default(),
        headers: &headers,
    };
    if let Err(refusal) = form(request) {
        return door.refuse_form(&view, refusal, request_id);
    }
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let mut pieces = payload.map_err(io::Error::other);
    // Of one without an address (a Unix socket, a test) all are one.
    let client = request
        .peer_addr()
        .map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.ip());
    let body = Incoming {
        pieces: &mut pieces,
        client,
        announced: announced.and_then(|value| value.to_str().ok()?.parse().ok()),
        time: work.map_or(Limits::default().body, Work::body_time),
        work,
    };
    door.take(view, body, presence, request_id).await
}

/// Whether the request is of a form that can be understood in one way only.
fn form(request: &HttpRequest) -> Result<(), Refusal> {
    if request.method() != Method::GET && request.method() != Method::POST {
        return Err((
            "MethodNotAllowed",
            405,
            "The method is not allowed; use POST or GET.",
        ));
    }
    let head = request.head();
    let host = head.headers.get(header::HOST).map(header::HeaderValue::as_bytes);
    if head.version != Version::HTTP_2 && !names_host(&head.uri, host) {
        return Err((
            "InvalidRequest",
            400,
            "The host of the request target is not the one of the Host header.",
        ));
    }
    if head.headers.contains_key(header::TRANSFER_ENCODING)
        && head.headers.contains_key(header::CONTENT_LENGTH)
    {
        return Err((
            "InvalidRequest",
            400,
            "A request has either a Content-Length or a Transfer-Encoding.",
        ));
    }
    Ok(())
}

/// Whether a request target in the absolute form, as a client sends it that takes us for its proxy, names the
/// host that the `Host` header does, which is the one that is signed (RFC 9112, 3.2.2). Any other form names
/// none.
fn names_host(target: &Uri, host: Option<&[u8]>) -> bool {
    let port = match target.scheme_str() {
        None => return target.authority().is_none(),
        Some("http") => ":80",
        Some("https") => ":443",
        Some(_) => return false,
    };
    let bare = |name: &str| name.strip_suffix(port).unwrap_or(name).to_ascii_lowercase();
    let host = host.and_then(|host| std::str::from_utf8(host).ok());
    match (target.authority(), host) {
        (Some(authority), Some(host)) => bare(authority.as_str()) == bare(host),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_absolute_form_names_the_host_of_the_header() {
        for (target, host, same) in [
            ("/", Some("a:8773"), true),
            ("/?Action=A", None, true),
            ("http://a:8773/", Some("a:8773"), true),
            ("http://A:8773/services/Cloud?x=y", Some("a:8773"), true),
            ("http://a", Some("a"), true),
            ("http://a:80/", Some("a"), true),
            ("https://a/", Some("a:443"), true),
            ("http://a/", Some("a:443"), false),
            ("http://a:8773/", Some("a"), false),
            ("http://a:8773/", Some("b:8773"), false),
            ("http://user@a/", Some("a"), false),
            ("http://a/", None, false),
            ("ftp://a/", Some("a"), false),
        ] {
            let target: Uri = target.parse().unwrap();
            assert_eq!(
                names_host(&target, host.map(str::as_bytes)),
                same,
                "{target} {host:?}"
            );
        }
    }
}
