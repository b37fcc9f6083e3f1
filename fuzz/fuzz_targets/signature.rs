//! A request with a signature that we did not make never verifies, whatever it looks like; one that the
//! `aws-sigv4` crate made does; and one of those with a single change does not.

#![no_main]

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

use arbitrary::Arbitrary;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use cumulet_certs::SecretString;
use cumulet_gateway::auth::{
    AuthConfig, Credential, CredentialSource, LookupError, RequestHead, SigV2Policy, Verifier,
};
use libfuzzer_sys::fuzz_target;

const ACCESS: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
/// 2015-08-30T12:36:00Z, that of AWS's own examples.
const NOW: u64 = 1_440_938_160;

struct Source;

impl CredentialSource for Source {
    type Principal = ();

    async fn lookup(&self, id: &str, _: Option<&str>) -> Result<Option<Credential<()>>, LookupError> {
        let secret = SecretString::new(SECRET.to_owned());
        Ok((id == ACCESS).then_some(Credential {
            secret: secret.into(),
            principal: (),
        }))
    }
}

static VERIFIER: LazyLock<Verifier<Source>> = LazyLock::new(|| {
    let config = AuthConfig {
        sigv2: SigV2Policy::Sha256AndSha1,
        ..AuthConfig::default()
    };
    Verifier::new(config, Source)
});

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    /// Anything at all.
    Raw {
        get: bool,
        path: &'a str,
        query: &'a str,
        headers: Vec<(&'a str, &'a [u8])>,
        body: &'a [u8],
    },
    /// The parts that a verifier takes apart, so that they are reached.
    Claimed {
        scope: &'a str,
        signed_headers: &'a str,
        signature: [u8; 32],
        date: &'a str,
        presigned: bool,
        body: &'a [u8],
    },
    /// A request that is signed here, and a change of it.
    Signed {
        path: &'a str,
        query: Vec<(&'a str, &'a str)>,
        header: &'a str,
        body: &'a [u8],
        change: Change,
    },
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Change {
    Nothing,
    Body(u8),
    Signature(u8),
    Query,
    Header,
    Method,
}

fn verifies(head: RequestHead<'_>, body: &[u8]) -> bool {
    let now = i64::try_from(NOW).unwrap_or(0) * 1000;
    let verified = async {
        let judged = VERIFIER.judge(head, now).await?;
        VERIFIER.verify(judged, body.to_vec().into(), now).await
    };
    futures_executor::block_on(verified).is_ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn encoded(text: &str) -> String {
    const KEPT: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~');
    percent_encoding::utf8_percent_encode(text, KEPT).to_string()
}

/// Signs in the header: `None` where the signer itself refuses.
fn signed_headers(uri: &str, headers: &[(String, String)], body: &[u8]) -> Option<Vec<(String, String)>> {
    let identity = Credentials::new(ACCESS, SECRET, None, None, "fuzz").into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name("ec2")
        .time(UNIX_EPOCH + Duration::from_secs(NOW))
        .settings(SigningSettings::default())
        .build()
        .ok()?
        .into();
    let given = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let request = SignableRequest::new("POST", uri, given, SignableBody::Bytes(body)).ok()?;
    let (instructions, _) = sign(request, &params).ok()?.into_parts();
    let (more, _) = instructions.into_parts();
    let more = more
        .into_iter()
        .map(|header| (header.name().to_owned(), header.value().to_owned()));
    Some(headers.iter().cloned().chain(more).collect())
}

/// A request that may still be changed.
#[derive(Debug)]
struct Request {
    method: &'static str,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    /// A request that an SDK could send.
    fn plausible(path: &str, query: &[(&str, &str)], header: &str, body: &[u8]) -> Self {
        // Dot segments are left out: at a path's end the signers of AWS differ among themselves.
        let segments = path
            .split('/')
            .filter(|segment| !segment.is_empty() && !segment.bytes().all(|b| b == b'.'));
        let path: Vec<String> = segments.take(4).map(encoded).collect();
        let reserved = ["awsaccesskeyid", "signature", "signatureversion", "signed-body"];
        // A NUL in a parameter and a name that comes twice, in any case, are refused, however well
        // they are signed.
        let mut names = BTreeSet::new();
        let pairs = query.iter().filter(|(name, value)| {
            let folded = name.to_ascii_lowercase();
            let plain = !name.is_empty() && !folded.starts_with("x-amz-") && !reserved.contains(&&*folded);
            plain && !name.contains('\0') && !value.contains('\0') && names.insert(folded)
        });
        let query: Vec<String> = pairs
            .take(6)
            .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
            .collect();
        let value: String = header.chars().filter(|c| matches!(c, ' '..='~')).collect();
        let headers = [
            ("host", "cloud.example.com:8773"),
            ("content-type", "application/x-www-form-urlencoded"),
            ("x-custom", value.trim()),
        ];
        Self {
            method: "POST",
            path: format!("/{}", path.join("/")),
            query: query.join("&"),
            headers: headers
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
            // One parameter, whose name no other one has.
            body: [&b"signed-body="[..], hex(body).as_bytes()].concat(),
        }
    }

    /// Signs it; `None` where the signer itself refuses.
    fn signed(mut self) -> Option<Self> {
        let separator = if self.query.is_empty() { "" } else { "?" };
        let uri = format!(
            "http://cloud.example.com:8773{}{separator}{}",
            self.path, self.query
        );
        self.headers = signed_headers(&uri, &self.headers, &self.body)?;
        Some(self)
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Nothing => {}
            Change::Body(at) => match self.body.len() {
                0 => self.body.push(at),
                length => self.body[usize::from(at) % length] ^= 1,
            },
            Change::Signature(at) => {
                let found = self.headers.iter_mut().find(|(name, _)| name == "authorization");
                let (_, value) = found.expect("the signer adds it");
                let place = value.len() - 1 - usize::from(at % 64);
                let digit = if value.as_bytes()[place] == b'0' { "1" } else { "0" };
                value.replace_range(place..=place, digit);
            }
            Change::Query => self.query += if self.query.is_empty() { "a=b" } else { "&a=b" },
            Change::Header => self.headers[2].1.push('x'),
            Change::Method => self.method = "PUT",
        }
    }

    fn verifies(&self) -> bool {
        let headers: Vec<(&str, &[u8])> = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()))
            .collect();
        let head = RequestHead {
            method: self.method,
            path: &self.path,
            query: &self.query,
            headers: &headers,
        };
        verifies(head, &self.body)
    }
}

