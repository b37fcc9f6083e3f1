//! The fields of spans as JSON, written as they come: every request has a span with one field, for which
//! tracing-subscriber's own form makes a map first. Lines of the log show spans by them.

use std::fmt::{self, Debug, Write};

use tracing::field::{Field, Visit};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{FormatFields, FormattedFields, format, format::Writer},
};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct JsonFields;

impl<'w> FormatFields<'w> for JsonFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut object = Object {
            writer,
            between: "{",
            result: Ok(()),
        };
        fields.record(&mut object);
        let Object {
            mut writer,
            between,
            result,
        } = object;
        result?;
        writer.write_str(if between == "{" { "{}" } else { "}" })
    }

    fn add_fields(
        &self,
        current: &'w mut FormattedFields<Self>,
        fields: &tracing::span::Record<'_>,
    ) -> fmt::Result {
        // Seldom: what was there is read again.
        let mut merged = FormattedFields::<format::JsonFields>::new(std::mem::take(&mut current.fields));
        let added = format::JsonFields::new().add_fields(&mut merged, fields);
        current.fields = merged.fields;
        added
    }
}

/// An object that is written.
struct Object<'w> {
    writer: Writer<'w>,
    /// What comes before the next field.
    between: &'static str,
    result: fmt::Result,
}

impl Object<'_> {
    fn add(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        if self.result.is_err() {
            return;
        }
        let name = field.name();
        let name = name.strip_prefix("r#").unwrap_or(name);
        let between = std::mem::replace(&mut self.between, ",");
        self.result = self.writer.write_str(between).and_then(|()| {
            text(&mut self.writer, format_args!("{name}"))?;
            self.writer.write_char(':')?;
            value(&mut self.writer)
        });
    }
}

impl Visit for Object<'_> {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, |writer| write!(writer, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, |writer| write!(writer, "{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // What is no number of JSON is text.
        match serde_json::Number::from_f64(value) {
            Some(number) => self.add(field, |writer| write!(writer, "{number}")),
            None => self.record_debug(field, &value),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, |writer| write!(writer, "{value}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, |writer| text(writer, format_args!("{value}")));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, |writer| text(writer, format_args!("{value:?}")));
    }
}

/// Writes a string of JSON.
fn text(writer: &mut Writer<'_>, text: fmt::Arguments<'_>) -> fmt::Result {
    writer.write_char('"')?;
    Escaping(writer).write_fmt(text)?;
    writer.write_char('"')
}

struct Escaping<'a, 'w>(&'a mut Writer<'w>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let special = |at: &char| matches!(at, '"' | '\\' | '\0'..='\x1f');
        let mut rest = text;
        while let Some(at) = rest.find(|at: char| special(&at)) {
            let (plain, found) = rest.split_at(at);
            self.0.write_str(plain)?;
            let mut characters = found.chars();
            match characters.next() {
                Some(quoted @ ('"' | '\\')) => write!(self.0, "\\{quoted}")?,
                Some(control) => write!(self.0, "\\u{:04x}", u32::from(control))?,
                None => {}
            }
            rest = characters.as_str();
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged of spans, by either form.
    fn logged(fields: impl for<'w> FormatFields<'w> + Send + Sync + 'static) -> serde_json::Value {
        let kept = Kept::default();
        let writer = kept.clone();
        let builder = tracing_subscriber::fmt()
            .json()
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(builder.fmt_fields(fields).finish(), || {
            let outer = tracing::info_span!(
                "request",
                request_id = "0f-0e",
                text = "a \"quoted\\ \n\u{1} é",
                count = 3_u64,
                less = -4,
                yes = true,
                half = 0.5,
                what = ?Some("x\"y"),
                r#type = %"z",
                later = tracing::field::Empty,
            );
            let _in = outer.enter();
            let _none = tracing::info_span!("none").entered();
            outer.record("later", "l\"");
            tracing::info!("said");
        });
        let line = kept.0.lock().unwrap();
        let line: serde_json::Value = serde_json::from_slice(&line).unwrap();
        line["spans"].clone()
    }

    #[test]
    fn spans_have_the_fields_that_the_librarys_own_form_has() {
        let (ours, theirs) = (logged(JsonFields), logged(format::JsonFields::new()));
        assert_eq!(ours, theirs);
        assert_eq!(ours[0]["request_id"], "0f-0e");
        assert_eq!(ours[0]["text"], "a \"quoted\\ \n\u{1} é");
    }
}
