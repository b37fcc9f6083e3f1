//! The table of attacks on signatures, by their numbers. Every request here is correctly signed but
//! for the one thing that the row is about.

use super::signer::Signer;
use super::*;

const BODY: &str = "Action=DescribeRegions&Version=2016-11-15";
const DENIED: (&str, u16) = ("AuthFailure", 401);
const NOT_COVERED: (&str, u16) = ("SignatureDoesNotMatch", 403);
const EXPIRED: (&str, u16) = ("RequestExpired", 400);
const INCOMPLETE: (&str, u16) = ("IncompleteSignature", 400);

fn post() -> Request {
    Request::post(BODY)
}

fn signed() -> Request {
    Signer::default().header(post())
}

fn presigned() -> Request {
    Signer::default().query(Request::get(BODY))
}

#[test]
fn the_signer_of_this_table_is_believed() {
    assert_eq!(verify(&signed()).unwrap().service, "ec2");
    assert_eq!(verify(&presigned()).unwrap().method, SignatureMethod::V4Query);
    assert_eq!(
        verify(&Signer::default().query(post())).unwrap().method,
        SignatureMethod::V4Query
    );
}

#[test]
fn s01_skew_of_fifteen_minutes_in_both_directions() {
    let verifier = verifier(AuthConfig::default());
    for offset in [0, 900, -900] {
        assert!(verify_at(&verifier, &signed(), NOW + offset).is_ok(), "{offset}");
    }
    for offset in [901, -901, 86_400, 5 * 31_536_000, -31_536_000] {
        assert_eq!(
            refusal(verify_at(&verifier, &signed(), NOW + offset)),
            EXPIRED,
            "{offset}"
        );
    }
}

#[test]
fn s02_no_time_or_a_malformed_one() {
    assert_eq!(refusal(verify(&signed().without("x-amz-date"))), INCOMPLETE);
    for date in [
        "",
        "20261121",
        "2026-11-21T01:20:00Z",
        "20261121T012000",
        "20261321T012000Z",
    ] {
        let request = signed().without("x-amz-date").header("X-Amz-Date", date);
        assert_eq!(refusal(verify(&request)), INCOMPLETE, "{date}");
    }
    let mut request = presigned();
    request.query = request.query.replace("X-Amz-Date", "X-Amz-Dote");
    assert_eq!(refusal(verify(&request)), INCOMPLETE);
}

#[test]
fn the_date_header_stands_in_for_x_amz_date() {
    // Signed with the time of the Date header, which itself is in another form.
    let signer = Signer {
        signed: Some("host"),
        ..Signer::default()
    };
    let dated = |date: &str| signer.header(post()).without("x-amz-date").header("Date", date);
    assert!(verify(&dated("Sat, 21 Nov 2026 01:20:00 GMT")).is_ok());
    assert_eq!(refusal(verify(&dated("Sat, 21 Nov 2026 01:20:01 GMT"))), DENIED);
    assert_eq!(refusal(verify(&dated("Fri, 20 Nov 2026 01:20:00 GMT"))), EXPIRED);
}

#[test]
fn s04_unsigned_x_amz_headers() {
    for name in [
        "x-amz-copy-source",
        "X-AMZ-ACL",
        "x-amz-security-token",
        "X-Amz-Content-Sha256",
    ] {
        for request in [signed(), presigned()] {
            assert_eq!(
                refusal(verify(&request.header(name, "value"))),
                NOT_COVERED,
                "{name}"
            );
        }
    }
    let signer = Signer {
        signed: Some("content-type;host"),
        ..Signer::default()
    };
    assert_eq!(
        refusal(verify(&signer.header(post()))),
        NOT_COVERED,
        "x-amz-date itself"
    );
    // Tracing headers of proxies are not x-amz-*.
    assert!(verify(&signed().header("X-Amzn-Trace-Id", "Root=1")).is_ok());
    assert!(verify(&signed().header("amz-sdk-request", "attempt=2; max=3")).is_ok());
}

