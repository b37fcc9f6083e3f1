//! The three written forms of time in signatures, read strictly into Unix seconds.

/// `20261121T013649Z`, the form of SigV4.
pub(super) fn parse_basic(text: &[u8]) -> Option<i64> {
    let text: &[u8; 16] = text.try_into().ok()?;
    if text[8] != b'T' || text[15] != b'Z' {
        return None;
    }
    let clock = (
        digits(&text[9..11])?,
        digits(&text[11..13])?,
        digits(&text[13..15])?,
    );
    seconds(
        digits(&text[..4])?,
        digits(&text[4..6])?,
        digits(&text[6..8])?,
        clock,
    )
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
    let clock = (
        digits(&date[11..13])?,
        digits(&date[14..16])?,
        digits(&date[17..19])?,
    );
    seconds(
        digits(&date[..4])?,
        digits(&date[5..7])?,
        digits(&date[8..10])?,
        clock,
    )
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
    let clock = (
        digits(&text[17..19])?,
        digits(&text[20..22])?,
        digits(&text[23..25])?,
    );
    seconds(
        digits(&text[12..16])?,
        month as i64 + 1,
        digits(&text[5..7])?,
        clock,
    )
}

/// The SigV4 form of a point in time.
pub(super) fn format_basic(unix: i64) -> String {
    let (days, rest) = (unix.div_euclid(86_400), unix.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    format!(
        "{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0_i64, |value, byte| {
        byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0'))
    })
}

fn seconds(year: i64, month: i64, day: i64, (hour, minute, second): (i64, i64, i64)) -> Option<i64> {
    // A leap second (60) is written by nobody and accepted by no one.
    let plausible = (1..=12).contains(&month) && hour < 24 && minute < 60 && second < 60;
    let days = days_from_civil(year, month, day);
    // The round trip refuses the 30th of February and the day 0.
    if !plausible || civil(days) != (year, month, day) {
        return None;
    }
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Days since 1970-01-01 (Howard Hinnant's algorithm).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let (era, of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (
        year + era * 400 + i64::from(month <= 2),
        month,
        of_year - (153 * shifted + 2) / 5 + 1,
    )
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
