//! Telemetry: results on standard output; the log, and the progress of what takes long, on standard error.

mod escape;
mod fields;
mod lines;
mod progress;
mod screen;
mod step;

use std::{
    fmt::Display,
    io::{self, IsTerminal as _, Write},
    str::FromStr,
    sync::Arc,
};

use anyhow::{Context as _, Result};
use chrono::{Local, TimeZone as _, Timelike as _};
use cumulet_domain::time::{Clock as _, SystemClock};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{LevelFilter, Targets},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use escape::escaped;
use fields::JsonFields;
use lines::{Lines, OWN, TimeOfDay};
pub(crate) use progress::Progress;
use progress::Terminal;
use screen::{Above, Screen};

/// The variable with the levels, for instance `info,cumulet_worker=debug`.
const FILTER: &str = "CUMULET_LOG";

/// Columns of a terminal that does not say how many it has.
const COLUMNS: usize = 80;

/// How the log is written: the key `log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Auto,
    Text,
    Json,
}

impl FromStr for Format {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Format::Auto),
            "text" => Ok(Format::Text),
            "json" => Ok(Format::Json),
            _ => Err("expecting auto, text or json"),
        }
    }
}

/// Whether text is coloured: the key `log.colour`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    Auto,
    Always,
    Never,
}

impl FromStr for Colour {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Colour::Auto),
            "always" => Ok(Colour::Always),
            "never" => Ok(Colour::Never),
            _ => Err("expecting auto, always or never"),
        }
    }
}

/// What is known of standard error, and of what its reader likes.
#[derive(Clone, Copy, Debug)]
struct OutputTarget {
    terminal: bool,
    /// It obeys escape sequences: `TERM` is set, and not `dumb`.
    capable: bool,
    /// `NO_COLOR` is set (<https://no-color.org>).
    plain: bool,
}

/// What follows from both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Style {
    json: bool,
    colour: bool,
    /// A status line is rewritten below the log.
    status_line: bool,
}

impl OutputTarget {
    fn look() -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        OutputTarget {
            terminal: io::stderr().is_terminal(),
            capable: set("TERM").is_some_and(|term| term != "dumb"),
            plain: set("NO_COLOR").is_some(),
        }
    }

    fn style(self, format: Format, colour: Colour) -> Style {
        let json = match format {
            Format::Auto => !self.terminal,
            Format::Text => false,
            Format::Json => true,
        };
        let colour = match colour {
            Colour::Auto => self.terminal && self.capable && !self.plain,
            Colour::Always => true,
            Colour::Never => false,
        };
        Style {
            json,
            colour: colour && !json,
            status_line: self.terminal && self.capable && !json,
        }
    }
}

/// The log that was started.
pub(crate) struct Log {
    /// The terminal below whose log a status line may stand.
    screen: Option<Arc<Screen>>,
}

impl Log {
    /// Begins to show how far something long is.
    pub(crate) fn progress(&self) -> Progress {
        let terminal = self.screen.clone().map(|screen| Terminal { screen, columns });
        Progress::start(terminal)
    }
}

/// Starts the log: text for people on a terminal, JSON lines elsewhere, unless the configuration says
/// otherwise. Levels are `CUMULET_LOG`'s; by default `info`, and `warn` of libraries where people read.
///
/// # Errors
/// Names what is configured and can't be.
pub(crate) fn start(format: Format, colour: Colour) -> Result<Log> {
    let style = OutputTarget::look().style(format, colour);
    let filter = filter(std::env::var(FILTER).ok().as_deref(), style.json)?;
    let screen = Arc::new(Screen::new(io::stderr()));
    let builder = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_ansi(style.colour);
    // A second start in one process (tests) keeps the first log.
    let started = if style.json {
        let builder = builder.with_writer(io::stderr).json();
        let log = builder.fmt_fields(JsonFields).finish();
        log.with(boxed(filter)).try_init()
    } else {
        let (lines, below) = (Lines::new(time_of_day), screen.clone());
        let builder = builder.with_writer(move || Above(below.clone()));
        let log = builder.fmt_fields(lines).event_format(lines).finish();
        log.with(boxed(filter)).try_init()
    };
    drop(started);
    Ok(Log {
        screen: style.status_line.then_some(screen),
    })
}

/// Which events and spans are logged.
#[derive(Debug)]
enum Filter {
    /// By where they come from.
    Targets(Box<Targets>),
    /// By their spans, too: that looks at each span anew whenever it is entered, under a lock.
    Spans(Box<EnvFilter>),
}

