//! Requests signed by botocore and boto (`tests/oracle/signature_vectors.py`).

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
pub(super) struct Vector {
    pub(super) name: String,
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: String,
    pub(super) access_key_id: String,
    pub(super) now: i64,
}

impl Vector {
    pub(super) fn request(&self) -> Request {
        Request {
            method: self.method.clone(),
            path: self.path.clone(),
            query: self.query.clone(),
            headers: self.headers.clone(),
            body: self.body.clone().into_bytes(),
        }
    }
}

pub(super) fn load(json: &str) -> Vec<Vector> {
    serde_json::from_str(json).unwrap()
}

/// Knows the long-term and the temporary key of the vectors, and has SigV2 on.
pub(super) fn vector_verifier() -> Verifier<Keys> {
    let mut keys = keys();
    let session = "ASIAIOSFODNN7EXAMPLE".to_owned();
    keys.secrets.insert(session.clone(), SECRET.into());
    keys.tokens
        .insert(session, "FwoGZXIvYXdzEJr//////////wEaDN+TEST/token==".into());
    Verifier::new(
        AuthConfig {
            sigv2: SigV2Policy::Sha256AndSha1,
            ..AuthConfig::default()
        },
        keys,
    )
}

#[test]
fn botocore_requests_verify() {
    let verifier = vector_verifier();
    let vectors = load(include_str!("../testdata/botocore.json"));
    assert_eq!(vectors.len(), 14);
    for vector in vectors {
        // Twice: the second time with the cached signing key.
        for _ in 0..2 {
            let verified = verify_at(&verifier, &vector.request(), vector.now)
                .unwrap_or_else(|error| panic!("{}: {error}", vector.name));
            assert_eq!(verified.access_key_id, vector.access_key_id);
            assert_eq!(verified.principal, vector.access_key_id);
            assert!(
                vector.name.starts_with(verified.service),
                "{} {}",
                vector.name,
                verified.service
            );
            let presigned = vector.name.contains("presigned");
            assert_eq!(verified.method == SignatureMethod::V4Query, presigned);
            let region = if vector.name.contains("another region") {
                "undefined-123"
            } else {
                "us-east-1"
            };
            assert_eq!(verified.region, region);
            assert_eq!(verified.signed_at, vector.now);
            let claimed = vector.request().with_head(|head| head.claimed_service());
            assert_eq!(claimed.as_deref(), Some(verified.service));
        }
    }
}

/// Whatever is changed in a signed request, it no longer verifies, cached key or not.
#[test]
fn changed_requests_do_not_verify() {
    let verifier = vector_verifier();
    let all = [
        include_str!("../testdata/botocore.json"),
        include_str!("../testdata/sigv2.json"),
    ];
    for vector in all.iter().flat_map(|json| load(json)) {
        let good = vector.request();
        verify_at(&verifier, &good, vector.now).unwrap();
        let mut changed = Vec::new();
        changed.push(Request {
            method: "PUT".into(),
            ..good.clone()
        });
        changed.push(Request {
            path: format!("{}x", good.path),
            ..good.clone()
        });
        changed.push(Request {
            query: format!("{}&Extra=1", good.query),
            ..good.clone()
        });
        changed.push(Request {
            body: [&good.body[..], b"&Extra=1"].concat(),
            ..good.clone()
        });
        changed.push(good.clone().without("host").header("Host", "evil.example.com"));
        for bad in changed {
            let outcome = verify_at(&verifier, &bad, vector.now);
            assert_eq!(refusal(outcome), ("AuthFailure", 401), "{}: {bad:?}", vector.name);
        }
    }
}

#[test]
fn every_digit_of_the_signature_counts() {
    let verifier = vector_verifier();
    let vector = &load(include_str!("../testdata/botocore.json"))[0];
    let at = vector
        .request()
        .headers
        .iter()
        .position(|(name, _)| name == "Authorization")
        .unwrap();
    for index in 1..=64 {
        let mut request = vector.request();
        let value = &mut request.headers[at].1;
        let position = value.len() - index;
        let other = if value.as_bytes()[position] == b'0' {
            "1"
        } else {
            "0"
        };
        value.replace_range(position..=position, other);
        assert_eq!(
            refusal(verify_at(&verifier, &request, vector.now)),
            ("AuthFailure", 401),
            "{index}"
        );
    }
}
