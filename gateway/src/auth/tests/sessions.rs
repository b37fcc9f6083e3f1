//! Temporary keys, unknown keys, and sources that can't answer.

use super::signer::Signer;
use super::*;

const SESSION: &str = "ASIAIOSFODNN7EXAMPLE";

fn sessions() -> Verifier<Keys> {
    let mut keys = keys();
    for id in [SESSION, "ASIAEXPIRED777777777"] {
        keys.secrets.insert(id.into(), SECRET.into());
    }
    keys.tokens.insert(SESSION.into(), "right".into());
    keys.tokens
        .insert("ASIAEXPIRED777777777".into(), "expired".into());
    Verifier::new(AuthConfig::default(), keys)
}

#[test]
fn tokens_belong_to_temporary_keys() {
    let table = [
        (SESSION, Some("right"), None),
        (
            SESSION,
            Some("wrong"),
            Some(("AuthFailure", 401, "InvalidClientTokenId", 403)),
        ),
        (
            SESSION,
            None,
            Some(("AuthFailure", 401, "InvalidClientTokenId", 403)),
        ),
        (
            ACCESS,
            Some("right"),
            Some(("AuthFailure", 401, "InvalidClientTokenId", 403)),
        ),
        (
            "ASIAEXPIRED777777777",
            Some("any"),
            Some(("RequestExpired", 400, "ExpiredToken", 403)),
        ),
        (
            "ASIAUNKNOWN777777777",
            Some("any"),
            Some(("AuthFailure", 401, "InvalidClientTokenId", 403)),
        ),
        (
            "AKIAUNKNOWN777777777",
            None,
            Some(("AuthFailure", 401, "InvalidClientTokenId", 403)),
        ),
    ];
    for (key, token, expected) in table {
        let mut request = Request::post("Action=DescribeRegions");
        if let Some(token) = token {
            request = request.header("X-Amz-Security-Token", token);
        }
        let outcome = verify_at(
            &sessions(),
            &Signer {
                key,
                ..Signer::default()
            }
            .header(request),
            NOW,
        );
        match (outcome, expected) {
            (Ok(verified), None) => assert_eq!(verified.principal, key),
            (Err(error), Some((code, status, query_code, query_status))) => {
                let (ec2, query) = (error.reject(Dialect::Ec2), error.reject(Dialect::Query));
                assert_eq!((ec2.code, ec2.status), (code, status), "{key} {token:?}");
                assert_eq!(
                    (query.code, query.status),
                    (query_code, query_status),
                    "{key} {token:?}"
                );
            }
            (outcome, _) => panic!("{key} {token:?}: {outcome:?}"),
        }
    }
}

#[test]
fn presigned_token_is_in_the_query() {
    let sign = |query: &str| {
        Signer {
            key: SESSION,
            ..Signer::default()
        }
        .query(Request::get(query))
    };
    assert!(verify_at(&sessions(), &sign("Action=A&X-Amz-Security-Token=right"), NOW).is_ok());
    assert!(matches!(
        verify_at(&sessions(), &sign("Action=A&X-Amz-Security-Token=wrong"), NOW),
        Err(AuthError::Token(_))
    ));
    // Added after signing: changes what is signed.
    let mut late = sign("Action=A");
    late.query += "&X-Amz-Security-Token=right";
    assert!(matches!(
        verify_at(&sessions(), &late, NOW),
        Err(AuthError::SignatureMismatch)
    ));
}

#[test]
fn an_unavailable_source_is_a_503_that_tells_nothing() {
    let verifier = Verifier::new(
        AuthConfig::default(),
        Keys {
            broken: true,
            ..keys()
        },
    );
    let request = Signer::default().header(Request::post("Action=A"));
    let error = verify_at(&verifier, &request, NOW).unwrap_err();
    for (dialect, code) in [
        (Dialect::Ec2, "Unavailable"),
        (Dialect::Query, "ServiceUnavailable"),
    ] {
        let rejection = error.reject(dialect);
        assert_eq!((rejection.code, rejection.status), (code, 503));
        assert!(!rejection.message.contains("canary"));
    }
}

/// A cached signing key is of no use once the source says otherwise.
#[test]
fn s18_revoked_and_changed_secrets_work_at_once() {
    use std::sync::{Arc, Mutex};

    struct Changing(Mutex<Option<&'static str>>);
    impl CredentialSource for Changing {
        type Principal = ();
        async fn lookup(&self, _: &str, _: Option<&str>) -> Result<Option<Credential<()>>, LookupError> {
            let secret = *self.0.lock().unwrap();
            Ok(secret.map(|secret| Credential {
                secret: Arc::new(secret.into()),
                principal: (),
            }))
        }
    }
    let source = Arc::new(Changing(Mutex::new(Some(SECRET))));
    let verifier = Verifier::new(AuthConfig::default(), source.clone());
    let request = Signer::default().header(Request::post("Action=A"));
    // When the head is there, when the body is.
    let take = |took: i64, meanwhile: &dyn Fn()| {
        request.with_head(|head| {
            block_on(async {
                let judged = verifier.judge(head, NOW * 1000).await?;
                meanwhile();
                let now = (NOW + took) * 1000;
                verifier.verify(judged, request.body.clone().into(), now).await
            })
        })
    };
    let verify = || take(0, &|| {});
    assert!(verify().is_ok());
    let revoked = take(2, &|| *source.0.lock().unwrap() = None);
    assert!(matches!(revoked, Err(AuthError::UnknownKey)));
    *source.0.lock().unwrap() = Some("another");
    assert!(matches!(verify(), Err(AuthError::SignatureMismatch)));
    *source.0.lock().unwrap() = None;
    assert!(matches!(verify(), Err(AuthError::UnknownKey)));
    *source.0.lock().unwrap() = Some(SECRET);
    assert!(verify().is_ok());
}

#[test]
fn nothing_secret_is_printed() {
    let credential = Credential {
        secret: std::sync::Arc::new(SECRET.into()),
        principal: "p",
    };
    let verifier = verifier(AuthConfig::default());
    let text = format!("{credential:?} {verifier:?}");
    assert!(!text.contains("wJalr"));
}
