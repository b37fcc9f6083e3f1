//! A step of something long, as a line of a terminal: what is done, for how long, how much of it.

use std::time::Duration;

use super::escape::escaped;

/// A step that is over within this time is not worth a word.
const SOON: Duration = Duration::from_secs(1);

/// How often a log is told of a step that goes on.
const AGAIN: Duration = Duration::from_secs(5);

/// Cells of a bar.
const BAR: usize = 25;

/// A step that is under way. Times are those of one clock that only goes forward.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) what: String,
    began: Duration,
    amount: Option<Amount>,
    /// When the log is told next.
    due: Duration,
}

/// Bytes that are done, of how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) done: u64,
    pub(super) total: u64,
}

impl Amount {
    /// Of nothing, all is done.
    pub(super) fn percent(self) -> u64 {
        let percent = u128::from(self.done.min(self.total)) * 100;
        let percent = percent.checked_div(u128::from(self.total)).unwrap_or(100);
        u64::try_from(percent).unwrap_or(100)
    }

    fn bar(self) -> String {
        let filled = usize::try_from(self.percent()).unwrap_or(0) * BAR / 100;
        format!("[{:BAR$}] {:3}%", "#".repeat(filled), self.percent())
    }

    /// `210 MiB of 620 MiB`, and after a second how fast and how long it still takes.
    fn details(self, took: Duration) -> Vec<String> {
        let mut details = vec![format!("{} of {}", size(self.done), size(self.total))];
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let each_second = u128::from(self.done) * 1000 / u128::from(millis.max(1));
        let each_second = u64::try_from(each_second).unwrap_or(u64::MAX);
        if took >= SOON && each_second > 0 && self.done < self.total {
            details.push(format!("{}/s", size(each_second)));
            let left = (self.total - self.done).div_ceil(each_second);
            details.push(format!("{} left", time(Duration::from_secs(left))));
        }
        details
    }
}

impl Step {
    pub(super) fn new(what: String, now: Duration) -> Self {
        Step {
            what,
            began: now,
            amount: None,
            due: now + SOON,
        }
    }

    /// Notes how far it is; true the first time, when there is something new to be shown.
    pub(super) fn advance(&mut self, amount: Amount) -> bool {
        self.amount.replace(amount).is_none()
    }

    /// The same when all is done, where amounts are known.
    pub(super) fn complete(&mut self) {
        if let Some(amount) = &mut self.amount {
            amount.done = amount.total;
        }
    }

    pub(super) fn amount(&self) -> Option<Amount> {
        self.amount
    }

    pub(super) fn took(&self, now: Duration) -> Duration {
        now.saturating_sub(self.began)
    }

    /// Whether it takes long enough to be spoken of.
    pub(super) fn is_long(&self, now: Duration) -> bool {
        self.took(now) >= SOON
    }

    /// Whether the log is to be told now. Then it is not due again for a while.
    pub(super) fn is_due(&mut self, now: Duration) -> bool {
        let due = now >= self.due;
        if due {
            self.due = now + AGAIN;
        }
        due
    }

    /// The line of a terminal of so many columns; empty while there is nothing to say. What does not fit is
    /// left out, the least important first.
    pub(super) fn line(&self, now: Duration, columns: usize) -> String {
        let took = self.took(now);
        let mut parts = vec![self.what.clone()];
        match self.amount {
            Some(amount) => {
                parts.push(amount.bar());
                parts.extend(amount.details(took));
            }
            None if self.is_long(now) => parts.push(time(took)),
            None => return String::new(),
        }
        // The last column stays free: many terminals wrap as soon as it is written.
        let room = columns.saturating_sub(1);
        while parts.len() > 2 && cells(&parts.join("  ")) > room {
            parts.pop();
        }
        fit(&parts.join("  "), room)
    }
}

/// A number of bytes in the unit that suits it.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..0x10_0000 => format!("{} KiB", bytes.div_ceil(1 << 10)),
        0x10_0000..0x2_8000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}

