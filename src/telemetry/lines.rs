//! Log lines for people: one line an event, with local time, level, message, then fields.
//!
//! ```text
//! 12:34:56 WARN  a heartbeat is dropped  host=h1 reason="from the future" request_id=0f0e…
//! ```
//! A library's events, and all below `INFO`, also say where they come from, before the message.

use std::fmt::{self, Debug, Write};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, format::Writer},
    registry::LookupSpan,
};

use super::escape::{Escaped, value};

/// What the targets of this program's own crates begin with.
pub(super) const OWN: &str = "cumulet";

/// The target of what comes through the `log` crate; the real one is in this field.
const LOG: (&str, &str) = ("log", "log.target");

const RESET: &str = "\x1b[0m";
const FAINT: &str = "\x1b[2m";

/// Hour, minute and second of the day.
pub(super) type TimeOfDay = (u32, u32, u32);

/// The format of events and of spans' fields.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines {
    now: fn() -> TimeOfDay,
}

impl Lines {
    /// Lines with the time that `now` tells.
    pub(super) fn new(now: fn() -> TimeOfDay) -> Self {
        Lines { now }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let (hour, minute, second) = (self.now)();
        let metadata = event.metadata();
        styled(
            &mut writer,
            FAINT,
            format_args!("{hour:02}:{minute:02}:{second:02}"),
        )?;
        writer.write_char(' ')?;
        styled(
            &mut writer,
            colour(*metadata.level()),
            format_args!("{:5}", metadata.level()),
        )?;
        writer.write_char(' ')?;
        source(&mut writer, metadata, event)?;
        let mut message = Message(&mut writer, Ok(()));
        event.record(&mut message);
        message.1?;
        let mut fields = Fields::new(&mut writer, "  ");
        event.record(&mut fields);
        let before = fields.finish()?;
        spans(&mut writer, context, event, before)?;
        writeln!(writer)
    }
}

impl<'writer> FormatFields<'writer> for Lines {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = Fields::new(&mut writer, "");
        fields.record(&mut visitor);
        visitor.finish().map(drop)
    }
}

/// Writes the fields of the spans that an event is in, but for what it says itself (a request's id, say).
fn spans<S, N>(
    writer: &mut Writer<'_>,
    context: &FmtContext<'_, S, N>,
    event: &Event<'_>,
    mut before: &'static str,
) -> fmt::Result
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    let own = event.metadata().fields();
    let scope = context.event_scope().into_iter();
    for span in scope.flat_map(|scope| scope.from_root()) {
        let is_said = span
            .metadata()
            .fields()
            .iter()
            .all(|field| own.field(field.name()).is_some());
        let extensions = span.extensions();
        let fields = extensions.get::<FormattedFields<N>>();
        if let Some(fields) = fields.filter(|fields| !is_said && !fields.is_empty()) {
            write!(writer, "{before}{fields}")?;
            before = " ";
        }
    }
    Ok(())
}

/// Says where an event comes from, where that is not plain.
fn source(writer: &mut Writer<'_>, metadata: &Metadata<'_>, event: &Event<'_>) -> fmt::Result {
    let mut told = Target(None);
    if metadata.target() == LOG.0 {
        event.record(&mut told);
    }
    let target = told.0.as_deref().unwrap_or(metadata.target());
    if target.starts_with(OWN) && *metadata.level() <= Level::INFO {
        return Ok(());
    }
    styled(writer, FAINT, format_args!("{target}:"))?;
    writer.write_char(' ')
}

/// Writes text in a style, where the writer takes styles.
fn styled(writer: &mut Writer<'_>, style: &str, text: fmt::Arguments<'_>) -> fmt::Result {
    if writer.has_ansi_escapes() {
        writer.write_str(style)?;
        Escaped::bare(writer).write_fmt(text)?;
        return writer.write_str(RESET);
    }
    Escaped::bare(writer).write_fmt(text)
}

/// A level's colour.
fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[1;31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG => "\x1b[34m",
        Level::TRACE => "\x1b[35m",
    }
}

/// Writes an event's message and passes over its fields.
struct Message<'a, 'w>(&'a mut Writer<'w>, fmt::Result);

impl Visit for Message<'_, '_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.1 = write!(Escaped::bare(self.0), "{value:?}");
        }
    }

    fn record_str(&mut self, field: &Field, text: &str) {
        self.record_debug(field, &format_args!("{text}"));
    }
}

/// Finds the target that an event of the `log` crate names.
struct Target(Option<String>);

impl Visit for Target {
    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}

    fn record_str(&mut self, field: &Field, text: &str) {
        if field.name() == LOG.1 {
            self.0 = Some(text.to_owned());
        }
    }
}

/// Writes fields and passes over the message.
struct Fields<'a, 'w> {
    writer: &'a mut Writer<'w>,
    /// What comes before the next field.
    before: &'static str,
    result: fmt::Result,
}

impl<'a, 'w> Fields<'a, 'w> {
    fn new(writer: &'a mut Writer<'w>, before: &'static str) -> Self {
        let result = Ok(());
        Fields {
            writer,
            before,
            result,
        }
    }

    /// What comes before a field that follows.
    fn finish(self) -> Result<&'static str, fmt::Error> {
        self.result.map(|()| self.before)
    }

    fn put(&mut self, name: &str, text: &str) -> fmt::Result {
        let name = name.strip_prefix("r#").unwrap_or(name);
        self.writer.write_str(self.before)?;
        self.before = " ";
        styled(self.writer, FAINT, format_args!("{name}="))?;
        value(self.writer, text)
    }
}

impl Visit for Fields<'_, '_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, text: &str) {
        // `log.…`: where in its source a library has logged this.
        if field.name() != "message" && !field.name().starts_with("log.") && self.result.is_ok() {
            self.result = self.put(field.name(), text);
        }
    }
}

#[cfg(test)]
mod tests;
