//! SigV2: off by default, never older versions, always bound to a time.

use super::signer::Signer;
use super::vectors::{Vector, load, vector_verifier};
use super::*;

fn vectors() -> Vec<Vector> {
    load(include_str!("../testdata/sigv2.json"))
        .into_iter()
        .filter(|v| v.name.contains("SigV2"))
        .collect()
}

fn named(name: &str) -> Request {
    vectors()
        .iter()
        .find(|vector| vector.name == name)
        .unwrap()
        .request()
}

fn with(policy: SigV2Policy) -> Verifier<Keys> {
    verifier(AuthConfig {
        sigv2: policy,
        ..AuthConfig::default()
    })
}

#[test]
fn botocore_and_boto_requests_verify() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 7);
    for vector in vectors {
        let verified = verify_at(&vector_verifier(), &vector.request(), vector.now)
            .unwrap_or_else(|error| panic!("{}: {error}", vector.name));
        assert_eq!(verified.access_key_id, ACCESS);
        assert_eq!((verified.service, verified.region.as_str()), ("ec2", ""));
        assert_eq!(
            (verified.method, verified.signed_at),
            (SignatureMethod::V2, vector.now)
        );
    }
}

#[test]
fn boto_signs_sigv4_too() {
    let all = load(include_str!("../testdata/sigv2.json"));
    let vector = all
        .iter()
        .find(|vector| vector.name == "boto SigV4 post")
        .unwrap();
    assert_eq!(
        verify(&vector.request()).unwrap().method,
        SignatureMethod::V4Header
    );
}

#[test]
fn s09_policies() {
    let sha256 = named("boto SigV2 post");
    let sha1 = named("boto SigV2 post, SHA-1");
    for (policy, sha256_ok, sha1_ok) in [
        (SigV2Policy::Off, false, false),
        (SigV2Policy::Sha256, true, false),
        (SigV2Policy::Sha256AndSha1, true, true),
    ] {
        for (request, ok) in [(&sha256, sha256_ok), (&sha1, sha1_ok)] {
            let outcome = verify_at(&with(policy), request, NOW);
            assert_eq!(outcome.is_ok(), ok, "{policy:?}");
            if !ok {
                assert_eq!(refusal(outcome), ("AuthFailure", 401));
            }
        }
    }
    assert_eq!(AuthConfig::default().sigv2, SigV2Policy::Off);
}

#[test]
fn s09_versions_0_and_1_are_never_accepted() {
    for version in ["0", "1", "3", "", "02"] {
        let mut request = named("boto SigV2 get");
        request.query = request
            .query
            .replace("SignatureVersion=2", &format!("SignatureVersion={version}"));
        let outcome = verify_at(&with(SigV2Policy::Sha256AndSha1), &request, NOW);
        assert!(matches!(outcome, Err(AuthError::Unsupported(_))), "{version}");
    }
    let mut request = named("boto SigV2 get");
    request.query = request.query.replace("SignatureVersion=2&", "");
    let outcome = verify_at(&with(SigV2Policy::Sha256AndSha1), &request, NOW);
    assert!(matches!(outcome, Err(AuthError::Unsupported(_))));
}

#[test]
fn s01_time_is_checked() {
    let request = named("boto SigV2 post");
    for (offset, code) in [
        (0, None),
        (900, None),
        (-900, None),
        (901, Some(())),
        (-901, Some(())),
        (86_400, Some(())),
    ] {
        let outcome = verify_at(&with(SigV2Policy::Sha256), &request, NOW + offset);
        assert_eq!(outcome.is_err(), code.is_some(), "{offset}");
        if code.is_some() {
            assert_eq!(refusal(outcome), ("RequestExpired", 400));
        }
    }
}

#[test]
fn s02_without_time_is_denied_before_any_secret_is_read() {
    let mut request = named("boto SigV2 get");
    request.query = request.query.replace("&Timestamp=2026-11-21T01%3A20%3A00Z", "");
    let broken = Keys {
        broken: true,
        ..keys()
    };
    let config = AuthConfig {
        sigv2: SigV2Policy::Sha256,
        ..AuthConfig::default()
    };
    let outcome = verify_at(&Verifier::new(config, broken), &request, NOW);
    assert_eq!(refusal(outcome), ("IncompleteSignature", 400));
}

