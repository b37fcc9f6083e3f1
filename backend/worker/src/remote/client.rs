//! The client of the storage door. A request that is not answered, or with an error that is the server's, is made again
//! after a pause, for a while; each may come twice. Its calls block.

use std::{
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use cumulet_domain::storage::{OFFSET, PIECE, PREFIX};
use ureq::{
    Agent,
    http::{HeaderMap, Method, Request, StatusCode},
    tls::{Certificate, RootCerts, TlsConfig},
};

/// How long a connection may take to come about, and a request in all.
const CONNECT: Duration = Duration::from_secs(10);
const REQUEST: Duration = Duration::from_secs(60);

/// How long it is tried again where nobody answers.
const PATIENCE: Duration = Duration::from_secs(60);

/// The first pause; each is twice as long as the one before, up to the longest.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub struct StorageClient {
    agent: Agent,
    base: String,
    patience: Duration,
}

/// Why an address is none of a storage door.
#[derive(Debug, thiserror::Error)]
pub enum BadUrl {
    /// It is no URL of such a door.
    #[error("expecting http://HOST:PORT or https://HOST[:PORT], and nothing after it")]
    Malformed,
    /// The file of certificates.
    #[error("{path}: {error}")]
    Certificates {
        /// Which file.
        path: String,
        /// What is wrong with it.
        error: String,
    },
}

/// What an upload has after a piece was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Has(pub(super) u64);

impl StorageClient {
    /// A client of the door at this URL. Whom to trust about an https door is in a file (PEM); `None`: whom the system
    /// trusts.
    ///
    /// # Errors
    /// See [`BadUrl`].
    pub fn new(url: &str, ca_file: Option<&Path>) -> Result<Self, BadUrl> {
        let base = url.strip_suffix('/').unwrap_or(url);
        let uri: ureq::http::Uri = base.parse().map_err(|_| BadUrl::Malformed)?;
        let is_plain = match uri.scheme_str() {
            Some("http") => true,
            Some("https") => false,
            _ => return Err(BadUrl::Malformed),
        };
        if uri.host().is_none_or(str::is_empty)
            || !uri.path().trim_matches('/').is_empty()
            || uri.query().is_some()
        {
            return Err(BadUrl::Malformed);
        }
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            // What a shell has set for browsers is not meant for this.
            .proxy(None)
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(REQUEST))
            .user_agent("cumulet");
        if !is_plain {
            config = config.tls_config(tls(ca_file)?);
        }
        Ok(StorageClient {
            agent: config.build().into(),
            base: format!("{base}{PREFIX}"),
            patience: PATIENCE,
        })
    }

    /// The same with another patience.
    #[cfg(test)]
    pub(super) fn with_patience(self, patience: Duration) -> Self {
        StorageClient { patience, ..self }
    }

    /// A piece of a file from an offset on, and how many bytes there are in all. Beyond the end there are none.
    pub(super) fn get(&self, grant: &str, path: &str, first: u64, most: u64) -> io::Result<(Vec<u8>, u64)> {
        let most = most.clamp(1, PIECE);
        let range = format!("bytes={first}-{}", first.saturating_add(most - 1));
        let answer = self.ask(&Asked {
            range: Some(&range),
            ..Asked::plain(Method::GET, grant, path)
        })?;
        let of = answer
            .header("content-range")
            .and_then(|text| text.rsplit('/').next()?.parse().ok());
        let all: u64 = of.ok_or_else(|| strange("no Content-Range"))?;
        if answer.status == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok((Vec::new(), all));
        }
        let (has, wanted) = (answer.body.len() as u64, most.min(all.saturating_sub(first)));
        if has != wanted {
            return Err(strange(format!("{has} bytes instead of {wanted}")));
        }
        Ok((answer.body, all))
    }

    /// Adds a piece to an upload; how much that has then, which is less where it lacks what is before the piece.
    pub(super) fn put(&self, grant: &str, path: &str, offset: u64, content: &[u8]) -> io::Result<Has> {
        let answer = self.ask(&Asked {
            content,
            ..Asked::plain(Method::PUT, grant, &format!("{path}?offset={offset}"))
        })?;
        let has = answer.header(OFFSET).and_then(|text| text.parse().ok());
        has.map(Has).ok_or_else(|| strange("no Upload-Offset"))
    }

    /// A request whose answer says no more than that it was done.
    pub(super) fn tell(&self, method: Method, grant: &str, path: &str) -> io::Result<()> {
        self.ask(&Asked::plain(method, grant, path)).map(drop)
    }

    /// Asks until there is an answer that is not the server's own trouble.
    fn ask(&self, asked: &Asked<'_>) -> io::Result<Answer> {
        let (begun, mut pause) = (Instant::now(), PAUSE);
        loop {
            let why = match self.once(asked) {
                Ok(answer) if is_trouble(answer.status) => answer.status.to_string(),
                Ok(answer) => return answer.judged(),
                Err(ureq::Error::BadUri(why)) => {
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
                }
                Err(error) => error.to_string(),
            };
            if begun.elapsed() + pause > self.patience {
                let why = format!("the storage door does not answer: {why}");
                return Err(io::Error::new(io::ErrorKind::HostUnreachable, why));
            }
            tracing::debug!(asked.path, why, "the storage door is asked again");
            wait(pause);
            pause = (pause * 2).min(LONGEST);
        }
    }

    fn once(&self, asked: &Asked<'_>) -> Result<Answer, ureq::Error> {
        let mut request = Request::builder()
            .method(asked.method.clone())
            .uri(format!("{}{}", self.base, asked.path))
            .header("authorization", format!("Bearer {}", asked.grant));
        if let Some(range) = asked.range {
            request = request.header("range", range);
        }
        let mut answer = match asked.method {
            Method::GET | Method::DELETE => self.agent.run(request.body(())?)?,
            _ => self.agent.run(request.body(asked.content)?)?,
        };
        // One that is cut off in the middle is none.
        let body = answer.body_mut().with_config().limit(PIECE + 1).read_to_vec()?;
        Ok(Answer {
            status: answer.status(),
            headers: std::mem::take(answer.headers_mut()),
            body,
        })
    }
}

