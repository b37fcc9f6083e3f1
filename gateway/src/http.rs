//! The adapter between actix and the door: it reads the request within its limits, and writes the answer.

use std::{rc::Rc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{Method, StatusCode, header},
    web::{Data, Payload},
};
use bytes::BytesMut;
use futures::StreamExt as _;
use tracing::Instrument as _;

use crate::{
    auth::RequestView,
    connection::{Member, Work},
    door::{Door, Reply, plain_refusal},
    server::Limits,
};

/// The largest body: no request of these services comes near it.
pub(crate) const MAX_BODY: usize = 1 << 20;

/// Answers every path: the old endpoints of EC2 (`/services/Cloud`, `/services/compute`) are served too.
pub(crate) async fn handle(request: HttpRequest, payload: Payload, door: Data<Door>) -> HttpResponse {
    let member = request.conn_data::<Rc<Member>>();
    let work = member.map(Member::begin);
    let request_id = door.request_id();
    let span = tracing::info_span!("request", %request_id);
    let reply = answer(&request, payload, work.as_ref(), &door, &request_id)
        .instrument(span)
        .await;
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    HttpResponse::build(status)
        .insert_header((header::CONTENT_TYPE, "text/xml;charset=UTF-8"))
        .insert_header((header::SERVER, "cumulet"))
        .insert_header(("x-amzn-RequestId", request_id))
        .body(reply.body)
}

async fn answer(
    request: &HttpRequest,
    payload: Payload,
    work: Option<&Work>,
    door: &Door,
    request_id: &str,
) -> Reply {
    if request.method() != Method::GET && request.method() != Method::POST {
        let message = "The method is not allowed; use POST or GET.";
        return plain_refusal("MethodNotAllowed", 405, message, request_id);
    }
    let head = request.head();
    if head.uri.scheme().is_some() && head.version != actix_web::http::Version::HTTP_2 {
        let message = "The request target must be a path.";
        return plain_refusal("InvalidRequest", 400, message, request_id);
    }
    if head.headers.contains_key(header::TRANSFER_ENCODING)
        && head.headers.contains_key(header::CONTENT_LENGTH)
    {
        let message = "A request has either a Content-Length or a Transfer-Encoding.";
        return plain_refusal("InvalidRequest", 400, message, request_id);
    }
    let body_time = work.map_or(Limits::default().body, Work::body_time);
    let body = match body(request, payload, body_time).await {
        Ok(body) => body,
        Err(refusal) => return plain_refusal(refusal.0, refusal.1, refusal.2, request_id),
    };
    if let Some(work) = work {
        work.is_whole();
    }
    let headers: Vec<(&str, &[u8])> = head
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    let view = RequestView {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query().unwrap_or_default(),
        headers: &headers,
        body: &body,
    };
    door.answer(&view, request_id).await
}

type Refusal = (&'static str, u16, &'static str);

const TOO_LARGE: Refusal = (
    "RequestEntityTooLarge",
    413,
    "The request's body is larger than 1 MiB.",
);

async fn body(request: &HttpRequest, payload: Payload, time: Duration) -> Result<BytesMut, Refusal> {
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > MAX_BODY as u64) {
        return Err(TOO_LARGE);
    }
    let whole = tokio::time::timeout(time, read(payload)).await;
    whole.unwrap_or(Err((
        "RequestTimeout",
        408,
        "The request's body did not arrive in time.",
    )))
}

async fn read(mut payload: Payload) -> Result<BytesMut, Refusal> {
    let mut body = BytesMut::new();
    while let Some(part) = payload.next().await {
        let part = part.map_err(|_| ("InvalidRequest", 400, "The request's body could not be read."))?;
        if body.len() + part.len() > MAX_BODY {
            return Err(TOO_LARGE);
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}
