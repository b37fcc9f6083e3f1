//! The trace of a run as one hash over its events in order: two runs of a seed are the same if it is.

use std::{
    fmt,
    io::Write as _,
    sync::{Mutex, PoisonError},
};

use sha2::{Digest as _, Sha256};

/// The events of a run.
pub(crate) struct Trace(Mutex<State>);

struct State {
    hash: Sha256,
    line: Vec<u8>,
    events: u64,
    kept: Option<Vec<u8>>,
}

impl Trace {
    /// An empty one; it keeps its lines only if they are wanted.
    pub(crate) fn new(keep: bool) -> Self {
        Trace(Mutex::new(State {
            hash: Sha256::new(),
            line: Vec::new(),
            events: 0,
            kept: keep.then(Vec::new),
        }))
    }

    /// Adds an event.
    pub(crate) fn add(&self, at: u64, event: fmt::Arguments<'_>) {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let State {
            hash,
            line,
            events,
            kept,
        } = &mut *guard;
        line.clear();
        // Writing to memory does not fail.
        drop(writeln!(line, "{at} {event}"));
        hash.update(&*line);
        *events += 1;
        if let Some(kept) = kept {
            kept.extend_from_slice(line);
        }
    }

    /// The digest, how many events it is of, and the lines that were kept.
    pub(crate) fn finish(&self) -> (String, u64, String) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = hex::encode(state.hash.clone().finalize());
        let kept = state.kept.take().unwrap_or_default();
        (digest, state.events, String::from_utf8_lossy(&kept).into_owned())
    }
}
