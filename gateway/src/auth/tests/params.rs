//! Duplicates in every disguise, and what counts as a signature's parameter (S11).

use super::*;

fn scan(query: &str, body: &str) -> Result<Parameters, AuthError> {
    let head = RequestHead {
        method: "POST",
        path: "/",
        query,
        headers: &[],
    };
    Parameters::scan(&head, body.as_bytes())
}

#[test]
fn duplicates() {
    let many: String = (0..200).map(|n| format!("Filter.{n}.Name=x&")).collect();
    for (query, body, duplicate) in [
        ("", "Action=A&Action=B", Some("Action")),
        ("Action=A", "Action=B", Some("Action")),
        ("", "Action=A&action=B", Some("action")),
        ("", "Action=A&%41ction=B", Some("%41ction")),
        ("", "Action=A&%61ction=B", Some("%61ction")),
        ("", "a+b=1&a%20b=2", Some("a%20b")),
        ("", "x&x", Some("x")),
        ("", &format!("{many}filter.7.name=x"), Some("filter.7.name")),
        ("", &format!("{many}Filter.200.Name=x"), None),
        ("", "Action=A;Action=B", None),
        ("", "Action=Action&Version=Action", None),
        ("", "&&a=1&&b=2&", None),
        ("", "a=1&aa=2&%61%61%61=3", None),
        ("", "", None),
    ] {
        match (scan(query, body), duplicate) {
            (Err(AuthError::DuplicateParameter(name)), Some(duplicate)) => {
                assert!(
                    name.eq_ignore_ascii_case(duplicate) || name.len() <= duplicate.len(),
                    "{name}"
                );
            }
            (Ok(_), None) => {}
            (outcome, _) => panic!("{query} {body}: {outcome:?}"),
        }
    }
}

#[test]
fn names_in_messages_are_printable_and_short() {
    let long = "é\n".repeat(200);
    let Err(AuthError::DuplicateParameter(name)) = scan("", &format!("{long}=1&{long}=2")) else {
        panic!("not refused");
    };
    assert!(name.len() <= 64 && name.bytes().all(|b| b.is_ascii_graphic()));
}

#[test]
fn a_million_parameters_are_refused_cheaply() {
    let body = "a&".repeat(1_000_000);
    assert!(matches!(scan("", &body), Err(AuthError::MalformedQuery(_))));
}

#[test]
fn signature_parameters_are_seen_in_any_spelling() {
    for (query, body, presigned, query_signed) in [
        ("", "Action=A", false, false),
        ("X-Amz-Signature=x", "", true, false),
        ("x-amz-credential=x", "", true, false),
        ("%58-Amz-Algorithm=x", "", true, false),
        ("X-Amz-Date=x", "", false, false),
        ("", "X-Amz-Signature=x", false, false),
        ("AWSAccessKeyId=x", "", false, true),
        ("", "SignatureVersion=2", false, true),
        ("", "%53ignature=x", false, true),
        ("X-Amz-Signature=x", "Signature=x", true, true),
    ] {
        let found = scan(query, body).unwrap();
        assert_eq!(
            (found.presigned, found.query_signed),
            (presigned, query_signed),
            "{query} {body}"
        );
    }
}

#[test]
fn a_form_is_told_by_its_type() {
    let form = |kind: &str| {
        let headers = [("content-type", kind.as_bytes())];
        let head = RequestHead {
            method: "POST",
            path: "/",
            query: "",
            headers: &headers,
        };
        super::super::headers::Headers::of(&head).unwrap().body_is_form()
    };
    assert!(form("application/x-www-form-urlencoded"));
    assert!(form("APPLICATION/X-WWW-FORM-URLENCODED; charset=utf-8"));
    assert!(!form("application/json"));
    assert!(!form("application/x-www-form-urlencodedx"));
}
