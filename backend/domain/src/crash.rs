//! Named crash points: places where a test may kill the whole process, to prove that recovery after a restart
//! is right. They are in the program that ships: a point that is not armed (see [`crate::faults::arm`]) is
//! one relaxed load.
//!
//! A point is a step of an operation: `crash_point!("launch", "tap")`. Its name, `launch.14.tap`, has the
//! step's place in the operation's own list, which the program declares when it starts. The tests take their
//! points from there (`cumulet crash-points`), and `cumulet simulate --kill-each` who dies.

use std::{
    cell::RefCell,
    fs::OpenOptions,
    io::Write as _,
    panic::resume_unwind,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::faults;

/// What a role of a simulation is killed with: the payload of its panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Killed;

/// Who comes to a point, and dies there where every role is a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The API's process.
    Gateway,
    /// The part of the conductor that finds a host.
    Scheduler,
    /// The part that goes on from there.
    Conductor,
    /// The worker.
    Host,
}

/// The points of an operation in the order in which they come to pass, with who comes to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// The operation, such as `launch`.
    pub operation: &'static str,
    /// Its points, such as `sent`.
    pub points: Vec<(Role, &'static str)>,
}

/// Every operation's points.
static DECLARED: OnceLock<Vec<Passage>> = OnceLock::new();

/// Says what operations there are, and which points they pass: once, before a point is looked at. The list is that
/// of the operations themselves, which this crate does not know.
pub fn declare(operations: impl FnOnce() -> Vec<Passage>) {
    DECLARED.get_or_init(operations);
}

fn declared() -> &'static [Passage] {
    DECLARED.get().map(Vec::as_slice).unwrap_or_default()
}

/// Whether the points of this process are armed.
static ARMED: AtomicBool = AtomicBool::new(false);

/// A point: a step of an operation, and who comes to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Such as `launch.7.sent`.
    pub name: String,
    /// Such as `launch`.
    pub operation: &'static str,
    /// Such as `sent`.
    pub step: &'static str,
    /// Who comes to it.
    pub role: Role,
}

/// Every point of the operations that are declared, in order.
pub fn points() -> Vec<Point> {
    let all = declared().iter().flat_map(|passage| {
        let each = passage.points.iter().enumerate();
        each.map(|(at, (role, step))| Point {
            name: format!("{}.{}.{step}", passage.operation, at + 1),
            operation: passage.operation,
            step,
            role: *role,
        })
    });
    all.collect()
}

/// The name of an operation's step.
pub fn name(operation: &str, step: &str) -> String {
    let mut all = declared().iter();
    let passage = all.find(|passage| passage.operation == operation);
    let at = passage.and_then(|passage| passage.points.iter().position(|(_, known)| *known == step));
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
    if hook.is_some() {
        arm();
    }
    HOOK.with_borrow_mut(|kept| *kept = hook);
}

/// Whether a point has anything to do in this process.
#[inline]
pub fn armed() -> bool {
    ARMED.load(Ordering::Relaxed)
}

/// From now on points are looked at. There is no way back: who asks for a death gets it.
pub(crate) fn arm() {
    ARMED.store(true, Ordering::Relaxed);
}

/// The points that a start passes beside those of each migration that it makes (`up.NAME`): the schema is there, the
/// first start's rows are, the journal's rows of an earlier program are put right, what an earlier program has not
/// written is written, and a host has what it had before.
pub const UP: [&str; 5] = ["migrated", "made", "adopted", "caught-up", "restored"];

/// A point of a start, which is no operation: `up.migrated`. Processes die there, and no role of a simulation, whose
/// seeds have their deaths at operations' points.
#[inline]
pub fn up(step: &str) {
    if armed() {
        as_asked(&format!("up.{step}"));
    }
}

/// Dies here, at once and without unwinding, when `CUMULET_CRASH_AT` is this point; adds a line for it to the
/// file `CUMULET_CRASH_TRACE`.
#[cold]
pub fn point(operation: &str, step: &str) {
    let name = name(operation, step);
    as_asked(&name);
    if HOOK.with_borrow_mut(|hook| hook.as_mut().is_some_and(|hook| hook(&name))) {
        resume_unwind(Box::new(Killed));
    }
}

/// What the environment has asked for at this point.
#[cold]
fn as_asked(name: &str) {
    let asked = faults::asked();
    if let Some(path) = &asked.crash_trace
        && let Ok(mut file) = OpenOptions::new().append(true).create(true).open(path)
    {
        drop(file.write_all(format!("{name}\n").as_bytes()));
    }
    if asked.crash_at.as_deref() == Some(name) {
        std::process::abort();
    }
}

/// A place where a test may kill the process: `crash_point!("launch", "disk")`.
#[macro_export]
macro_rules! crash_point {
    ($operation:expr, $step:literal) => {
        if $crate::crash::armed() {
            $crate::crash::point($operation, $step)
        }
    };
}
