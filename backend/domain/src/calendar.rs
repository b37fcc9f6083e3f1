//! The Gregorian calendar in UTC, by chrono: seconds since 1970 and what is written for them. Whatever a door
//! writes or reads as a time goes through it, by the `Timestamp` of this crate or of the wire.

use chrono::{DateTime, Datelike as _, NaiveDate, Timelike as _, Utc};

/// A date and a time of day in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Civil {
    pub year: i64,
    pub month: u8,
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
}

impl Civil {
    /// What is written at so many seconds since 1970-01-01T00:00:00Z; the calendar's first or last moment
    /// beyond it, a quarter of a million years away.
    pub fn at(seconds: i64) -> Self {
        let beyond = if seconds < 0 {
            DateTime::<Utc>::MIN_UTC
        } else {
            DateTime::<Utc>::MAX_UTC
        };
        let at = DateTime::<Utc>::from_timestamp(seconds, 0).unwrap_or(beyond);
        let (date, time) = (at.date_naive(), at.time());
        // None is larger than 59.
        let small = |n: u32| u8::try_from(n).unwrap_or(u8::MAX);
        Civil {
            year: date.year().into(),
            month: small(date.month()),
            day: small(date.day()),
            hour: small(time.hour()),
            minute: small(time.minute()),
            second: small(time.second()),
        }
    }
}

/// The seconds since 1970 of a date, and of an hour, a minute and a second of it. `None` for days and times
/// that there are not; nobody writes a leap second.
pub fn seconds([year, month, day]: [i64; 3], [hour, minute, second]: [i64; 3]) -> Option<i64> {
    let small = |n: i64| u32::try_from(n).ok();
    let date = NaiveDate::from_ymd_opt(year.try_into().ok()?, small(month)?, small(day)?)?;
    let at = date.and_hms_opt(small(hour)?, small(minute)?, small(second)?)?;
    Some(at.and_utc().timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_follow_each_other_through_all_leap_years() {
        // Four hundred years, after which all repeats, told by the rule itself.
        let days = |year: i64, month| match month {
            2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let mut midnight = seconds([1900, 1, 1], [0, 0, 0]).unwrap();
        assert_eq!(midnight, -2_208_988_800);
        for year in 1900..2300 {
            for month in 1..=12 {
                for day in 1..=days(year, month) {
                    assert_eq!(seconds([year, month, day], [0, 0, 0]), Some(midnight));
                    let last = Civil::at(midnight + 86_399);
                    let date = [last.year, last.month.into(), last.day.into()];
                    assert_eq!(date, [year, month, day]);
                    assert_eq!((last.hour, last.minute, last.second), (23, 59, 59));
                    midnight += 86_400;
                }
                assert_eq!(seconds([year, month, days(year, month) + 1], [0, 0, 0]), None);
            }
        }
    }

    #[test]
    fn what_is_no_day_or_time_is_none() {
        for (date, time) in [
            ([2026, 0, 1], [0, 0, 0]),
            ([2026, 13, 1], [0, 0, 0]),
            ([2026, 1, 0], [0, 0, 0]),
            ([2026, 1, 1], [24, 0, 0]),
            ([2026, 1, 1], [0, 60, 0]),
            ([2026, 1, 1], [0, 0, 60]),
            ([2026, 1, 1], [0, 0, -1]),
            ([i64::MAX, 1, 1], [0, 0, 0]),
        ] {
            assert_eq!(seconds(date, time), None, "{date:?} {time:?}");
        }
    }

    #[test]
    fn beyond_the_calendar_is_its_end() {
        assert!(Civil::at(i64::MAX).year > 200_000);
        assert!(Civil::at(i64::MIN).year < -200_000);
    }
}
