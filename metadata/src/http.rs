//! The adapter between actix-http's requests and responses and the answers.

use actix_http::{
    ConnectionType, HttpMessage as _, Method as HttpMethod, Request as HttpRequest, Response, StatusCode,
    header::{self, HeaderName, HeaderValue},
};
use bytes::Bytes;

use crate::{
    answer::{Answer, Method, Request},
    table::Found,
};

const TOKEN: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token");
const TOKEN_TTL: HeaderName = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
const FORWARDED: HeaderName = HeaderName::from_static("x-forwarded-for");

const TEXT: HeaderValue = HeaderValue::from_static("text/plain");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
const HTML: HeaderValue = HeaderValue::from_static("text/html");

/// The parts of a request that matter.
pub(crate) fn request(from: &HttpRequest, crowded: bool) -> Request<'_> {
    let value = |name: &HeaderName| from.headers().get(name).map(HeaderValue::as_bytes);
    // A target in the absolute form overrides the header (RFC 9112, 3.2.2).
    let authority = from
        .uri()
        .authority()
        .map(|authority| authority.as_str().as_bytes());
    Request {
        method: match *from.method() {
            HttpMethod::GET | HttpMethod::HEAD => Method::Read,
            HttpMethod::PUT => Method::Put,
            HttpMethod::OPTIONS => Method::Options,
            _ => Method::Other,
        },
        path: from.path(),
        host: authority.or_else(|| value(&header::HOST)),
        forwarded: from.headers().contains_key(&FORWARDED),
        token: value(&TOKEN),
        ttl: value(&TOKEN_TTL),
        crowded,
    }
}

/// How long the request's head was, roughly: what its names and values take.
pub(crate) fn head_length(of: &HttpRequest) -> usize {
    let headers = of.headers().iter();
    let each = headers.map(|(name, value)| name.as_str().len() + value.len() + 4);
    each.sum::<usize>() + of.path().len() + of.uri().query().map_or(0, str::len)
}

/// The response to an answer. `last` closes the connection after it.
pub(crate) fn response(answer: Answer, last: bool) -> Response<Bytes> {
    let mut response = match answer {
        Answer::Value(found, remaining) => value(found, remaining),
        Answer::Token { text, ttl, .. } => {
            let mut response = build(StatusCode::OK, TEXT, text.into());
            response.headers_mut().insert(TOKEN_TTL, ttl.into());
            response
        }
        Answer::BadRequest => page(StatusCode::BAD_REQUEST),
        Answer::Unauthorized => page(StatusCode::UNAUTHORIZED),
        Answer::Forbidden => build(StatusCode::FORBIDDEN, TEXT, Bytes::new()),
        Answer::NotFound => page(StatusCode::NOT_FOUND),
        Answer::MethodNotAllowed(methods) => allow(StatusCode::METHOD_NOT_ALLOWED, methods),
        Answer::Allowed(methods) => allow(StatusCode::OK, methods),
        Answer::Busy => {
            let mut response = build(StatusCode::SERVICE_UNAVAILABLE, TEXT, Bytes::new());
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            response
        }
    };
    if last {
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
    response
}

/// The response to a head that is too long.
pub(crate) fn head_too_long() -> Response<Bytes> {
    let mut response = page(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    response.head_mut().set_connection_type(ConnectionType::Close);
    response
}

/// The same as it goes over the wire, where the server has not seen the request.
pub(crate) fn head_too_long_in_full() -> Vec<u8> {
    let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    let page = page_text(status);
    let length = page.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html\r\nServer: EC2ws\r\nAccept-Ranges: none\r\n\
         Connection: close\r\nContent-Length: {length}\r\n\r\n{page}"
    )
    .into_bytes()
}

fn value(found: Found, remaining: Option<u64>) -> Response<Bytes> {
    let mut response = match found {
        Found::Text(body) => build(StatusCode::OK, TEXT, body),
        Found::Octets(body) => build(StatusCode::OK, OCTETS, body),
    };
    if let Some(seconds) = remaining {
        response.headers_mut().insert(TOKEN_TTL, seconds.into());
    }
    response
}

fn allow(status: StatusCode, methods: &'static str) -> Response<Bytes> {
    let mut response = build(status, TEXT, Bytes::new());
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}

fn build(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response<Bytes> {
    let mut response = Response::with_body(status, body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    // Log shippers and scanners recognise the service by this.
    headers.insert(header::SERVER, HeaderValue::from_static("EC2ws"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("none"));
    response
}

/// The page that EC2 sends, byte for byte.
fn page(status: StatusCode) -> Response<Bytes> {
    build(status, HTML, page_text(status).into())
}

fn page_text(status: StatusCode) -> String {
    let title = format!(
        "{} - {}",
        status.as_str(),
        status.canonical_reason().unwrap_or("")
    );
    format!(
        "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n\
         <!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Transitional//EN\"\n\
         \t\"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">\n\
         <html xmlns=\"http://www.w3.org/1999/xhtml\" xml:lang=\"en\" lang=\"en\">\n \
         <head>\n  <title>{title}</title>\n </head>\n \
         <body>\n  <h1>{title}</h1>\n </body>\n</html>"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_the_one_that_ec2_sends() {
        let expected = r#"<?xml version="1.0" encoding="iso-8859-1"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN"
	"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
 <head>
  <title>404 - Not Found</title>
 </head>
 <body>
  <h1>404 - Not Found</h1>
 </body>
</html>"#;
        assert_eq!(response(Answer::NotFound, false).into_body(), expected);
    }
}