/// Seconds, or minutes and seconds.
fn time(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// How wide a character is at the most: what is not ASCII may take two cells.
fn width(c: char) -> usize {
    if c.is_ascii() { 1 } else { 2 }
}

fn cells(text: &str) -> usize {
    text.chars().map(width).sum()
}

/// As much of a text, made harmless, as fits.
fn fit(text: &str, room: usize) -> String {
    let mut used = 0;
    let fits = |c: &char| {
        used += width(*c);
        used <= room
    };
    escaped(text).chars().take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn copying(done: u64) -> Step {
        let mut step = Step::new("copying disk.raw".into(), at(500));
        assert!(step.advance(Amount {
            done: 0,
            total: 600 << 20
        }));
        assert!(!step.advance(Amount {
            done,
            total: 600 << 20
        }));
        step
    }

    #[test]
    fn a_step_without_an_amount_is_shown_when_it_takes_long() {
        let step = Step::new("waiting for the first heartbeat".into(), at(500));
        assert_eq!(step.line(at(1499), 80), "");
        assert_eq!(step.line(at(1500), 80), "waiting for the first heartbeat  1 s");
        assert_eq!(
            step.line(at(240_500), 80),
            "waiting for the first heartbeat  4 min 0 s"
        );
    }

    #[test]
    fn a_bar_shows_how_much_is_done_and_how_long_it_still_takes() {
        for (done, now, line) in [
            (
                0,
                500,
                "copying disk.raw  [                         ]   0%  0 KiB of 600 MiB",
            ),
            (
                150 << 20,
                1000,
                "copying disk.raw  [######                   ]  25%  150 MiB of 600 MiB",
            ),
            (
                300 << 20,
                3500,
                "copying disk.raw  [############             ]  50%  300 MiB of 600 MiB  100 MiB/s  3 s left",
            ),
            (
                600 << 20,
                6500,
                "copying disk.raw  [#########################] 100%  600 MiB of 600 MiB",
            ),
        ] {
            assert_eq!(copying(done).line(at(now), 120), line);
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let step = copying(300 << 20);
        for (columns, line) in [
            (
                94,
                "copying disk.raw  [############             ]  50%  300 MiB of 600 MiB  100 MiB/s  3 s left",
            ),
            (
                91,
                "copying disk.raw  [############             ]  50%  300 MiB of 600 MiB  100 MiB/s",
            ),
            (
                80,
                "copying disk.raw  [############             ]  50%  300 MiB of 600 MiB",
            ),
            (60, "copying disk.raw  [############             ]  50%"),
            (20, "copying disk.raw  ["),
            (1, ""),
            (0, ""),
        ] {
            assert_eq!(step.line(at(3500), columns), line, "{columns} columns");
        }
        let wide = Step::new("磁盘\n\u{1b}[2J".into(), at(0));
        assert_eq!(wide.line(at(2000), 9), "磁盘\\n\\u");
    }

    #[test]
    fn the_log_is_told_after_a_second_and_then_now_and_then() {
        let mut step = copying(0);
        let told: Vec<u64> = (0..130)
            .map(|i| i * 100)
            .filter(|now| step.is_due(at(*now)))
            .collect();
        assert_eq!(told, [1500, 6500, 11_500]);
    }

    #[test]
    fn shares_of_everything_and_of_nothing() {
        for (done, total, percent) in [
            (0, 0, 100),
            (0, 3, 0),
            (2, 3, 66),
            (3, 3, 100),
            (4, 3, 100),
            (u64::MAX, u64::MAX, 100),
        ] {
            assert_eq!(Amount { done, total }.percent(), percent);
        }
        for (bytes, text) in [
            (0, "0 KiB"),
            (1, "1 KiB"),
            (1 << 20, "1 MiB"),
            (9 << 30, "9216 MiB"),
            (10 << 30, "10 GiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
