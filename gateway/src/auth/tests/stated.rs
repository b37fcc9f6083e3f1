//! Bodies that are yet to come when the signature is verified: what the head states of them, and the check at their end.

use super::signer::Signer;
use super::*;

const BODY: &str = "a body that comes in two pieces";
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
const DENIED: (&str, u16) = ("AuthFailure", 401);
const NOT_COVERED: (&str, u16) = ("SignatureDoesNotMatch", 403);

fn hash(body: &str) -> String {
    hex::encode(<sha2::Sha256 as sha2::Digest>::digest(body))
}

/// A request with a body of no form, which states this of it.
fn stating(stated: &str) -> Request {
    Request::post(BODY)
        .without("content-type")
        .header("Content-Type", "application/octet-stream")
        .header("X-Amz-Content-SHA256", stated)
}

fn signed() -> Request {
    Signer::default().header(stating(&hash(BODY)))
}

fn presigned() -> Request {
    let signer = Signer {
        signed: Some("host;x-amz-content-sha256"),
        ..Signer::default()
    };
    signer.query(stating(&hash(BODY)))
}

fn unsigned() -> Request {
    let signer = Signer {
        payload: Some(UNSIGNED),
        ..Signer::default()
    };
    signer.header(stating(UNSIGNED))
}

fn lax() -> Verifier<Keys> {
    verifier(AuthConfig {
        unsigned: vec!["ec2"],
        ..AuthConfig::default()
    })
}

/// Whose request it is, when its head is verified and this comes as its body.
fn come(verifier: &Verifier<Keys>, request: &Request, body: &str) -> Result<String, AuthError> {
    request.with_head(|head| {
        block_on(async {
            let judged = verifier.judge(head, NOW * 1000).await?;
            let (principal, mut payload) = verifier.verify_head(&judged)?;
            let (first, second) = body.as_bytes().split_at(body.len() / 2);
            payload.update(first);
            payload.update(second);
            payload.check()?;
            Ok(principal.clone())
        })
    })
}

#[track_caller]
fn refused(outcome: Result<String, AuthError>) -> (&'static str, u16) {
    let rejection = outcome.expect_err("must be refused").reject(Dialect::Ec2);
    (rejection.code, rejection.status)
}

#[test]
fn a_body_is_the_one_that_was_stated_or_refused_at_its_end() {
    let verifier = verifier(AuthConfig::default());
    for request in [signed(), presigned()] {
        assert_eq!(come(&verifier, &request, BODY).unwrap(), ACCESS);
        let (louder, longer) = (BODY.to_uppercase(), format!("{BODY}\n"));
        for body in ["", "a", &BODY[1..], &*louder, &*longer] {
            assert_eq!(refused(come(&verifier, &request, body)), NOT_COVERED, "{body}");
        }
    }
}

#[test]
fn what_is_stated_is_signed() {
    let verifier = verifier(AuthConfig::default());
    for request in [signed(), presigned()] {
        let other = hash("another body");
        let request = request
            .without("x-amz-content-sha256")
            .header("X-Amz-Content-SHA256", &other);
        assert_eq!(refused(come(&verifier, &request, "another body")), DENIED);
    }
    let wrong = Signer {
        secret: "another",
        ..Signer::default()
    };
    let request = wrong.header(stating(&hash(BODY)));
    assert_eq!(refused(come(&verifier, &request, BODY)), DENIED);
    let request = stating(&hash(BODY)).without("x-amz-content-sha256");
    assert_eq!(
        refused(come(&verifier, &request, BODY)),
        ("MissingAuthenticationToken", 403)
    );
}

#[test]
fn a_head_that_states_no_hash_proves_no_body() {
    let unstated = Signer::default().header(stating("").without("x-amz-content-sha256"));
    for verifier in [verifier(AuthConfig::default()), lax()] {
        assert_eq!(refused(come(&verifier, &unstated, BODY)), NOT_COVERED);
        let right = hash(BODY);
        let upper = right.to_uppercase();
        for stated in [
            "",
            &*upper,
            &right[1..],
            "unsigned-payload",
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        ] {
            let request = Signer::default().header(stating(stated));
            assert_eq!(refused(come(&verifier, &request, BODY)), NOT_COVERED, "{stated}");
        }
    }
}

#[test]
fn an_unsigned_body_is_taken_as_it_comes_by_services_that_say_so() {
    let (strict, lax) = (verifier(AuthConfig::default()), lax());
    assert_eq!(refused(come(&strict, &unsigned(), BODY)), NOT_COVERED);
    for body in [BODY, "another body", ""] {
        assert_eq!(come(&lax, &unsigned(), body).unwrap(), ACCESS);
    }
    // Not by another one, and not as a form that is verified as a whole.
    let other = Signer {
        service: "sts",
        payload: Some(UNSIGNED),
        ..Signer::default()
    };
    let other = other.header(stating(UNSIGNED));
    assert_eq!(refused(come(&lax, &other, BODY)), NOT_COVERED);
    let whole = Signer {
        payload: Some(UNSIGNED),
        ..Signer::default()
    };
    let whole = whole.header(Request::post("Action=A").header("X-Amz-Content-SHA256", UNSIGNED));
    assert_eq!(refusal(verify_at(&lax, &whole, NOW)), NOT_COVERED);
}

/// Whoever takes long to send a body has a key until its end, or none of it counts.
#[test]
fn a_key_is_looked_for_again_when_a_body_took_long() {
    for request in [signed(), presigned()] {
        let here = verifier(AuthConfig::default());
        let gone = Verifier::new(AuthConfig::default(), Keys::default());
        request.with_head(|head| {
            let judged = block_on(here.judge(head, NOW * 1000)).unwrap();
            assert!(block_on(here.confirm(&judged, (NOW + 3600) * 1000)).is_ok());
            assert!(block_on(gone.confirm(&judged, (NOW + 1) * 1000)).is_ok());
            let revoked = block_on(gone.confirm(&judged, (NOW + 2) * 1000));
            assert!(matches!(revoked, Err(AuthError::UnknownKey)));
        });
    }
}
