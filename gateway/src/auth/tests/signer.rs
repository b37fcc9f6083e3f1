//! A plain SigV4 signer, written from AWS's description and independent of the code under test, for
//! requests that no honest client would sign.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::{ACCESS, Request, SECRET};
use crate::auth::time;

/// What to sign and how; the defaults are what a client does.
#[derive(Clone)]
pub(super) struct Signer {
    pub(super) key: &'static str,
    pub(super) secret: &'static str,
    pub(super) at: i64,
    pub(super) scope_date: Option<&'static str>,
    pub(super) region: &'static str,
    pub(super) service: &'static str,
    pub(super) signed: Option<&'static str>,
    pub(super) payload: Option<&'static str>,
    pub(super) expires: &'static str,
}

impl Default for Signer {
    fn default() -> Self {
        Self {
            key: ACCESS,
            secret: SECRET,
            at: super::NOW,
            scope_date: None,
            region: "us-east-1",
            service: "ec2",
            signed: None,
            payload: None,
            expires: "300",
        }
    }
}

impl Signer {
    /// Signs in the `Authorization` header, adding `X-Amz-Date` first.
    pub(super) fn header(&self, request: Request) -> Request {
        let request = request.header("X-Amz-Date", &time::format_basic(self.at));
        let signed = self.signed_headers(&request);
        let signature = self.signature(&request, &signed);
        let scope = self.scope();
        request.header(
            "Authorization",
            &format!(
                "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={signed}, Signature={signature}",
                self.key
            ),
        )
    }

    /// Signs in the query.
    pub(super) fn query(&self, mut request: Request) -> Request {
        let signed = match self.signed {
            Some(signed) => signed.to_owned(),
            None => "host".to_owned(),
        };
        let separator = if request.query.is_empty() { "" } else { "&" };
        request.query += &format!(
            "{separator}X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}%2F{}&X-Amz-Date={}\
             &X-Amz-Expires={}&X-Amz-SignedHeaders={}",
            self.key,
            self.scope().replace('/', "%2F"),
            time::format_basic(self.at),
            self.expires,
            signed.replace(';', "%3B"),
        );
        let signature = self.signature(&request, &signed);
        request.query += &format!("&X-Amz-Signature={signature}");
        request
    }

    fn scope(&self) -> String {
        let date = time::format_basic(self.at)[..8].to_owned();
        let date = self.scope_date.unwrap_or(&date);
        format!("{date}/{}/{}/aws4_request", self.region, self.service)
    }

    fn signed_headers(&self, request: &Request) -> String {
        if let Some(signed) = self.signed {
            return signed.to_owned();
        }
        let mut names: Vec<String> = request
            .headers
            .iter()
            .map(|(name, _)| name.to_lowercase())
            .collect();
        names.sort();
        names.dedup();
        names.join(";")
    }

    fn signature(&self, request: &Request, signed: &str) -> String {
        let mut query: Vec<&str> = request.query.split('&').filter(|part| !part.is_empty()).collect();
        query.sort_unstable();
        let headers: String = signed
            .split(';')
            .map(|name| {
                let values: Vec<&str> = request
                    .headers
                    .iter()
                    .filter(|(other, _)| other.eq_ignore_ascii_case(name))
                    .map(|(_, value)| value.trim())
                    .collect();
                format!("{name}:{}\n", values.join(","))
            })
            .collect();
        let payload = match self.payload {
            Some(payload) => payload.to_owned(),
            None => hex::encode(Sha256::digest(&request.body)),
        };
        let canonical = format!(
            "{}\n{}\n{}\n{headers}\n{signed}\n{payload}",
            request.method,
            request.path,
            query.join("&")
        );
        let scope = self.scope();
        let to_sign = format!(
            "AWS4-HMAC-SHA256\n{}\n{scope}\n{}",
            time::format_basic(self.at),
            hex::encode(Sha256::digest(canonical))
        );
        let mut key = format!("AWS4{}", self.secret).into_bytes();
        for part in scope.split('/') {
            key = mac(&key, part.as_bytes());
        }
        hex::encode(mac(&key, to_sign.as_bytes()))
    }
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    Hmac::<Sha256>::new_from_slice(key)
        .unwrap()
        .chain_update(text)
        .finalize()
        .into_bytes()
        .to_vec()
}
