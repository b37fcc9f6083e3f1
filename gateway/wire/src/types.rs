//! Scalar types of the wire that the standard library lacks: times, blobs, and secrets.

use std::fmt;

use cumulet_domain::{calendar, time};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Reads `2026-01-02T03:04:05`, then an optional fraction of 1 to 9 digits (cut to milliseconds),
    /// then `Z` or a numeric offset (`+01:00`, `+0100`).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let b = text.as_bytes();
        if b.len() < 20
            || !matches!(
                (b[4], b[7], b[10], b[13], b[16]),
                (b'-', b'-', b'T' | b't', b':', b':')
            )
        {
            return None;
        }
        let (year, month, day) = (number(&b[..4])?, number(&b[5..7])?, number(&b[8..10])?);
        let (hour, minute, second) = (number(&b[11..13])?, number(&b[14..16])?, number(&b[17..19])?);
        let local = calendar::seconds([year, month, day], [hour, minute, second])?;
        let (millis, zone) = fraction(&b[19..])?;
        Some(Self((local - offset(zone)? * 60) * 1000 + millis))
    }
}

/// `2026-01-02T03:04:05.000Z`: UTC, always three digits of fraction.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        time::Timestamp(self.0).fmt(f)
    }
}

/// In JSON the seconds since 1970, with a fraction.
impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0 as f64 / 1000.0)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Ok(Self((seconds * 1000.0).round() as i64))
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, b| {
        b.is_ascii_digit().then(|| sum * 10 + i64::from(b - b'0'))
    })
}

/// Splits `[.fraction]zone` into milliseconds and the zone.
fn fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
    let [b'.', tail @ ..] = rest else {
        return Some((0, rest));
    };
    let count = tail.iter().take_while(|b| b.is_ascii_digit()).count();
    if !(1..=9).contains(&count) {
        return None;
    }
    let digits = number(&tail[..count.min(3)])?;
    let millis = match count {
        1 => digits * 100,
        2 => digits * 10,
        _ => digits,
    };
    Some((millis, &tail[count..]))
}

/// Minutes east of UTC.
fn offset(zone: &[u8]) -> Option<i64> {
    let (sign, hours, minutes) = match zone {
        [b'Z' | b'z'] => return Some(0),
        [sign, h1, h2, b':', m1, m2] | [sign, h1, h2, m1, m2] => {
            (sign, number(&[*h1, *h2])?, number(&[*m1, *m2])?)
        }
        _ => return None,
    };
    if hours > 23 || minutes > 59 {
        return None;
    }
    match sign {
        b'+' => Some(hours * 60 + minutes),
        b'-' => Some(-(hours * 60 + minutes)),
        _ => None,
    }
}

/// Bytes that travel as base64. All of them in these models are user data or keys, so they don't
/// print.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

/// A value that the model marks as sensitive; it doesn't print.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sensitive<T>(pub T);

impl<T> fmt::Debug for Sensitive<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sensitive(..)")
    }
}

impl<T> From<T> for Sensitive<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn timestamps_parse_in_the_forms_that_clients_send() {
        let base = 1_767_323_045_000; // 2026-01-02T03:04:05Z
        for (text, expected) in [
            ("2026-01-02T03:04:05Z", Some(base)),
            ("2026-01-02T03:04:05z", Some(base)),
            ("2026-01-02T03:04:05.6Z", Some(base + 600)),
            ("2026-01-02T03:04:05.67Z", Some(base + 670)),
            ("2026-01-02T03:04:05.678000Z", Some(base + 678)),
            ("2026-01-02T03:04:05.678999999Z", Some(base + 678)),
            ("2026-01-02T04:04:05+01:00", Some(base)),
            ("2026-01-01T21:34:05-0530", Some(base)),
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1969-12-31T23:59:59.999Z", Some(-1)),
            ("2024-02-29T00:00:00Z", Some(1_709_164_800_000)),
            ("2026-02-29T00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-01-02T24:00:00Z", None),
            ("2026-01-02T03:04:05", None),
            ("2026-01-02T03:04:05.Z", None),
            ("2026-01-02T03:04:05.1234567890Z", None),
            ("2026-01-02T03:04:05+1:00", None),
            ("2026-01-02 03:04:05Z", None),
            ("2026-01-02T03:04:-5Z", None),
            ("1767323045", None),
            ("", None),
            ("２026-01-02T03:04:05Z", None),
        ] {
            assert_eq!(Timestamp::parse(text).map(|t| t.0), expected, "{text:?}");
        }
    }

    #[test]
    fn timestamps_print_with_three_digits() {
        assert_eq!(
            Timestamp(1_767_323_045_000).to_string(),
            "2026-01-02T03:04:05.000Z"
        );
        assert_eq!(Timestamp(-1).to_string(), "1969-12-31T23:59:59.999Z");
    }

    #[test]
    fn in_json_they_are_seconds_with_a_fraction() {
        for (ms, json) in [
            (1_767_323_045_678, "1767323045.678"),
            (1_767_323_045_000, "1767323045.0"),
            (-1, "-0.001"),
        ] {
            assert_eq!(serde_json::to_string(&Timestamp(ms)).unwrap(), json);
            assert_eq!(serde_json::from_str::<Timestamp>(json).unwrap(), Timestamp(ms));
        }
        assert_eq!(serde_json::from_str::<Timestamp>("7").unwrap(), Timestamp(7000));
        assert!(serde_json::from_str::<Timestamp>("\"2026-01-02T03:04:05Z\"").is_err());
    }

    #[test]
    fn secrets_do_not_print() {
        assert_eq!(format!("{:?}", Blob(b"key".to_vec())), "Blob(3 bytes)");
        assert_eq!(format!("{:?}", Sensitive("key".to_owned())), "Sensitive(..)");
    }

    proptest! {
        #[test]
        fn timestamps_round_trip(ms in -62_135_596_800_000_i64..253_402_300_800_000) {
            prop_assert_eq!(Timestamp::parse(&Timestamp(ms).to_string()), Some(Timestamp(ms)));
        }

        #[test]
        fn parsing_never_panics(text in any::<String>()) {
            let _ = Timestamp::parse(&text);
        }

        #[test]
        fn printing_never_panics(ms in any::<i64>()) {
            let _ = Timestamp(ms).to_string();
        }
    }
}
