//! Progress of what takes long: a status line on a terminal, elsewhere an entry of the log now and then.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    screen::Screen,
    step::{Amount, Step},
};

/// How often the status line is rewritten at the most, and the log is looked after.
const TICK: Duration = Duration::from_millis(100);

/// Something long, in steps. It is shown by a thread of its own, because a step may keep its thread busy.
/// Clones speak of the same.
#[derive(Clone)]
pub(crate) struct Progress(Arc<Ticker>);

/// The thread that shows; the last clone to go ends it.
struct Ticker {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    began: Instant,
    teller: Mutex<Teller>,
    /// Something has changed that is to be shown at once, or the end.
    changed: Condvar,
}

/// A terminal, and how many columns it has now.
pub(super) struct Terminal {
    pub(super) screen: Arc<Screen>,
    pub(super) columns: fn() -> usize,
}

/// What is shown and where. It knows no clock: each call is told the time.
struct Teller {
    /// `None`: the log is told.
    terminal: Option<Terminal>,
    step: Option<Step>,
    ended: bool,
}

impl Progress {
    pub(super) fn start(terminal: Option<Terminal>) -> Self {
        let shared = Arc::new(Shared {
            began: Instant::now(),
            teller: Mutex::new(Teller::new(terminal)),
            changed: Condvar::new(),
        });
        let shows = shared.clone();
        // Without a thread nothing is shown, and the work goes on all the same.
        let thread = thread::Builder::new().name("progress".into());
        let thread = thread.spawn(move || shows.run()).ok();
        let thread = Mutex::new(thread);
        Progress(Arc::new(Ticker { shared, thread }))
    }

    /// The step before is done, and this one begins.
    pub(crate) fn step(&self, what: &str) {
        let now = self.0.shared.began.elapsed();
        self.0.shared.teller().step(what, now);
    }

    /// So many bytes of the step are done, of so many.
    pub(crate) fn amount(&self, done: u64, total: u64) {
        if self.0.shared.teller().amount(Amount { done, total }) {
            self.0.shared.changed.notify_all();
        }
    }

    /// All is done, and nothing is shown any more.
    pub(crate) fn end(&self) {
        let now = self.0.shared.began.elapsed();
        self.0.shared.teller().finish(now);
        self.0.stop();
    }

    /// Nothing is shown any more; what was not finished is not said to be.
    pub(crate) fn abandon(&self) {
        self.0.stop();
    }
}

