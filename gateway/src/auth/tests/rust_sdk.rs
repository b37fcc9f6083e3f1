//! Requests signed by the `aws-sigv4` crate, which today's Rust SDK uses.

use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use proptest::prelude::*;

use super::*;

/// Signs in the header, or for `expires` seconds in the query.
fn signed(mut request: Request, region: &str, service: &str, expires: Option<u64>) -> Request {
    let identity = Credentials::new(ACCESS, SECRET, None, None, "test").into();
    let mut settings = SigningSettings::default();
    if let Some(seconds) = expires {
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(Duration::from_secs(seconds));
    }
    let params = SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(UNIX_EPOCH + Duration::from_secs(NOW as u64))
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let query = if request.query.is_empty() {
        String::new()
    } else {
        format!("?{}", request.query)
    };
    let uri = format!("http://cloud.example.com:8773{}{query}", request.path);
    let body = SignableBody::Bytes(&request.body);
    let headers = request
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let signable = SignableRequest::new(&request.method, uri, headers, body).unwrap();
    let (instructions, _) = sign(signable, &params).unwrap().into_parts();
    let (headers, parameters) = instructions.into_parts();
    for header in headers {
        request
            .headers
            .push((header.name().to_owned(), header.value().to_owned()));
    }
    for (name, value) in parameters {
        let mut encoded = Vec::new();
        crate::auth::encoding::encode_into(&mut encoded, value.as_bytes());
        let separator = if request.query.is_empty() { "" } else { "&" };
        request.query += &format!("{separator}{name}={}", String::from_utf8(encoded).unwrap());
    }
    request
}

#[test]
fn posts_and_presigned_gets_verify() {
    for (region, service) in [
        ("us-east-1", "ec2"),
        ("undefined-20379", "ec2"),
        ("eu-west-1", "sts"),
        ("x", "iam"),
    ] {
        let post = signed(
            Request::post("Action=DescribeRegions&Version=2016-11-15"),
            region,
            service,
            None,
        );
        let verified = verify(&post).unwrap();
        assert_eq!((verified.region.as_str(), verified.service), (region, service));
        assert_eq!(verified.method, SignatureMethod::V4Header);
        let get = signed(
            Request::get("Action=DescribeRegions&Version=2016-11-15"),
            region,
            service,
            Some(60),
        );
        let verified = verify(&get).unwrap();
        assert_eq!((verified.region.as_str(), verified.service), (region, service));
        assert_eq!(verified.method, SignatureMethod::V4Query);
    }
}

fn encoded(text: &str) -> String {
    let mut out = Vec::new();
    crate::auth::encoding::encode_into(&mut out, text.as_bytes());
    String::from_utf8(out).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Our canonical form is the other implementation's, whatever is in the request. Dot segments
    /// are left to the test suite: at the end of a path botocore and this crate differ.
    #[test]
    fn any_request_verifies(
        body in "[ -%'-~é漢]{0,200}",
        values in proptest::collection::vec("[^\0\u{80}-\u{9f}]{0,12}", 0..5),
        header in "[a-z0-9]([ -~]{0,20}[a-z0-9])?",
        segments in proptest::collection::vec("([A-Za-z0-9_~@=%+-][A-Za-z0-9._~@=%+-]{0,5})?", 0..4),
        presign in any::<bool>(),
    ) {
        let query: Vec<String> = values.iter().enumerate().map(|(n, v)| format!("P.{n}={}", encoded(v))).collect();
        let path: String = segments.iter().map(|s| format!("/{}", encoded(s))).collect();
        let mut request = Request::post("").header("x-custom", &header);
        request.path = if path.is_empty() { "/".into() } else { path };
        request.query = query.join("&");
        request.body = format!("Body={body}").into_bytes();
        let request = signed(request, "us-east-1", "ec2", presign.then_some(60));
        prop_assert!(verify(&request).is_ok(), "{:?} {:?}", verify(&request), request);
    }
}