fn tls(ca_file: Option<&Path>) -> Result<TlsConfig, BadUrl> {
    let roots: Vec<Certificate<'static>> = match ca_file {
        Some(path) => {
            let bad = |error: String| BadUrl::Certificates {
                path: path.display().to_string(),
                error,
            };
            let text = std::fs::read(path).map_err(|error| bad(error.to_string()))?;
            let found = ureq::tls::parse_pem(&text).filter_map(|item| match item {
                Ok(ureq::tls::PemItem::Certificate(one)) => Some(one),
                _ => None,
            });
            let found: Vec<_> = found.collect();
            if found.is_empty() {
                return Err(bad("no certificate is in it".to_owned()));
            }
            found
        }
        None => {
            let found = rustls_native_certs::load_native_certs().certs;
            let own = found
                .iter()
                .map(|one| Certificate::from_der(one.as_ref()).to_owned());
            own.collect()
        }
    };
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build())
}

/// Waits, on a thread that is there for work that blocks. That a door answers again is no event that could be awaited.
#[expect(
    clippy::disallowed_methods,
    reason = "the thread is one of those for blocking work"
)]
fn wait(pause: Duration) {
    std::thread::sleep(pause);
}

/// Whether an answer says that the server can't now.
fn is_trouble(status: StatusCode) -> bool {
    let is_servers = status.is_server_error() && status != StatusCode::INSUFFICIENT_STORAGE;
    is_servers || status == StatusCode::REQUEST_TIMEOUT
}

/// A request.
struct Asked<'a> {
    method: Method,
    grant: &'a str,
    path: &'a str,
    range: Option<&'a str>,
    content: &'a [u8],
}

impl<'a> Asked<'a> {
    const fn plain(method: Method, grant: &'a str, path: &'a str) -> Self {
        Asked {
            method,
            grant,
            path,
            range: None,
            content: &[],
        }
    }
}

/// An answer, whole.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// It, or the error that it is.
    fn judged(self) -> io::Result<Answer> {
        let kind = match self.status {
            // Whoever asks knows what these say.
            StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::CONFLICT => return Ok(self),
            status if status.is_success() => return Ok(self),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => io::ErrorKind::PermissionDenied,
            StatusCode::NOT_FOUND => io::ErrorKind::NotFound,
            StatusCode::INSUFFICIENT_STORAGE => io::ErrorKind::StorageFull,
            _ => io::ErrorKind::InvalidInput,
        };
        let said: String = String::from_utf8_lossy(&self.body).chars().take(1000).collect();
        Err(io::Error::new(
            kind,
            format!("the storage door: {} {said}", self.status),
        ))
    }
}

fn strange(why: impl Into<String>) -> io::Error {
    let why = format!("the storage door answers what is no answer: {}", why.into());
    io::Error::new(io::ErrorKind::InvalidData, why)
}