impl Shared {
    fn teller(&self) -> MutexGuard<'_, Teller> {
        self.teller.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows what there is, until the end.
    fn run(&self) {
        let mut teller = self.teller();
        while !teller.ended {
            teller.tick(self.began.elapsed());
            let waited = self.changed.wait_timeout(teller, TICK);
            (teller, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Ticker {
    fn stop(&self) {
        self.shared.teller().abandon();
        self.shared.changed.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            drop(thread.join()); // it has shown something or nothing; the work does not depend on it
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Teller {
    fn new(terminal: Option<Terminal>) -> Self {
        Teller {
            terminal,
            step: None,
            ended: false,
        }
    }

    fn step(&mut self, what: &str, now: Duration) {
        if self.step.as_ref().is_none_or(|step| step.what != what) {
            self.finish(now);
            self.step = Some(Step::new(what.to_owned(), now));
        }
    }

    /// True when there is something new to be shown.
    fn amount(&mut self, amount: Amount) -> bool {
        self.step.as_mut().is_some_and(|step| step.advance(amount))
    }

    fn tick(&mut self, now: Duration) {
        let Some(step) = &mut self.step else {
            return;
        };
        match &self.terminal {
            Some(terminal) => terminal.screen.show(&step.line(now, (terminal.columns)())),
            None if step.is_due(now) => tell(step, now),
            None => {}
        }
    }

    /// The step is done: the bar is full, and one that took long leaves a line in the log.
    fn finish(&mut self, now: Duration) {
        let Some(mut step) = self.step.take() else {
            return;
        };
        step.complete();
        if let Some(terminal) = &self.terminal {
            if step.amount().is_some() {
                terminal.screen.show(&step.line(now, (terminal.columns)()));
            }
            terminal.screen.show("");
        }
        if step.is_long(now) {
            let seconds = step.took(now).as_secs();
            tracing::info!(seconds, "{}: done", step.what);
        }
    }

    /// Nothing is shown any more; what was not finished is not said to be.
    fn abandon(&mut self) {
        (self.step, self.ended) = (None, true);
        if let Some(terminal) = &self.terminal {
            terminal.screen.show("");
        }
    }
}

/// Tells the log how far a step is.
fn tell(step: &Step, now: Duration) {
    let (amount, seconds) = (step.amount(), step.took(now).as_secs());
    let percent = amount.map(Amount::percent);
    let (bytes, of_bytes) = (amount.map(|a| a.done), amount.map(|a| a.total));
    tracing::info!(seconds, percent, bytes, of_bytes, "{}", step.what);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{
        lines::Lines,
        screen::{Above, tests::Kept},
    };

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    const fn mib(done: u64) -> Amount {
        Amount {
            done: done << 20,
            total: 100 << 20,
        }
    }

    /// Runs `work` with the log on a screen, as `telemetry::start` sets it up.
    fn on_a_screen(work: impl FnOnce(Terminal, &Kept)) {
        let kept = Kept::default();
        let screen = Arc::new(Screen::new(kept.clone()));
        let (lines, out) = (Lines::new(|| (1, 2, 3)), screen.clone());
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .fmt_fields(lines)
            .event_format(lines)
            .with_writer(move || Above(out.clone()))
            .finish();
        let terminal = Terminal {
            screen,
            columns: || 70,
        };
        tracing::subscriber::with_default(subscriber, || work(terminal, &kept));
    }

    #[test]
    fn a_terminal_has_a_line_that_is_rewritten_and_goes() {
        on_a_screen(|terminal, kept| {
            let mut teller = Teller::new(Some(terminal));
            teller.tick(at(0));
            teller.step("looking", at(0));
            teller.tick(at(900));
            assert_eq!(kept.take(), "");
            teller.tick(at(1000));
            teller.tick(at(1100));
            assert_eq!(kept.take(), "\r\x1b[Klooking  1 s");
            tracing::warn!("meanwhile");
            assert_eq!(kept.take(), "\r\x1b[K01:02:03 WARN  meanwhile\nlooking  1 s");
            teller.step("copying", at(2000));
            assert_eq!(kept.take(), "\r\x1b[K01:02:03 INFO  looking: done  seconds=2\n");
            assert!(teller.amount(mib(1)));
            teller.tick(at(2100));
            assert!(!teller.amount(mib(50)));
            teller.step("copying", at(2100));
            teller.tick(at(2200));
            let bar =
                |filled: usize, percent| format!("\r\x1b[Kcopying  [{:25}] {percent:3}%", "#".repeat(filled));
            let text = kept.take();
            let shown: Vec<&str> = text
                .split_inclusive('%')
                .filter(|part| part.contains('%'))
                .collect();
            assert_eq!(shown[0], bar(0, 1));
            assert!(shown[1].ends_with(&bar(12, 50)), "{text:?}");
            teller.finish(at(2300));
            assert_eq!(
                kept.take(),
                format!("{}  100 MiB of 100 MiB\r\x1b[K", bar(25, 100))
            );
        });
    }

    #[test]
    fn a_log_is_told_now_and_then() {
        on_a_screen(|_, kept| {
            let mut teller = Teller::new(None);
            teller.step("quick", at(0));
            teller.tick(at(900));
            teller.step("copying", at(900));
            teller.amount(mib(25));
            for now in (900..8000).step_by(100) {
                teller.tick(at(now));
            }
            teller.finish(at(8000));
            let lines = [
                "01:02:03 INFO  copying  seconds=1 percent=25 bytes=26214400 of_bytes=104857600\n",
                "01:02:03 INFO  copying  seconds=6 percent=25 bytes=26214400 of_bytes=104857600\n",
                "01:02:03 INFO  copying: done  seconds=7\n",
            ];
            assert_eq!(kept.take(), lines.concat());
        });
    }

    #[test]
    fn what_has_failed_is_not_said_to_be_done() {
        on_a_screen(|terminal, kept| {
            let mut teller = Teller::new(Some(terminal));
            teller.step("looking", at(0));
            teller.tick(at(3000));
            kept.take();
            teller.abandon();
            assert_eq!(kept.take(), "\r\x1b[K");
        });
    }

    #[test]
    fn the_thread_shows_amounts_at_once_and_ends() {
        on_a_screen(|terminal, kept| {
            let progress = Progress::start(Some(terminal));
            progress.step("copying");
            progress.clone().amount(100 << 20, 100 << 20);
            progress.end();
            progress.end();
            let text = kept.take();
            assert!(text.ends_with("100%  100 MiB of 100 MiB\r\x1b[K"), "{text:?}");
            assert!(progress.0.thread.lock().unwrap().is_none());
            progress.step("late");
            progress.amount(1, 2);
            assert_eq!(kept.take(), "");
        });
    }
}