#[test]
fn s05_host_not_signed_or_signed_header_absent() {
    let signer = Signer {
        signed: Some("content-type;x-amz-date"),
        ..Signer::default()
    };
    assert_eq!(refusal(verify(&signer.header(post()))), NOT_COVERED);
    let signer = Signer {
        signed: Some("x-custom"),
        ..Signer::default()
    };
    assert_eq!(refusal(verify(&signer.query(Request::get(BODY)))), NOT_COVERED);
    let signer = Signer {
        signed: Some("host;x-amz-date;x-custom"),
        ..Signer::default()
    };
    assert_eq!(refusal(verify(&signer.header(post()))), NOT_COVERED);
    assert_eq!(refusal(verify(&signed().without("content-type"))), NOT_COVERED);
    assert_eq!(refusal(verify(&signed().without("host"))), INCOMPLETE);
}

#[test]
fn s06_scope() {
    let wrong_day = Signer {
        scope_date: Some("20261120"),
        ..Signer::default()
    };
    assert_eq!(refusal(verify(&wrong_day.header(post()))), DENIED);
    assert_eq!(refusal(verify(&wrong_day.query(Request::get(BODY)))), DENIED);
    for service in ["s3", "EC2", "monitoring", "ec2x"] {
        let signer = Signer {
            service,
            ..Signer::default()
        };
        assert_eq!(refusal(verify(&signer.header(post()))), DENIED, "{service}");
    }
    let only = verifier(AuthConfig {
        services: vec!["sts"],
        ..AuthConfig::default()
    });
    assert_eq!(refusal(verify_at(&only, &signed(), NOW)), DENIED);
    let ours = AuthConfig {
        regions: RegionPolicy::List(vec!["us-east-1".into()]),
        ..AuthConfig::default()
    };
    let ours = verifier(ours);
    assert!(verify_at(&ours, &signed(), NOW).is_ok());
    let signer = Signer {
        region: "us-west-2",
        ..Signer::default()
    };
    assert_eq!(refusal(verify_at(&ours, &signer.header(post()), NOW)), DENIED);
    assert!(verify(&signer.header(post())).is_ok(), "any region by default");
}

#[test]
fn s08_payload() {
    let changed = Request {
        body: b"Action=TerminateInstances".to_vec(),
        ..signed()
    };
    assert_eq!(refusal(verify(&changed)), DENIED);
    let hash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    for (declared, payload) in [
        ("UNSIGNED-PAYLOAD", Some("UNSIGNED-PAYLOAD")),
        (
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
            Some("STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
        ),
        (hash, Some(hash)),
        (hash, None),
        ("", None),
    ] {
        let request = post().header("X-Amz-Content-SHA256", declared);
        let signer = Signer {
            payload,
            ..Signer::default()
        };
        assert_eq!(
            refusal(verify(&signer.header(request))),
            NOT_COVERED,
            "{declared}"
        );
    }
    let right = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(BODY));
    assert!(verify(&Signer::default().header(post().header("X-Amz-Content-SHA256", &right))).is_ok());
    let unsigned = Signer {
        payload: Some("UNSIGNED-PAYLOAD"),
        ..Signer::default()
    };
    assert_eq!(
        refusal(verify(&unsigned.query(Request::get(BODY)))),
        DENIED,
        "presigned too"
    );
}

#[test]
fn s09_other_algorithms() {
    for header in [
        "AWS AKIAIOSFODNN7EXAMPLE:frJIUN8DYpKDtOLCwo//yllqDzg=",
        "AWS3-HTTPS AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE",
        "AWS4-HMAC-SHA1 Credential=a/20261121/r/ec2/aws4_request, SignedHeaders=host, Signature=00",
        "AWS4-ECDSA-P256-SHA256 Credential=a/20261121/ec2/aws4_request, SignedHeaders=host, Signature=00",
        "Basic QUtJQTpzZWNyZXQ=",
        "Bearer token",
        "",
    ] {
        let request = signed().without("authorization").header("Authorization", header);
        assert_eq!(refusal(verify(&request)), INCOMPLETE, "{header}");
    }
    let mut request = presigned();
    request.query = request.query.replace("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1");
    assert_eq!(refusal(verify(&request)), INCOMPLETE);
}

