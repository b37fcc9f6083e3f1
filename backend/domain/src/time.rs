//! Timestamps, and the clock that is handed in wherever time is read.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::calendar::{self, Civil};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This much later; the end of time if that cannot be written.
    pub fn after(self, duration: Duration) -> Timestamp {
        Timestamp(
            self.0
                .saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// How long ago `earlier` was; zero if it is later than this.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Whole seconds since 1970.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The inverse of the printed form; seconds and their fraction may be left out. `None` for anything else,
    /// and for days and times that there are not.
    pub fn parse(text: &str) -> Option<Timestamp> {
        let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
        let (time, millis) = match time.split_once('.') {
            None => (time, 0),
            Some((time, fraction)) if fraction.len() == 3 => (time, digits(fraction)?),
            Some(_) => return None,
        };
        let fields = |text: &str, by: char| text.split(by).map(digits).collect::<Option<Vec<i64>>>();
        let ([year, month, day], time) = (fields(date, '-')?.try_into().ok()?, fields(time, ':')?);
        let (hour, minute, second) = match time[..] {
            [hour, minute] => (hour, minute, 0),
            [hour, minute, second] => (hour, minute, second),
            _ => return None,
        };
        let seconds = calendar::seconds([year, month, day], [hour, minute, second])?;
        Some(Timestamp(seconds * 1000 + millis))
    }

    /// What is written for it in UTC.
    pub fn civil(self) -> Civil {
        Civil::at(self.seconds())
    }
}

/// A number of at most four digits and nothing else.
fn digits(text: &str) -> Option<i64> {
    let plain = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

/// ISO 8601 in UTC with exactly three fraction digits, as EC2 writes times.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let civil = self.civil();
        let millis = self.0.rem_euclid(1000);
        let Some(text) = written(civil, millis) else {
            let Civil {
                year,
                month,
                day,
                hour,
                minute,
                second,
            } = civil;
            return write!(
                f,
                "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"
            );
        };
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

/// The printed form of years with four digits, digit by digit: listings have several times for each instance,
/// and `write!` costs more than twice as much.
fn written(civil: Civil, millis: i64) -> Option<[u8; 24]> {
    let year = u16::try_from(civil.year).ok().filter(|year| *year < 10_000)?;
    let millis = u16::try_from(millis).ok()?;
    let digit = |n: u16| b'0' + (n % 10) as u8;
    let mut text = *b"0000-00-00T00:00:00.000Z";
    for (at, unit) in [(0, 1000), (1, 100), (2, 10), (3, 1)] {
        text[at] = digit(year / unit);
    }
    let Civil {
        month,
        day,
        hour,
        minute,
        second,
        ..
    } = civil;
    for (at, n) in [(5, month), (8, day), (11, hour), (14, minute), (17, second)] {
        (text[at], text[at + 1]) = (digit(u16::from(n) / 10), digit(n.into()));
    }
    for (at, unit) in [(20, 100), (21, 10), (22, 1)] {
        text[at] = digit(millis / unit);
    }
    Some(text)
}

/// Where the time comes from: the system's clock, or a virtual one under test.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // this is the one place that reads it
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp(since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
    }
}

/// A clock that stands still until it is set: for tests and simulations.
#[derive(Debug, Default)]
pub struct ManualClock(std::sync::atomic::AtomicI64);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: Timestamp) -> Self {
        ManualClock(now.0.into())
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.0.fetch_add(millis, std::sync::atomic::Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(std::sync::atomic::Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_ec2_does() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_767_323_045_678, "2026-01-02T03:04:05.678Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (4_102_444_799_999, "2099-12-31T23:59:59.999Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
            (253_402_300_800_000, "10000-01-01T00:00:00.000Z"),
            (-62_167_219_200_000, "0000-01-01T00:00:00.000Z"),
            (-62_167_219_200_001, "-001-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Timestamp(millis).to_string(), text);
        }
    }

    #[test]
    fn parses_what_it_prints_and_nothing_that_is_no_time() {
        for millis in [0, 951_782_400_000, 1_767_323_045_678, 4_102_444_799_999] {
            assert_eq!(
                Timestamp::parse(&Timestamp(millis).to_string()),
                Some(Timestamp(millis))
            );
        }
        let whole = Some(Timestamp(1_767_323_040_000));
        assert_eq!(Timestamp::parse("2026-01-02T03:04Z"), whole);
        assert_eq!(Timestamp::parse("2026-01-02T03:04:00Z"), whole);
        for wrong in [
            "",
            "2026-02-30T00:00Z",
            "2026-01-02T24:00Z",
            "2026-01-02",
            "2026-01-02T03:04",
            "2026-1-2T-1:0Z",
        ] {
            assert_eq!(Timestamp::parse(wrong), None, "{wrong}");
        }
    }
}
