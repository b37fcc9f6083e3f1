//! User data: base64 text that stands for at most 16 KiB. Kept as it came.

use base64::{Engine as _, alphabet, engine};
use cumulet_domain::{Error, Result};

/// Bytes at the most, decoded (EC2 user guide, "User data").
const MAX_BYTES: usize = 16 * 1024;

/// Old clients leave the padding out.
const BASE64: engine::GeneralPurpose = engine::GeneralPurpose::new(
    &alphabet::STANDARD,
    engine::GeneralPurposeConfig::new().with_decode_padding_mode(engine::DecodePaddingMode::Indifferent),
);

/// Checks user data and answers the canonical base64 text to keep; nothing stands for none.
///
/// # Errors
/// `MalformedUserData`; `InvalidParameter` when it is too long.
pub(super) fn validate(text: &str) -> Result<Option<String>> {
    // Line breaks come from `base64` on the command line. The bound is on what has yet to be decoded.
    let too_long = || {
        Error::invalid(
            "UserData",
            "",
            format!("user data is limited to {MAX_BYTES} bytes"),
        )
    };
    if text.len() > 2 * MAX_BYTES {
        return Err(too_long());
    }
    let compact: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let bytes = BASE64.decode(&compact).map_err(|_| Error::MalformedUserData {
        reason: "Invalid BASE64 encoding of user data".into(),
    })?;
    if bytes.len() > MAX_BYTES {
        return Err(too_long());
    }
    Ok(Some(engine::general_purpose::STANDARD.encode(&bytes)).filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoded_size_and_form_are_checked() {
        let of = |n: usize| engine::general_purpose::STANDARD.encode(vec![b'x'; n]);
        for (text, ok) in [
            (of(0), true),
            (of(MAX_BYTES), true),
            (of(MAX_BYTES + 1), false),
            ("aGk".into(), true),
            ("aGk=\n".into(), true),
            ("a".into(), false),
            ("#!/bin/sh".into(), false),
            ("aGk=aGk=".into(), false),
            ("x".repeat(100_000), false),
        ] {
            assert_eq!(
                validate(&text).is_ok(),
                ok,
                "{}",
                text.chars().take(20).collect::<String>()
            );
        }
        assert_eq!(validate("aGk").unwrap().as_deref(), Some("aGk="));
        assert_eq!(validate(""), Ok(None));
    }
}