fn boxed<S: tracing::Subscriber>(filter: Filter) -> Box<dyn Layer<S> + Send + Sync> {
    match filter {
        Filter::Targets(filter) => filter,
        Filter::Spans(filter) => filter,
    }
}

fn filter(given: Option<&str>, json: bool) -> Result<Filter> {
    let given = given.filter(|text| !text.is_empty());
    let default = if json {
        "info".to_owned()
    } else {
        format!("warn,{OWN}=info")
    };
    let text = given.unwrap_or(&default);
    if let Ok(targets) = text.parse() {
        return Ok(Filter::Targets(Box::new(targets)));
    }
    let spans = EnvFilter::try_new(text).map(|filter| Filter::Spans(Box::new(filter)));
    spans.with_context(|| {
        format!("{FILTER} = {text:?} is no list of levels; expecting for instance info,cumulet_worker=debug")
    })
}

/// The local time of day. (The time zone is read again when its file or `TZ` has changed, which is looked
/// at once a second at the most.)
fn time_of_day() -> TimeOfDay {
    let now = Local.timestamp_millis_opt(SystemClock.now().0);
    now.single()
        .map_or((0, 0, 0), |now| (now.hour(), now.minute(), now.second()))
}

/// How wide the terminal on standard error is now.
fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stderr());
    size.ok()
        .map(|size| size.ws_col.into())
        .filter(|columns| *columns > 0)
        .unwrap_or(COLUMNS)
}

/// Whether a person sits at a terminal, sees what is said, and can press keys.
pub(crate) fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Prints a line of result. A closed pipe is not an error.
pub(crate) fn say(line: impl Display) {
    let mut out = io::stdout().lock();
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}

/// Prints what is told of an error. Texts of others are in it, so it can't steer the terminal.
pub(crate) fn complain(told: &str) {
    let mut text = String::from("cumulet: ");
    for (number, line) in told.lines().enumerate() {
        text.push_str(if number == 0 { "" } else { "\n" });
        text.push_str(&escaped(line));
    }
    drop(writeln!(io::stderr(), "{text}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_get_text_and_programs_get_json() {
        let here = |terminal, capable, plain| OutputTarget {
            terminal,
            capable,
            plain,
        };
        let (text, colour) = ((Format::Auto, Colour::Auto), Format::Text);
        // around, what is configured; JSON, colour, status line
        for (around, (format, colours), expected) in [
            (here(true, true, false), text, (false, true, true)),
            (here(true, true, true), text, (false, false, true)),
            (here(true, false, false), text, (false, false, false)),
            (here(false, true, false), text, (true, false, false)),
            (
                here(false, true, false),
                (colour, Colour::Auto),
                (false, false, false),
            ),
            (
                here(false, false, true),
                (colour, Colour::Always),
                (false, true, false),
            ),
            (
                here(true, true, false),
                (colour, Colour::Never),
                (false, false, true),
            ),
            (
                here(true, true, false),
                (Format::Json, Colour::Always),
                (true, false, false),
            ),
        ] {
            let style = around.style(format, colours);
            assert_eq!(
                (style.json, style.colour, style.status_line),
                expected,
                "{around:?} {format:?} {colours:?}"
            );
        }
        assert!("yaml".parse::<Format>().is_err() && "yes".parse::<Colour>().is_err());
    }

    #[test]
    fn libraries_are_quiet_where_people_read() {
        for (given, json, expected) in [
            (None, true, "info"),
            (None, false, "cumulet=info,warn"),
            (Some(""), false, "cumulet=info,warn"),
            (Some("debug"), false, "debug"),
            (Some("info,sqlx=debug"), true, "sqlx=debug,info"),
            (Some("info,[request]=debug"), true, "[request]=debug,info"),
        ] {
            let found = match filter(given, json).unwrap() {
                Filter::Targets(filter) => filter.to_string(),
                Filter::Spans(filter) => filter.to_string(),
            };
            assert_eq!(found, expected);
        }
        let error = format!("{:#}", filter(Some("a=b=c"), true).unwrap_err());
        assert!(error.contains(r#"CUMULET_LOG = "a=b=c""#), "{error}");
    }

    #[test]
    fn the_time_of_day_is_one() {
        let (hour, minute, second) = time_of_day();
        assert!(hour < 24 && minute < 60 && second < 61);
    }
}
