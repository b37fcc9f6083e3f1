//! Named crash points: places where a test may kill the whole process, to prove that what comes after a
//! restart is right. Without the feature `crash-points` a point is nothing at all.
//!
//! A point is a step of an operation: `crash_point!("launch", "tap")`. Its name, `launch.14.tap`, has the
//! step's place in the one list below, from which the tests take their points (`cumulet crash-points`).

/// What a role of a simulation is killed with: the payload of its panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Killed;

/// What `point` knows.
#[cfg(feature = "crash-points")]
mod points {
    use std::{cell::RefCell, fs::OpenOptions, io::Write as _, panic::resume_unwind, sync::LazyLock};

    use super::Killed;

    /// Every operation's steps, in the order in which they come to pass, a line each for the API, the
    /// conductor, the worker, and the conductor again.
    const POINTS: [(&str, &str); 5] = [
        ("launch", LAUNCH),
        ("start", LAUNCH),
        (
            "stop",
            "asked written committed
             leased waiting sent
             received begun off network done reported
             heard closed ended",
        ),
        (
            "reboot",
            "asked written committed
             leased waiting sent
             received begun reset done reported
             heard closed ended",
        ),
        (
            "terminate",
            "asked written committed
             leased waiting sent
             received begun absent network metadata tombstone buried reported
             heard freed released closed ended",
        ),
    ];

    const LAUNCH: &str = "asked written committed
        leased claimed waiting sent
        received begun metadata image disk tap defined firewall started done reported
        heard closed ended";

    static WANTED: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("CUMULET_CRASH_AT").ok());

    /// A file that gets a line for each point that is passed.
    static TRACE: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("CUMULET_CRASH_TRACE").ok());

    /// Every point's name.
    pub fn names() -> Vec<String> {
        let all = POINTS.iter().flat_map(|(operation, steps)| {
            let numbered = steps.split_whitespace().enumerate();
            numbered.map(move |(at, step)| format!("{operation}.{}.{step}", at + 1))
        });
        all.collect()
    }

    fn name(operation: &str, step: &str) -> String {
        let steps = POINTS.iter().find(|(known, _)| *known == operation);
        let at = steps.and_then(|(_, steps)| steps.split_whitespace().position(|known| known == step));
        // A point that is missing in the list: the tests find it by this name.
        at.map_or(format!("{operation}.?.{step}"), |at| {
            format!("{operation}.{}.{step}", at + 1)
        })
    }

    type Hook = Box<dyn FnMut(&str) -> bool>;

    thread_local! {
        static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    }

    /// From now on `hook` is asked at each point that this thread passes, and where it says so the caller
    /// dies, by a panic with [`Killed`] that no hook for panics hears of: for many roles in one thread.
    pub fn hook(hook: Option<Hook>) {
        HOOK.with_borrow_mut(|kept| *kept = hook);
    }

    /// Dies here, at once and without unwinding, when the environment's `CUMULET_CRASH_AT` is this point.
    pub fn point(operation: &str, step: &str) {
        let name = name(operation, step);
        if let Some(path) = &*TRACE
            && let Ok(mut file) = OpenOptions::new().append(true).create(true).open(path)
        {
            drop(file.write_all(format!("{name}\n").as_bytes()));
        }
        if WANTED.as_ref() == Some(&name) {
            std::process::abort();
        }
        if HOOK.with_borrow_mut(|hook| hook.as_mut().is_some_and(|hook| hook(&name))) {
            resume_unwind(Box::new(Killed));
        }
    }
}

#[cfg(feature = "crash-points")]
pub use points::{hook, names, point};

/// A place where a test may kill the process: `crash_point!("launch", "disk")`.
#[cfg(feature = "crash-points")]
#[macro_export]
macro_rules! crash_point {
    ($operation:expr, $step:literal) => {
        $crate::crash::point($operation, $step)
    };
}

/// A place where a test may kill the process: nothing, since the feature is off.
#[cfg(not(feature = "crash-points"))]
#[macro_export]
macro_rules! crash_point {
    ($operation:expr, $step:literal) => {{
        let _: &str = $operation;
    }};
}
