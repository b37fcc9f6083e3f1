//! The XML writer of responses, straight into a string.
//!
//! Names come from the model and are trusted; text comes from anywhere and is escaped. Characters
//! that XML 1.0 cannot carry even as references are replaced, since the alternative is a document
//! that no client can read (the decoder refuses them on the way in).

/// An XML document under construction.
#[derive(Clone, Debug, Default)]
pub struct XmlWriter {
    out: String,
}

impl XmlWriter {
    /// An empty fragment.
    #[must_use]
    pub const fn new() -> Self {
        Self { out: String::new() }
    }

    /// A fragment that expects to grow to about `bytes`.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            out: String::with_capacity(bytes),
        }
    }

    /// A document: starts with the XML declaration.
    #[must_use]
    pub fn document() -> Self {
        let mut w = Self::with_capacity(512);
        w.declaration();
        w
    }

    /// Writes the XML declaration.
    pub fn declaration(&mut self) {
        self.out.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    }

    /// `<name>`
    pub fn open(&mut self, name: &str) {
        self.out.push('<');
        self.out.push_str(name);
        self.out.push('>');
    }

    /// `<name xmlns="…">`
    pub fn open_ns(&mut self, name: &str, namespace: &str) {
        self.out.push('<');
        self.out.push_str(name);
        self.out.push_str(" xmlns=\"");
        escape(&mut self.out, namespace);
        self.out.push_str("\">");
    }

    /// `</name>`
    pub fn close(&mut self, name: &str) {
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
    }

    /// `<name/>`
    pub fn empty(&mut self, name: &str) {
        self.out.push('<');
        self.out.push_str(name);
        self.out.push_str("/>");
    }

    /// An element with escaped text.
    pub fn text(&mut self, name: &str, text: &str) {
        self.open(name);
        escape(&mut self.out, text);
        self.close(name);
    }

    /// An element whose text is made by the caller from characters that need no escape.
    pub fn plain(&mut self, name: &str, text: std::fmt::Arguments<'_>) {
        self.open(name);
        // Writing into a string cannot fail.
        let _ = std::fmt::Write::write_fmt(&mut self.out, text);
        self.close(name);
    }

    /// What has been written before, by a writer like this one.
    pub fn again(&mut self, written: &str) {
        self.out.push_str(written);
    }

    /// Makes room for so many bytes more.
    pub fn reserve(&mut self, bytes: usize) {
        self.out.reserve(bytes);
    }

    /// What was written from `at` on, which was the length then.
    #[must_use]
    pub fn since(&self, at: usize) -> &str {
        self.out.get(at..).unwrap_or_default()
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether there is nothing yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Makes one list of two: what ends at `at`, and what begins there with the same element.
    /// `<a><i/></a>` and `<a><j/></a>` become `<a><i/><j/></a>`. Others are left as they are.
    pub fn join(&mut self, at: usize) {
        let Some((before, after)) = self.out.split_at_checked(at) else {
            return;
        };
        let name = before.rfind("</").and_then(|start| {
            let name = before[start + 2..].strip_suffix('>')?;
            let opens = after.strip_prefix('<')?.strip_prefix(name)?.starts_with('>');
            opens.then_some(name.len())
        });
        if let Some(length) = name {
            let (close, open) = (length + 3, length + 2);
            self.out.replace_range(at - close..at + open, "");
        }
    }

    /// Takes out all but the last element's end, which stays for [`XmlWriter::join`].
    #[must_use]
    pub fn cut(&mut self) -> String {
        let end = self.out.rfind("</").unwrap_or(self.out.len());
        let end = self.out.split_off(end);
        std::mem::replace(&mut self.out, end)
    }

    /// The text so far.
    #[must_use]
    pub fn finish(self) -> String {
        self.out
    }
}

/// Whether XML 1.0 can carry the character.
#[must_use]
pub const fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

/// Bytes that end a run which may be copied as it is. 0xEF starts U+FFFE and U+FFFF (among others).
const fn is_special(byte: u8) -> bool {
    matches!(byte, b'&' | b'<' | b'>' | b'"' | 0..=8 | 11..=31 | 0xEF)
}

const SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut i = 0;
    while i < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let byte = i as u8;
        table[i] = is_special(byte);
        i += 1;
    }
    table
};

fn escape(out: &mut String, text: &str) {
    if !text.bytes().any(|b| SPECIAL[usize::from(b)]) {
        out.push_str(text);
        return;
    }
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // A parser turns a bare carriage return into a line feed.
            '\r' => out.push_str("&#13;"),
            c if is_xml_char(c) => out.push(c),
            _ => out.push('\u{FFFD}'),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> String {
        let mut w = XmlWriter::new();
        w.text("a", text);
        w.finish()
    }

    #[test]
    fn escapes_what_xml_needs_and_replaces_what_it_cannot_carry() {
        for (given, expected) in [
            ("", "<a></a>"),
            ("plain", "<a>plain</a>"),
            ("a&b<c>\"d\"", "<a>a&amp;b&lt;c&gt;&quot;d&quot;</a>"),
            ("]]>", "<a>]]&gt;</a>"),
            ("tab\tline\nreturn\r", "<a>tab\tline\nreturn&#13;</a>"),
            (
                "nul\0bell\u{7}esc\u{1b}",
                "<a>nul\u{FFFD}bell\u{FFFD}esc\u{FFFD}</a>",
            ),
            ("\u{FFFE}\u{FFFF}", "<a>\u{FFFD}\u{FFFD}</a>"),
            ("ﬀ 東京 \u{1F600}", "<a>ﬀ 東京 \u{1F600}</a>"),
        ] {
            assert_eq!(text(given), expected, "{given:?}");
        }
    }

    #[test]
    fn lists_written_one_after_the_other_become_one() {
        for (first, second, joined) in [
            ("<x/><a><i/></a>", "<a><j/></a>", "<x/><a><i/><j/></a>"),
            ("<a></a>", "<a></a>", "<a></a>"),
            ("<a><i/></a>", "<ab><j/></ab>", "<a><i/></a><ab><j/></ab>"),
            ("<a/>", "<a><j/></a>", "<a/><a><j/></a>"),
            ("", "<a></a>", "<a></a>"),
            ("<a></a>", "", "<a></a>"),
        ] {
            let mut w = XmlWriter {
                out: first.to_owned(),
            };
            w.out.push_str(second);
            w.join(first.len());
            assert_eq!(w.finish(), joined);
        }
        let mut w = XmlWriter {
            out: "<r><a><i/></a>".into(),
        };
        assert_eq!(w.cut(), "<r><a><i/>");
        let at = w.len();
        w.out.push_str("<a><j/></a>");
        w.join(at);
        assert_eq!(w.finish(), "<j/></a>");
    }

    proptest::proptest! {
        #[test]
        fn text_stays_text(given in proptest::prelude::any::<String>()) {
            let xml = text(&given);
            let inner = &xml[3..xml.len() - 4];
            proptest::prop_assert!(!inner.contains('<') && !inner.contains('>'));
            proptest::prop_assert!(inner.chars().all(is_xml_char));
        }
    }
}