#[test]
fn s11_duplicate_parameters() {
    for body in ["Action=A&Action=B", "Action=A&action=B", "Action=A&%41ction=B"] {
        let request = Signer::default().header(Request::post(body));
        assert_eq!(refusal(verify(&request)), ("MalformedQueryString", 400), "{body}");
    }
    let both = Request {
        query: "Action=TerminateInstances".into(),
        ..post()
    };
    assert_eq!(
        refusal(verify(&Signer::default().header(both))),
        ("MalformedQueryString", 400)
    );
}

#[test]
fn s12_broken_encodings() {
    for value in ["%", "%zz", "%C0%AF", "%00", "%FF"] {
        let request = Signer::default().header(Request::get(&format!("Action={value}")));
        assert_eq!(
            refusal(verify(&request)),
            ("MalformedQueryString", 400),
            "{value}"
        );
    }
}

#[test]
fn s13_said_twice() {
    let date = "20261121T012000Z";
    let copy = signed()
        .headers
        .iter()
        .find(|(name, _)| name == "Authorization")
        .unwrap()
        .1
        .clone();
    for request in [
        signed().header("authorization", &copy),
        signed().header("host", "cloud.example.com:8773"),
        signed().header("x-amz-date", date),
        signed().header("content-type", "text/plain"),
        signed()
            .header("Content-Length", "1")
            .header("content-length", "1"),
        signed()
            .header("Content-Length", "1")
            .header("Transfer-Encoding", "chunked"),
        presigned().header("Authorization", &copy),
        Signer::default().header(presigned()),
        Request {
            body: format!("{BODY}&AWSAccessKeyId=x").into(),
            ..signed()
        },
        Request {
            path: "http://cloud.example.com:8773/".into(),
            ..signed()
        },
        Request {
            path: "*".into(),
            ..signed()
        },
    ] {
        assert_eq!(refusal(verify(&request)), INCOMPLETE, "{request:?}");
    }
}

#[test]
fn s13_malformed_authorization() {
    let good = signed()
        .headers
        .iter()
        .find(|(name, _)| name == "Authorization")
        .unwrap()
        .1
        .clone();
    let with = |header: String| verify(&signed().without("authorization").header("Authorization", &header));
    assert!(with(good.replace(", ", ",")).is_ok(), "no space after commas");
    for (from, to) in [
        ("Credential=", "Credential"),
        ("Credential=", "Credentials="),
        (", Signature=", ", Extra=1, Signature="),
        (", Signature=", ", Credential=x, Signature="),
        ("/us-east-1/", "/"),
        ("/us-east-1/", "/us/east/"),
        ("/aws4_request", "/aws4"),
        ("/20261121/", "/2026112/"),
        ("AKIAIOSFODNN7EXAMPLE/", "/"),
        ("AKIAIOSFODNN7EXAMPLE/", "AKIA\u{e9}/"),
        ("content-type;host;x-amz-date", "host;content-type;x-amz-date"),
        (
            "content-type;host;x-amz-date",
            "content-type;host;host;x-amz-date",
        ),
        ("content-type;host;x-amz-date", "Content-Type;host;x-amz-date"),
        ("content-type;host;x-amz-date", "content-type;host;;x-amz-date"),
        ("content-type;host;x-amz-date", ""),
    ] {
        assert!(good.contains(from), "{from}");
        assert_eq!(
            refusal(with(good.replace(from, to))),
            INCOMPLETE,
            "{from} -> {to}"
        );
    }
    let (head, signature) = good.split_at(good.len() - 64);
    for wrong in [
        signature.to_uppercase(),
        signature[1..].to_owned(),
        format!("{signature}0"),
        String::new(),
    ] {
        assert_eq!(refusal(with(format!("{head}{wrong}"))), DENIED, "{wrong}");
    }
}

