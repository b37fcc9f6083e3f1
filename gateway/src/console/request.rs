//! Console requests: what one must have before it becomes a console, and how others are refused.

use actix_http::{
    Method, RequestHead, Response, StatusCode,
    body::BoxBody,
    header::{self, HeaderMap, HeaderValue},
    ws::{self, HandshakeError},
};
use cumulet_domain::console::ConsoleRefusal;

/// The subprotocol of noVNC and its kind: bytes in binary frames.
const BINARY: &str = "binary";

/// Where a console is asked for; the second is where noVNC looks by itself.
const PATHS: [&str; 2] = ["/", "/websockify"];

/// Why a request does not become a console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The token, or the host that it is for.
    Console(ConsoleRefusal),
    /// A page of another site has sent it.
    Origin,
    /// Nothing is there.
    Path,
    /// Only GET.
    Method,
    /// No WebSocket.
    Upgrade,
    /// As many consoles as there may be.
    Full,
}

impl Refusal {
    pub(super) const fn status(self) -> StatusCode {
        use ConsoleRefusal as C;
        match self {
            Refusal::Console(C::Invalid | C::Expired | C::Used) => StatusCode::UNAUTHORIZED,
            Refusal::Console(C::NoInstance) | Refusal::Path => StatusCode::NOT_FOUND,
            Refusal::Console(C::Unsupported) => StatusCode::NOT_IMPLEMENTED,
            Refusal::Console(C::Busy | C::Away) | Refusal::Full => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Origin => StatusCode::FORBIDDEN,
            Refusal::Method => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::Upgrade => StatusCode::UPGRADE_REQUIRED,
        }
    }

    pub(super) fn text(self) -> String {
        match self {
            Refusal::Console(refusal) => refusal.to_string(),
            Refusal::Origin => "the request comes from a page of another site".into(),
            Refusal::Path => "there is nothing here".into(),
            Refusal::Method => "a console is asked for with GET".into(),
            Refusal::Upgrade => "a console is a WebSocket: connect with a WebSocket client".into(),
            Refusal::Full => "too many consoles are open".into(),
        }
    }

    /// The head of the answer.
    pub(super) fn response(self) -> Response<()> {
        let mut response = Response::with_body(self.status(), ());
        let headers = response.headers_mut();
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, plain);
        match self {
            Refusal::Upgrade => {
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                // The version that would be right (RFC 6455, 4.4).
                headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            Refusal::Method => {
                headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
            }
            _ => {}
        }
        response
            .head_mut()
            .set_connection_type(actix_http::ConnectionType::Close);
        response
    }
}

/// The answer to a request that does not ask for a WebSocket.
pub(super) fn no_upgrade(head: &RequestHead) -> Response<BoxBody> {
    let refusal = match () {
        () if !PATHS.contains(&head.uri.path()) => Refusal::Path,
        () if head.method != Method::GET => Refusal::Method,
        () => Refusal::Upgrade,
    };
    let mut text = refusal.text();
    text.push('\n');
    refusal.response().map_body(|_, ()| BoxBody::new(text))
}

/// What is to be seen of a request without asking a host: its token, and the answer that makes it a
/// WebSocket.
pub(super) fn look(head: &RequestHead) -> Result<(&str, Response<()>), Refusal> {
    if !PATHS.contains(&head.uri.path()) {
        return Err(Refusal::Path);
    }
    let mut builder = ws::handshake(head).map_err(|error| match error {
        HandshakeError::GetMethodRequired => Refusal::Method,
        _ => Refusal::Upgrade,
    })?;
    if !is_of_here(&head.headers) {
        return Err(Refusal::Origin);
    }
    let token =
        token(head.uri.query().unwrap_or_default()).ok_or(Refusal::Console(ConsoleRefusal::Invalid))?;
    if offers_binary(&head.headers) {
        builder.insert_header((header::SEC_WEBSOCKET_PROTOCOL, BINARY));
    }
    let response = builder.message_body(()).map_err(|_| Refusal::Upgrade)?;
    Ok((token, response))
}

/// The one token of a query.
fn token(query: &str) -> Option<&str> {
    let mut tokens = query.split('&').filter_map(|pair| pair.strip_prefix("token="));
    tokens.next().filter(|_| tokens.next().is_none())
}

/// Whether it was no browser that sent it, or a page from where it was sent to. Ports may differ, as with a
/// noVNC that is served beside this.
fn is_of_here(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if !headers.contains_key(header::ORIGIN) {
        return true;
    }
    let origin = text(header::ORIGIN).and_then(|origin| origin.split_once("://"));
    match (origin, text(header::HOST)) {
        (Some((_, origin)), Some(host)) => {
            !name(host).is_empty() && name(origin).eq_ignore_ascii_case(name(host))
        }
        _ => false,
    }
}

/// A host without its port.
fn name(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => authority,
    }
}

fn offers_binary(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|offered| offered.trim() == BINARY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            let name = header::HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    #[test]
    fn a_query_has_one_token() {
        assert_eq!(token("token=ab-_"), Some("ab-_"));
        assert_eq!(token("x=1&token=a&y"), Some("a"));
        for none in ["", "tokens=a", "token", "token=a&token=b", "Token=a"] {
            assert_eq!(token(none), None, "{none}");
        }
    }

    #[test]
    fn a_page_of_another_site_is_told_by_its_origin() {
        for (origin, host, here) in [
            (None, Some("a:6080"), true),
            (Some("http://a:6080"), Some("a:6080"), true),
            (Some("https://A"), Some("a:6080"), true),
            (Some("http://[::1]:80"), Some("[::1]:6080"), true),
            (Some("http://[::1]"), Some("[::2]"), false),
            (Some("http://b"), Some("a:6080"), false),
            (Some("http://a.b"), Some("a"), false),
            (Some("null"), Some("a"), false),
            (Some("http://"), Some(""), false),
            (Some("http://a"), None, false),
        ] {
            let pairs: Vec<_> = [("origin", origin), ("host", host)]
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)))
                .collect();
            assert_eq!(is_of_here(&headers(&pairs)), here, "{pairs:?}");
        }
    }

    #[test]
    fn the_subprotocol_is_taken_where_it_is_offered() {
        let offered = |value: &str| offers_binary(&headers(&[("sec-websocket-protocol", value)]));
        assert!(offered("binary") && offered("base64, binary"));
        assert!(!offered("base64") && !offers_binary(&headers(&[])));
    }
}
