//! A small XML tree for libvirt's answers.

use std::io;

use quick_xml::{
    Reader,
    events::{BytesStart, Event},
};

/// How deep it may go.
const DEPTH: usize = 32;

/// An element.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) name: String,
    attributes: Vec<(String, String)>,
    /// What is directly in it, without the space around it.
    pub(super) text: String,
    pub(super) children: Vec<Element>,
}

impl Element {
    fn start(element: &BytesStart<'_>) -> io::Result<Element> {
        let mut attributes = Vec::new();
        for attribute in element.attributes() {
            let attribute = attribute.map_err(io::Error::other)?;
            let key = attribute.key.as_ref().to_owned();
            let value = quick_xml::escape::unescape(&attribute.value).map_err(io::Error::other)?;
            attributes.push((key, value.into_owned()));
        }
        Ok(Element {
            name: element.name().as_ref().to_owned(),
            attributes,
            ..Element::default()
        })
    }

    /// An attribute's value.
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(key, _)| key == name)?;
        Some(&found.1)
    }

    /// The first element below this one on a path of names.
    pub(super) fn at(&self, path: &[&str]) -> Option<&Element> {
        path.iter().try_fold(self, |at, name| {
            at.children.iter().find(|child| child.name == *name)
        })
    }
}

/// The one element of a document.
pub(super) fn parse(xml: &str) -> io::Result<Element> {
    let mut reader = Reader::from_str(xml);
    let mut open: Vec<Element> = vec![Element::default()];
    loop {
        let closed = match reader.read_event().map_err(io::Error::other)? {
            Event::Start(element) if open.len() <= DEPTH => {
                open.push(Element::start(&element)?);
                None
            }
            Event::Start(_) => return Err(io::Error::other("the XML goes too deep")),
            Event::Empty(element) => Some(Element::start(&element)?),
            Event::End(_) => open.pop(),
            Event::Text(text) => {
                if let Some(element) = open.last_mut() {
                    element.text.push_str(text.trim());
                }
                None
            }
            Event::Eof => break,
            _ => None,
        };
        if let (Some(closed), Some(parent)) = (closed, open.last_mut()) {
            parent.children.push(closed);
        }
    }
    let document = open.pop().filter(|_| open.is_empty());
    let root = document.and_then(|document| document.children.into_iter().next());
    root.ok_or_else(|| io::Error::other("the XML is not whole"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_have_attributes_texts_and_children() {
        let root = parse("<a>\n <b x='1' y='&lt;'>two <c/></b>\n <b>three</b></a>\n").unwrap();
        let b = root.at(&["b"]).unwrap();
        assert_eq!(
            (b.text.as_str(), b.attribute("x"), b.attribute("y")),
            ("two", Some("1"), Some("<"))
        );
        assert!(root.at(&["b", "c"]).is_some());
        assert_eq!(root.at(&["c"]), None);
        assert_eq!(root.children[1].text, "three");
    }

    #[test]
    fn what_is_not_whole_or_too_deep_is_refused() {
        let deep = format!("{}{}", "<a>".repeat(DEPTH + 1), "</a>".repeat(DEPTH + 1));
        for xml in ["", "text", "<a>", "<a><b></a>", "</a>", "<a x=1/>", &deep] {
            assert!(parse(xml).is_err(), "{xml}");
        }
    }
}
