//! The three written forms of time in signatures, read strictly into Unix seconds.

use chrono::{DateTime, Datelike as _, NaiveDate, Timelike as _, Utc};

/// `20261121T013649Z`, the form of SigV4.
pub(super) fn parse_basic(text: &[u8]) -> Option<i64> {
    let text: &[u8; 16] = text.try_into().ok()?;
    if text[8] != b'T' || text[15] != b'Z' {
        return None;
    }
    let date = [digits(&text[..4])?, digits(&text[4..6])?, digits(&text[6..8])?];
    let clock = [
        digits(&text[9..11])?,
        digits(&text[11..13])?,
        digits(&text[13..15])?,
    ];
    seconds(date, clock)
}

/// `2026-11-21T01:36:49Z`, with or without a fraction of a second: the form of SigV2.
pub(super) fn parse_extended(text: &[u8]) -> Option<i64> {
    let (date, rest) = text.split_at_checked(19)?;
    let fraction = rest.strip_suffix(b"Z")?;
    if let Some((dot, decimals)) = fraction.split_first() {
        let plausible = (1..=9).contains(&decimals.len()) && decimals.iter().all(u8::is_ascii_digit);
        if *dot != b'.' || !plausible {
            return None;
        }
    }
    if [date[4], date[7], date[10], date[13], date[16]] != *b"--T::" {
        return None;
    }
    let clock = [
        digits(&date[11..13])?,
        digits(&date[14..16])?,
        digits(&date[17..19])?,
    ];
    let date = [digits(&date[..4])?, digits(&date[5..7])?, digits(&date[8..10])?];
    seconds(date, clock)
}

/// `Sat, 21 Nov 2026 01:36:49 GMT`, the form of the `Date` header.
pub(super) fn parse_http(text: &[u8]) -> Option<i64> {
    let text: &[u8; 29] = text.try_into().ok()?;
    let separators = [
        text[3], text[4], text[7], text[11], text[16], text[19], text[22], text[25],
    ];
    if separators != *b",    :: " || &text[26..] != b"GMT" {
        return None;
    }
    const MONTHS: [&[u8; 3]; 12] = [
        b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
    ];
    let month = MONTHS.iter().position(|name| name.as_slice() == &text[8..11])?;
    let month = u32::try_from(month).ok()? + 1;
    let date = [digits(&text[12..16])?, month, digits(&text[5..7])?];
    let clock = [
        digits(&text[17..19])?,
        digits(&text[20..22])?,
        digits(&text[23..25])?,
    ];
    seconds(date, clock)
}

/// The SigV4 form of a point in time, one that was read above.
pub(super) fn format_basic(unix: i64) -> String {
    let at = DateTime::<Utc>::from_timestamp(unix, 0).unwrap_or_default();
    let year = at.year().unsigned_abs();
    let parts = [
        (0, year / 100),
        (2, year % 100),
        (4, at.month()),
        (6, at.day()),
        (9, at.hour()),
        (11, at.minute()),
        (13, at.second()),
    ];
    let mut text = *b"00000000T000000Z";
    for (place, n) in parts {
        text[place] = b'0' + (n / 10 % 10) as u8;
        text[place + 1] = b'0' + (n % 10) as u8;
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// The number that at most four digits write.
fn digits(text: &[u8]) -> Option<u32> {
    text.iter().try_fold(0, |value, byte| {
        byte.is_ascii_digit().then(|| value * 10 + u32::from(byte - b'0'))
    })
}

/// `None` for days and times that there are not. A leap second (60) is written by nobody and accepted by no one.
fn seconds([year, month, day]: [u32; 3], [hour, minute, second]: [u32; 3]) -> Option<i64> {
    let date = NaiveDate::from_ymd_opt(year.try_into().ok()?, month, day)?;
    Some(date.and_hms_opt(hour, minute, second)?.and_utc().timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_agree() {
        for (basic, extended, http, unix) in [
            (
                "19700101T000000Z",
                "1970-01-01T00:00:00Z",
                "Thu, 01 Jan 1970 00:00:00 GMT",
                0,
            ),
            (
                "20150830T123600Z",
                "2015-08-30T12:36:00Z",
                "Sun, 30 Aug 2015 12:36:00 GMT",
                1_440_938_160,
            ),
            (
                "20240229T235959Z",
                "2024-02-29T23:59:59Z",
                "Thu, 29 Feb 2024 23:59:59 GMT",
                1_709_251_199,
            ),
            (
                "21000301T000000Z",
                "2100-03-01T00:00:00Z",
                "Mon, 01 Mar 2100 00:00:00 GMT",
                4_107_542_400,
            ),
        ] {
            assert_eq!(parse_basic(basic.as_bytes()), Some(unix));
            assert_eq!(parse_extended(extended.as_bytes()), Some(unix));
            assert_eq!(parse_http(http.as_bytes()), Some(unix));
            assert_eq!(format_basic(unix), basic);
        }
        assert_eq!(parse_extended(b"2015-08-30T12:36:00.123Z"), Some(1_440_938_160));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "20150830T123600",
            "20150830T123600z",
            "20150830 123600Z",
            "2015083OT123600Z",
            "+0150830T123600Z",
            "20150230T000000Z",
            "20150800T000000Z",
            "20151301T000000Z",
            "20150830T240000Z",
            "20150830T126000Z",
            "20150830T123660Z",
            "20150830T123600ZZ",
            "2015-08-30T12:36Z",
        ] {
            assert_eq!(parse_basic(text.as_bytes()), None, "{text}");
        }
        for text in [
            "2015-08-30T12:36:00",
            "2015-08-30 12:36:00Z",
            "2015-08-30T12:36:00.Z",
            "2015-08-30T12:36:00.1234567890Z",
            "2015-08-30T12:36:00,1Z",
            "2015-08-30T12:36:00+00:00",
            "2015-02-29T12:36:00Z",
            "20150830T123600Z",
            "Z",
        ] {
            assert_eq!(parse_extended(text.as_bytes()), None, "{text}");
        }
        for text in [
            "Sun, 30 Aug 2015 12:36:00 UTC",
            "Sun, 30 Foo 2015 12:36:00 GMT",
            "Sunday, 30-Aug-15 12:36:00 GMT",
        ] {
            assert_eq!(parse_http(text.as_bytes()), None, "{text}");
        }
    }
}