#[test]
fn s14_hosts() {
    let config = AuthConfig {
        hosts: Some(vec!["cloud.example.com:8773".into()]),
        ..AuthConfig::default()
    };
    let ours = verifier(config);
    assert!(verify_at(&ours, &signed(), NOW).is_ok());
    let foreign = Signer::default().header(post().without("host").header("Host", "evil.example.com"));
    assert_eq!(refusal(verify_at(&ours, &foreign, NOW)), NOT_COVERED);
    // X-Forwarded-Host changes nothing, neither to allow nor to deny.
    let forwarded = |request: Request, host| request.header("X-Forwarded-Host", host);
    assert!(verify_at(&ours, &forwarded(signed(), "evil.example.com"), NOW).is_ok());
    let outcome = verify_at(&ours, &forwarded(foreign, "cloud.example.com:8773"), NOW);
    assert_eq!(refusal(outcome), NOT_COVERED);
}

#[test]
fn s15_presigned_lifetimes() {
    for expires in [
        "0",
        "-1",
        "604801",
        "4294967295",
        "18446744073709551617",
        "",
        "+1",
        "1.5",
        "0x10",
        "300s",
    ] {
        let signer = Signer {
            expires,
            ..Signer::default()
        };
        let outcome = verify(&signer.query(Request::get(BODY)));
        // A plus is a space in a query.
        assert_eq!(refusal(outcome), ("InvalidQueryParameter", 400), "{expires}");
    }
    let verifier = verifier(AuthConfig::default());
    let week = Signer {
        expires: "604800",
        ..Signer::default()
    };
    for (offset, ok) in [(0, true), (300, true), (301, false), (-900, true), (-901, false)] {
        let outcome = verify_at(&verifier, &presigned(), NOW + offset);
        assert_eq!(outcome.is_ok(), ok, "{offset}");
        if !ok {
            assert_eq!(refusal(outcome), EXPIRED, "{offset}");
        }
    }
    assert!(verify_at(&verifier, &week.query(Request::get(BODY)), NOW + 604_800).is_ok());
    assert_eq!(
        refusal(verify_at(
            &verifier,
            &week.query(Request::get(BODY)),
            NOW + 604_801
        )),
        EXPIRED
    );
}

#[test]
fn no_signature_at_all() {
    for request in [
        post(),
        Request::get(BODY),
        Request::get("X-Amz-Date=20261121T012000Z"),
    ] {
        assert_eq!(refusal(verify(&request)), ("MissingAuthenticationToken", 403));
    }
}

#[test]
fn incomplete_presigned_requests() {
    for name in [
        "Algorithm",
        "Credential",
        "Date",
        "Expires",
        "SignedHeaders",
        "Signature",
    ] {
        let mut request = presigned();
        request.query = request
            .query
            .replace(&format!("X-Amz-{name}="), &format!("X-Amz-No{name}="));
        assert_eq!(refusal(verify(&request)), INCOMPLETE, "{name}");
    }
}

/// Unknown keys and wrong secrets can't be told apart on EC2, and messages repeat no input.
#[test]
fn refusals_tell_nothing() {
    let unknown = Signer {
        key: "AKIAUNKNOWN777777777",
        ..Signer::default()
    }
    .header(post());
    let wrong = Signer {
        secret: "another",
        ..Signer::default()
    }
    .header(post());
    let message = |request: &Request| verify(request).unwrap_err().reject(Dialect::Ec2);
    assert_eq!(message(&unknown), message(&wrong));
    let query = verify(&wrong).unwrap_err().reject(Dialect::Query);
    assert_eq!((query.code, query.status), NOT_COVERED);
}
