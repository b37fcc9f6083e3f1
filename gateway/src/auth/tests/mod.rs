//! Verification against signers that are not ours, and the table of attacks.

mod attacks;
mod rust_sdk;
mod sessions;
mod signer;
mod sigv2;
mod stated;
mod suite;
mod vectors;

use std::collections::HashMap;

use futures::executor::block_on;

use super::*;

pub(super) const ACCESS: &str = "AKIAIOSFODNN7EXAMPLE";
pub(super) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
/// 2026-11-21T01:20:00Z.
pub(super) const NOW: i64 = 1_795_224_000;

/// A request that owns its parts, so that tests can change them.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn post(body: &str) -> Self {
        Self {
            method: "POST".into(),
            path: "/".into(),
            query: String::new(),
            headers: vec![
                ("Host".into(), "cloud.example.com:8773".into()),
                (
                    "Content-Type".into(),
                    "application/x-www-form-urlencoded; charset=utf-8".into(),
                ),
            ],
            body: body.into(),
        }
    }

    pub(super) fn get(query: &str) -> Self {
        Self {
            method: "GET".into(),
            query: query.into(),
            ..Self::post("")
        }
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(super) fn without(mut self, name: &str) -> Self {
        self.headers
            .retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self
    }

    pub(super) fn with_head<T>(&self, read: impl FnOnce(RequestHead<'_>) -> T) -> T {
        let headers: Vec<_> = self
            .headers
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_bytes()))
            .collect();
        read(RequestHead {
            method: &self.method,
            path: &self.path,
            query: &self.query,
            headers: &headers,
        })
    }
}

/// Credentials in memory; the principal is the key's own id. Tokens are `key -> token`.
#[derive(Default)]
pub(super) struct Keys {
    pub(super) secrets: HashMap<String, String>,
    pub(super) tokens: HashMap<String, String>,
    pub(super) broken: bool,
}

impl CredentialSource for Keys {
    type Principal = String;

    async fn lookup(
        &self,
        access_key_id: &str,
        session_token: Option<&str>,
    ) -> Result<Option<Credential<String>>, LookupError> {
        if self.broken {
            return Err(LookupError::Unavailable("canary".into()));
        }
        if let Some(token) = session_token {
            match self.tokens.get(access_key_id).map(String::as_str) {
                Some("expired") => return Err(LookupError::ExpiredToken),
                Some(ours) if ours == token => {}
                _ => return Err(LookupError::InvalidToken),
            }
        }
        Ok(self.secrets.get(access_key_id).map(|secret| Credential {
            secret: Arc::new(secret.as_str().into()),
            principal: access_key_id.to_owned(),
        }))
    }
}

pub(super) fn keys() -> Keys {
    Keys {
        secrets: HashMap::from([(ACCESS.into(), SECRET.into())]),
        ..Keys::default()
    }
}

pub(super) fn verifier(config: AuthConfig) -> Verifier<Keys> {
    Verifier::new(config, keys())
}

pub(super) fn verify_at(
    verifier: &Verifier<Keys>,
    request: &Request,
    now: i64,
) -> Result<Verified<String>, AuthError> {
    request.with_head(|head| {
        block_on(async {
            let judged = verifier.judge(head, now * 1000).await?;
            verifier
                .verify(judged, request.body.clone().into(), now * 1000)
                .await
        })
    })
}

pub(super) fn verify(request: &Request) -> Result<Verified<String>, AuthError> {
    verify_at(&verifier(AuthConfig::default()), request, NOW)
}

/// The EC2 code and status of a refusal.
#[track_caller]
pub(super) fn refusal(outcome: Result<Verified<String>, AuthError>) -> (&'static str, u16) {
    let rejection = outcome.expect_err("must be refused").reject(Dialect::Ec2);
    (rejection.code, rejection.status)
}
