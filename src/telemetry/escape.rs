//! Control characters made visible: text of tenants and of other programs can neither begin a new line of
//! the log nor steer the terminal that shows it.

use std::fmt::{self, Write};

/// A writer that passes text on with what would steer a terminal escaped.
pub(super) struct Escaped<'a, W: Write + ?Sized> {
    out: &'a mut W,
    /// Whether the text stands between quotes, so that quotes and backslashes are escaped too.
    quoted: bool,
}

impl<'a, W: Write + ?Sized> Escaped<'a, W> {
    /// For text that stands by itself.
    pub(super) fn bare(out: &'a mut W) -> Self {
        Escaped { out, quoted: false }
    }

    fn must_escape(&self, c: char) -> bool {
        steers(c) || self.quoted && matches!(c, '"' | '\\')
    }
}

impl<W: Write + ?Sized> Write for Escaped<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| self.must_escape(*c)) {
            let (before, after) = rest.split_at(at);
            write!(self.out, "{before}{}", c.escape_default())?;
            rest = &after[c.len_utf8()..];
        }
        self.out.write_str(rest)
    }
}

/// A text with what would steer a terminal escaped.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let written = Escaped::bare(&mut out).write_str(text);
    debug_assert!(written.is_ok(), "writing to a String does not fail");
    out
}

/// Writes a field's value: bare where that is one word, quoted otherwise, so that a value can't pass itself
/// off as the next field.
pub(super) fn value<W: Write + ?Sized>(out: &mut W, text: &str) -> fmt::Result {
    let is_word = !text.is_empty() && !text.starts_with('"') && !text.chars().any(char::is_whitespace);
    if is_word {
        return Escaped::bare(out).write_str(text);
    }
    out.write_char('"')?;
    Escaped { out, quoted: true }.write_str(text)?;
    out.write_char('"')
}

/// Whether a character does something instead of being seen: controls, ends of lines, and what turns the
/// direction of writing round.
fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_made_visible() {
        for (text, bare, as_value) in [
            ("plain", "plain", "plain"),
            ("zwei Wörter", "zwei Wörter", "\"zwei Wörter\""),
            ("", "", "\"\""),
            ("a\nb", "a\\nb", "\"a\\nb\""),
            (
                "a\r\n12:00:00 INFO  forged",
                "a\\r\\n12:00:00 INFO  forged",
                "\"a\\r\\n12:00:00 INFO  forged\"",
            ),
            ("\u{1b}[2J", "\\u{1b}[2J", "\\u{1b}[2J"),
            (
                "\u{1b}]0;title\u{7}",
                "\\u{1b}]0;title\\u{7}",
                "\\u{1b}]0;title\\u{7}",
            ),
            ("\u{9b}31m", "\\u{9b}31m", "\\u{9b}31m"),
            ("\u{7f}\0", "\\u{7f}\\u{0}", "\\u{7f}\\u{0}"),
            ("\u{202e}dlrow", "\\u{202e}dlrow", "\\u{202e}dlrow"),
            ("x\" host=\"other", "x\" host=\"other", "\"x\\\" host=\\\"other\""),
            ("\"a\\", "\"a\\", "\"\\\"a\\\\\""),
        ] {
            let (mut one, mut other) = (String::new(), String::new());
            Escaped::bare(&mut one).write_str(text).unwrap();
            value(&mut other, text).unwrap();
            assert_eq!((one.as_str(), other.as_str()), (bare, as_value), "{text:?}");
        }
    }
}
