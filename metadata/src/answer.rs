//! The decision on a request. The order of the checks is the contract: an unknown caller learns nothing, a
//! disabled endpoint says 403 to everything at once (silence would cost cloud-init four minutes), a token is
//! never rate-limited (cloud-init gives up when the PUT fails), and a read with a bad token is refused even
//! where none is needed.

use cumulet_domain::{text, time::Timestamp};
use rand::CryptoRng;

use crate::{
    config::{Config, Hosts},
    counters::Event,
    instance::Instance,
    path::{Location, locate},
    table::Found,
    version::{self, LATEST},
};

/// What matters of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'a str,
    /// The host that it names, in the header or in the target.
    pub(crate) host: Option<&'a [u8]>,
    /// Whether it came through a proxy: `X-Forwarded-For`.
    pub(crate) forwarded: bool,
    /// `X-aws-ec2-metadata-token`.
    pub(crate) token: Option<&'a [u8]>,
    /// `X-aws-ec2-metadata-token-ttl-seconds`.
    pub(crate) ttl: Option<&'a [u8]>,
    /// Whether its connection is one too many.
    pub(crate) crowded: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// GET and HEAD.
    Read,
    Put,
    Options,
    Other,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A value; with a token, the seconds that it has left.
    Value(Found, Option<u64>),
    /// A new token, how long it lives, and the IP TTL of the packets that carry it.
    Token {
        text: String,
        ttl: u32,
        hop_limit: u8,
    },
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    /// What is allowed instead.
    MethodNotAllowed(&'static str),
    /// The answer to OPTIONS.
    Allowed(&'static str),
    Busy,
}

impl Answer {
    /// How it is counted.
    pub(crate) fn event(&self) -> Event {
        match self {
            Answer::Value(_, None) => Event::V1,
            Answer::Value(_, Some(_)) => Event::V2,
            Answer::Token { .. } => Event::Token,
            Answer::Unauthorized => Event::Unauthorized,
            Answer::Forbidden => Event::Forbidden,
            Answer::NotFound => Event::NotFound,
            Answer::Busy => Event::Throttled,
            Answer::BadRequest | Answer::MethodNotAllowed(_) | Answer::Allowed(_) => Event::Malformed,
        }
    }
}

const TOKEN_KEY: &str = "api/token";
const TOKEN_PATH: &str = "/latest/api/token";
const TOKEN_ALLOWS: &str = "OPTIONS, PUT";
const READ_ALLOWS: &str = "GET, HEAD";
const LONGEST_TTL: u32 = 21_600;

/// Decides.
pub(crate) fn answer<R: CryptoRng + ?Sized>(
    request: &Request<'_>,
    instance: &Instance,
    config: &Config,
    now: Timestamp,
    rng: &mut R,
) -> Answer {
    let snapshot = instance.snapshot.load();
    if !snapshot.options.enabled || !host_allowed(request.host, config.hosts) {
        return Answer::Forbidden;
    }
    let put = request.method == Method::Put;
    if !put && (request.crowded || !instance.bucket.take(&config.limits, now)) {
        return Answer::Busy;
    }
    let location = locate(request.path);
    let token_path = matches!(&location, Location::Tree(LATEST, key) if key == TOKEN_KEY);
    match request.method {
        Method::Put => return new_token(request, &location, instance, now, rng),
        Method::Options if token_path => return Answer::Allowed(TOKEN_ALLOWS),
        _ if token_path => return Answer::MethodNotAllowed(TOKEN_ALLOWS),
        Method::Options | Method::Other => return Answer::MethodNotAllowed(READ_ALLOWS),
        Method::Read => {}
    }
    let now = unix_millis(now);
    let remaining = match request.token {
        Some(token) => match verify(instance, token, now) {
            Some(expires) => Some((expires - now).div_ceil(1000)),
            None => return Answer::Unauthorized,
        },
        None if snapshot.options.tokens_required => return Answer::Unauthorized,
        None => None,
    };
    let found = match location {
        Location::Versions => Some(Found::Text(version::listing().into())),
        Location::Tree(version, key) => snapshot.table.get(version, &key),
        Location::Unknown => None,
    };
    found.map_or(Answer::NotFound, |found| Answer::Value(found, remaining))
}

/// `PUT`: the exact path, not through a proxy, with a time to live from 1 to 21600.
fn new_token<R: CryptoRng + ?Sized>(
    request: &Request<'_>,
    location: &Location<'_>,
    instance: &Instance,
    now: Timestamp,
    rng: &mut R,
) -> Answer {
    if request.forwarded {
        return Answer::Forbidden;
    }
    if request.path != TOKEN_PATH {
        let nearly = matches!(location, Location::Tree(_, key) if key == TOKEN_KEY);
        return if nearly {
            Answer::Forbidden
        } else {
            Answer::NotFound
        };
    }
    let Some(ttl) = request.ttl.and_then(parse_ttl) else {
        return Answer::BadRequest;
    };
    let expires = unix_millis(now).saturating_add(u64::from(ttl) * 1000);
    Answer::Token {
        text: instance.tokens.mint(rng, expires),
        ttl,
        hop_limit: instance.snapshot.load().options.hop_limit.clamp(1, 64),
    }
}

fn parse_ttl(text: &[u8]) -> Option<u32> {
    let ttl = text::number(str::from_utf8(text).ok()?.trim())?;
    (1..=LONGEST_TTL).contains(&ttl).then_some(ttl)
}

/// When the token expires, if it is one of this instance and hasn't. Tokens hold milliseconds, so that
/// one that was asked for a second lives for exactly that.
fn verify(instance: &Instance, token: &[u8], now: u64) -> Option<u64> {
    let token = str::from_utf8(token).ok()?.trim();
    instance.tokens.verify(token, now).ok()
}

fn host_allowed(host: Option<&[u8]>, hosts: Hosts) -> bool {
    let Some(host) = host.filter(|_| hosts == Hosts::Metadata) else {
        return true;
    };
    let host = host.strip_suffix(b":80").unwrap_or(host);
    matches!(host, b"" | b"169.254.169.254") || host.eq_ignore_ascii_case(b"[fd00:ec2::254]")
}

fn unix_millis(now: Timestamp) -> u64 {
    u64::try_from(now.0).unwrap_or(0)
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
