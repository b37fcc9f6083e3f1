//! What the process says: results on standard output, the log on standard error.

use std::io::{IsTerminal, Write};

use tracing_subscriber::EnvFilter;

/// Starts the log: text on a terminal, JSON lines elsewhere; levels by `CUMULET_LOG` (for instance
/// `info,cumulet_worker=debug`).
pub(crate) fn start() {
    let filter = EnvFilter::try_from_env("CUMULET_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A second start in one process (tests) keeps the first log.
    let started = if std::io::stderr().is_terminal() {
        builder.try_init()
    } else {
        builder.json().try_init()
    };
    drop(started);
}

/// Prints a line of result. A closed pipe is not an error.
pub(crate) fn say(line: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}

/// Prints an error with its causes.
pub(crate) fn complain(error: &anyhow::Error) {
    drop(writeln!(std::io::stderr(), "cumulet: {error:#}"));
}

/// Redraws a line of progress on the terminal.
pub(crate) fn progress(line: impl std::fmt::Display, last: bool) {
    let mut err = std::io::stderr().lock();
    drop(write!(err, "\r{line}{}", if last { "\n" } else { "" }).and_then(|()| err.flush()));
}
