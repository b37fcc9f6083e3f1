//! The common part of the targets.

use quick_xml::events::Event;

/// Reads a whole document and gives all its text, resolved, in order.
///
/// # Panics
/// If it is not well-formed: that is the finding.
pub fn text_of(xml: &str) -> String {
    let mut reader = quick_xml::Reader::from_str(xml);
    reader.config_mut().check_end_names = true;
    let (mut text, mut depth, mut roots) = (String::new(), 0_usize, 0);
    loop {
        match reader
            .read_event()
            .unwrap_or_else(|error| panic!("{error}: {xml}"))
        {
            Event::Start(start) => {
                roots += usize::from(depth == 0);
                depth += 1;
                for attribute in start.attributes() {
                    attribute.unwrap_or_else(|error| panic!("{error}: {xml}"));
                }
            }
            Event::End(_) => depth -= 1,
            Event::Empty(_) => roots += usize::from(depth == 0),
            Event::Text(part) => {
                let part: &str = &part;
                assert!(!part.contains("]]>"), "the end of a CDATA section in text: {xml}");
                assert!(
                    depth > 0 || part.trim().is_empty(),
                    "text outside the root: {xml}"
                );
                text.push_str(if depth > 0 { part } else { "" });
            }
            Event::GeneralRef(reference) => text.push(resolve(&reference, xml)),
            Event::Decl(_) => assert!(
                text.is_empty() && depth == 0 && roots == 0,
                "a late declaration: {xml}"
            ),
            Event::Eof => break,
            other => panic!("{other:?}: {xml}"),
        }
    }
    assert_eq!((depth, roots), (0, 1), "{xml}");
    assert!(
        xml.chars().all(cumulet_wire::xml::is_xml_char),
        "a character that XML has not: {xml:?}"
    );
    text
}

fn resolve(reference: &quick_xml::events::BytesRef<'_>, xml: &str) -> char {
    if let Ok(Some(character)) = reference.resolve_char_ref() {
        return character;
    }
    match &**reference {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        other => panic!("reference {other:?}: {xml}"),
    }
}
