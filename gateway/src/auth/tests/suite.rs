//! AWS's SigV4 test suite, header and query (S12).

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Case {
    name: String,
    request: String,
    canonical: String,
    token: Option<String>,
    unsigned_token: bool,
}

impl Case {
    /// The raw request, taken apart as an HTTP server would.
    fn request(&self) -> Request {
        let (head, body) = self.request.split_once("\n\n").unwrap_or((&self.request, ""));
        let (line, headers) = head.split_once('\n').unwrap();
        let (method, rest) = line.split_once(' ').unwrap();
        let target = rest.strip_suffix(" HTTP/1.1").unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let headers = headers.lines().map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_owned(), value.to_owned())
        });
        Request {
            method: method.into(),
            path: path.into(),
            query: query.into(),
            headers: headers.collect(),
            body: body.into(),
        }
    }
}

#[test]
fn aws_test_suite() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("../testdata/suite.json")).unwrap();
    assert!(cases.len() > 40, "{}", cases.len());
    let config = AuthConfig {
        services: vec!["service"],
        ..AuthConfig::default()
    };
    let mut signed = 0;
    for case in &cases {
        let mut source = Keys::default();
        source.secrets.insert("AKIDEXAMPLE".into(), SECRET.into());
        let outcome = verify_at(
            &Verifier::new(config.clone(), source),
            &case.request(),
            1_440_938_160,
        );
        // Of two parameters of one name nobody knows which one is meant: refused, though signed (S11).
        // A token that is not signed could be anybody's (S04). The suite's key is not of the kind
        // that has a token.
        match (case.name.as_str(), outcome) {
            ("get-vanilla-query-order-key/header" | "get-vanilla-query-order-key/query", outcome) => {
                assert!(matches!(outcome, Err(AuthError::DuplicateParameter(_))));
            }
            (name, Err(AuthError::DuplicateParameter(_))) => {
                assert!(name.starts_with("get-vanilla-query-order-key-case"), "{name}");
            }
            (name, outcome) if case.unsigned_token && name.ends_with("/header") => {
                assert!(
                    matches!(outcome, Err(AuthError::Unsigned(_))),
                    "{name} {outcome:?}"
                );
            }
            (name, outcome) if case.token.is_some() => {
                assert!(matches!(outcome, Err(AuthError::Token(_))), "{name} {outcome:?}");
            }
            (name, outcome) => {
                outcome.unwrap_or_else(|error| panic!("{name}: {error}\n{}", case.canonical));
                signed += 1;
            }
        }
    }
    assert!(signed > 35, "{signed}");
}
