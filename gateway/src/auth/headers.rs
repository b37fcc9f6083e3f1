//! The headers that matter to authentication, found in one pass, each at most once.

use super::{AuthError, RequestHead};

/// Values of the headers that decide who the caller is or what the body means.
#[derive(Default)]
pub(super) struct Headers<'a> {
    pub(super) authorization: Option<&'a [u8]>,
    pub(super) host: Option<&'a [u8]>,
    pub(super) date: Option<&'a [u8]>,
    pub(super) amz_date: Option<&'a [u8]>,
    pub(super) amz_token: Option<&'a [u8]>,
    pub(super) amz_content_sha256: Option<&'a [u8]>,
    pub(super) content_type: Option<&'a [u8]>,
    content_length: Option<&'a [u8]>,
    transfer_encoding: Option<&'a [u8]>,
}

impl<'a> Headers<'a> {
    /// Reads the headers, refusing any of them that is there twice.
    pub(super) fn of(head: &RequestHead<'a>) -> Result<Self, AuthError> {
        let mut found = Self::default();
        for &(name, value) in head.headers {
            let Some(slot) = found.slot(name) else { continue };
            if slot.replace(value.trim_ascii()).is_some() {
                return Err(AuthError::Ambiguous(
                    "a header that may be given only once is repeated",
                ));
            }
        }
        if found.content_length.is_some() && found.transfer_encoding.is_some() {
            return Err(AuthError::Ambiguous(
                "both Content-Length and Transfer-Encoding are given",
            ));
        }
        Ok(found)
    }

    fn slot(&mut self, name: &str) -> Option<&mut Option<&'a [u8]>> {
        // The lengths differ, so that most headers are told apart by one comparison of numbers.
        let (expected, slot) = match name.len() {
            4 if name.as_bytes()[0] | 0x20 == b'h' => ("host", &mut self.host),
            4 => ("date", &mut self.date),
            10 => ("x-amz-date", &mut self.amz_date),
            12 => ("content-type", &mut self.content_type),
            13 => ("authorization", &mut self.authorization),
            14 => ("content-length", &mut self.content_length),
            17 => ("transfer-encoding", &mut self.transfer_encoding),
            20 if name.as_bytes()[6] | 0x20 == b's' => ("x-amz-security-token", &mut self.amz_token),
            20 => ("x-amz-content-sha256", &mut self.amz_content_sha256),
            _ => return None,
        };
        name.eq_ignore_ascii_case(expected).then_some(slot)
    }

    /// Whether the body is a form whose parameters will be read. A body without a type is one,
    /// which is how the Query protocols take it.
    pub(super) fn body_is_form(&self) -> bool {
        const FORM: &[u8] = b"application/x-www-form-urlencoded";
        let Some(value) = self.content_type else {
            return true;
        };
        match value.split_at_checked(FORM.len()) {
            Some((kind, rest)) => {
                kind.eq_ignore_ascii_case(FORM) && matches!(rest.first(), None | Some(b';' | b' ' | b'\t'))
            }
            None => false,
        }
    }
}