fn signed(path: &str, query: &[(&str, &str)], header: &str, body: &[u8], change: Change) {
    let Some(mut request) = Request::plausible(path, query, header, body).signed() else {
        return;
    };
    request.change(change);
    let expected = matches!(change, Change::Nothing);
    assert_eq!(request.verifies(), expected, "{change:?} {request:?}");
}

/// Bytes that come from nowhere are nobody's signature.
fn claimed(scope: &str, signed_headers: &str, signature: [u8; 32], date: &str, presigned: bool, body: &[u8]) {
    let signature: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
    let names = if signed_headers.is_empty() {
        "host;x-amz-date"
    } else {
        signed_headers
    };
    let scope = if scope.is_empty() {
        "AKIAIOSFODNN7EXAMPLE/20150830/us-east-1/ec2/aws4_request"
    } else {
        scope
    };
    let date = if date.is_empty() { "20150830T123600Z" } else { date };
    let authorization =
        format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={names}, Signature={signature}");
    let query = format!(
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}&X-Amz-Date={}&X-Amz-Expires=60&X-Amz-SignedHeaders={}&X-Amz-Signature={signature}",
        encoded(scope),
        encoded(date),
        encoded(names),
    );
    let mut headers: Vec<(&str, &[u8])> =
        vec![("Host", b"cloud.example.com"), ("X-Amz-Date", date.as_bytes())];
    if !presigned {
        headers.push(("Authorization", authorization.as_bytes()));
    }
    let query = if presigned { query.as_str() } else { "" };
    let head = RequestHead {
        method: "POST",
        path: "/",
        query,
        headers: &headers,
    };
    assert!(!verifies(head, body), "{head:?}");
    head.claimed_service();
}

fuzz_target!(|input: Input<'_>| match input {
    Input::Raw {
        get,
        path,
        query,
        headers,
        body,
    } => {
        let head = RequestHead {
            method: if get { "GET" } else { "POST" },
            path,
            query,
            headers: &headers,
        };
        head.claimed_service();
        assert!(!verifies(head, body), "{head:?}");
    }
    Input::Claimed {
        scope,
        signed_headers,
        signature,
        date,
        presigned,
        body,
    } => {
        claimed(scope, signed_headers, signature, date, presigned, body);
    }
    Input::Signed {
        path,
        query,
        header,
        body,
        change,
    } => signed(path, &query, header, body, change),
});