/// `Expires` in place of `Timestamp`, signed here since no client in reach still does it.
#[test]
fn expires_is_an_end_within_seven_days() {
    use base64::Engine;
    use hmac::{Hmac, KeyInit, Mac};
    for (ends, code) in [
        ("2026-11-21T01%3A20%3A01Z", None),
        ("2026-11-28T01%3A20%3A00Z", None),
        ("2026-11-21T01%3A20%3A00Z", Some("RequestExpired")),
        ("2025-11-21T01%3A20%3A00Z", Some("RequestExpired")),
        ("2026-11-28T01%3A20%3A01Z", Some("InvalidQueryParameter")),
        ("1795224300", Some("IncompleteSignature")),
    ] {
        let query = format!(
            "AWSAccessKeyId={ACCESS}&Action=DescribeRegions&Expires={ends}&SignatureMethod=HmacSHA256&SignatureVersion=2"
        );
        let text = format!("GET\ncloud.example.com:8773\n/\n{query}");
        let mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes())
            .unwrap()
            .chain_update(text)
            .finalize();
        let signature = base64::engine::general_purpose::STANDARD.encode(mac.into_bytes());
        let signature = signature
            .replace('+', "%2B")
            .replace('/', "%2F")
            .replace('=', "%3D");
        let request = Request::get(&format!("{query}&Signature={signature}"));
        let outcome = verify_at(&with(SigV2Policy::Sha256), &request, NOW);
        match code {
            None => assert!(outcome.is_ok(), "{ends} {outcome:?}"),
            Some(code) => assert_eq!(refusal(outcome), (code, 400), "{ends}"),
        }
    }
}

/// A8: what the door acts on is what was signed, for every way of signing.
#[test]
fn a_body_that_is_no_form_is_refused_however_the_request_is_signed() {
    let v2 = named("boto SigV2 get");
    let (v4, post) = (Signer::default(), Request::post(""));
    let smuggled = "Action=TerminateInstances&InstanceId.1=i-0123456789abcdef0";
    for kind in [
        "text/plain",
        "application/json",
        "multipart/form-data; boundary=x",
        "",
    ] {
        let with_body = |request: &Request| {
            let mut request = request
                .clone()
                .without("content-type")
                .header("Content-Type", kind);
            (request.method, request.body) = ("POST".into(), smuggled.into());
            request
        };
        for request in [
            // Added to what was signed without it.
            with_body(&v2),
            // Signed with it.
            v4.header(with_body(&post)),
        ] {
            let outcome = verify_at(&with(SigV2Policy::Sha256), &request, NOW);
            assert_eq!(
                refusal(outcome),
                ("MalformedQueryString", 400),
                "{kind} {request:?}"
            );
        }
    }
}

#[test]
fn what_was_signed_is_what_is_answered() {
    let form = |request: &Request| {
        let verified = verify_at(&with(SigV2Policy::Sha256), request, NOW).unwrap();
        String::from_utf8(verified.parameters.bytes().to_vec()).unwrap()
    };
    for (request, expected) in [
        (named("boto SigV2 get"), None),
        (named("boto SigV2 post"), None),
        (
            Signer::default().header(Request::post("Action=A&B=1")),
            Some("Action=A&B=1"),
        ),
        (
            Signer::default().header(Request::get("Action=A&B=1")),
            Some("Action=A&B=1"),
        ),
    ] {
        let all = [request.query.as_bytes(), &request.body].concat();
        let all = String::from_utf8(all).unwrap();
        assert_eq!(form(&request), expected.unwrap_or(&all));
        // One that is not signed is in none of them.
        let mut more = request.clone();
        more.query += if more.query.is_empty() { "C=1" } else { "&C=1" };
        assert!(verify_at(&with(SigV2Policy::Sha256), &more, NOW).is_err());
    }
    let mut both = Request::post("B=1");
    both.query = "Action=A".into();
    assert_eq!(form(&Signer::default().header(both)), "Action=A&B=1");
}
