//! Any text in any place of a response: the document is well-formed, and a parser reads the text back.

#![no_main]

use arbitrary::Arbitrary;
use cumulet_fuzz::text_of;
use cumulet_wire::error::{Fault, ec2_error_xml, query_error_xml};
use cumulet_wire::response::{ec2_response, ec2_version, query_response};
use cumulet_wire::xml::{XmlWriter, is_xml_char};
use cumulet_wire::{Blob, Sensitive, Timestamp, ToXml, XmlBody};
use libfuzzer_sys::fuzz_target;

/// Of IAM and of STS (their models' `xmlNamespace`).
const NAMESPACES: [&str; 2] = [
    "https://iam.amazonaws.com/doc/2010-05-08/",
    "https://sts.amazonaws.com/doc/2011-06-15/",
];

#[derive(Arbitrary, Debug)]
enum Value {
    Text(String),
    Secret(String),
    Flag(bool),
    Int(i32),
    Long(i64),
    Float(f64),
    Time(i64),
    Bytes(Vec<u8>),
    List(Vec<String>),
    Nothing,
    Struct(Vec<Value>),
}

#[derive(Arbitrary, Debug)]
struct Input {
    request_id: String,
    code: String,
    message: String,
    version: String,
    result: Vec<Value>,
}

struct Body<'a>(&'a [Value]);

impl XmlBody for Body<'_> {
    fn members(&self, w: &mut XmlWriter) {
        for value in self.0 {
            match value {
                Value::Text(text) => text.to_xml("text", w),
                Value::Secret(text) => Sensitive(text.clone()).to_xml("secret", w),
                Value::Flag(flag) => flag.to_xml("flag", w),
                Value::Int(number) => number.to_xml("int", w),
                Value::Long(number) => number.to_xml("long", w),
                Value::Float(number) => number.to_xml("float", w),
                Value::Time(millis) => Timestamp(*millis).to_xml("time", w),
                Value::Bytes(bytes) => Blob(bytes.clone()).to_xml("blob", w),
                Value::List(items) => items.to_xml("itemSet", w),
                Value::Nothing => None::<String>.to_xml("nothing", w),
                Value::Struct(values) => {
                    w.open("struct");
                    Body(values).members(w);
                    w.close("struct");
                }
            }
        }
    }
}

/// What a client reads of a text: what XML cannot carry is replaced.
fn carried(text: &str) -> String {
    text.chars()
        .map(|c| if is_xml_char(c) { c } else { '\u{FFFD}' })
        .collect()
}

fuzz_target!(|input: Input| {
    let Input {
        request_id,
        code,
        message,
        version,
        result,
    } = &input;
    let body = Body(result);
    let version = ec2_version(Some(version)).unwrap_or("2016-11-15");
    text_of(&ec2_response("Action", version, request_id, &body));
    text_of(&query_response(NAMESPACES[1], "Action", request_id, Some(&body)));
    text_of(&query_response::<Body<'_>>(NAMESPACES[0], "Action", request_id, None));
    let (code, message, id) = (code.as_str(), message.as_str(), request_id.as_str());
    assert_eq!(
        text_of(&ec2_error_xml(code, message, id)),
        carried(&[code, message, id].concat())
    );
    let error = query_error_xml(NAMESPACES[1], Fault::Sender, code, message, id);
    assert_eq!(text_of(&error), carried(&["Sender", code, message, id].concat()));
});
