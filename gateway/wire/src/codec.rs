//! The codec's two traits, with their implementations for text, numbers, lists and options.
//!
//! **Empty values.** An empty scalar (`Description=`) means "not given": an `Option` decodes to
//! `None`. Two exceptions: members that `models/patches.toml` lists under `keep_empty` (a tag's
//! value, `NoDevice`), and members of lists (`InstanceId.1=` stays a member, because dropping it
//! would widen the request to everything).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use cumulet_domain::text;

use crate::error::WireError;
use crate::query::{Node, Query};
use crate::types::{Blob, Sensitive, Timestamp};
use crate::xml::{XmlWriter, is_xml_char};

/// A value that can be read from a node of the request.
pub trait FromQuery: Sized {
    /// Decodes the node, and refuses what is below it and not in the model.
    fn from_query(node: &Node<'_>) -> Result<Self, WireError>;

    /// Decodes a member whose empty value has a meaning of its own.
    fn from_query_keeping_empty(node: &Node<'_>) -> Result<Self, WireError> {
        Self::from_query(node)
    }

    /// Whether a required member of this type counts as absent.
    fn is_absent(&self) -> bool {
        false
    }
}

/// A value that can be written as an element.
pub trait ToXml {
    /// Writes `<name>…</name>`, or nothing if there is no value.
    fn to_xml(&self, name: &str, w: &mut XmlWriter);
}

/// A structure: what is between its tags, for roots that bring their own.
pub trait XmlBody {
    /// Whether the model has no result: some protocols write nothing then.
    const NOTHING: bool = false;

    /// Writes the members.
    fn members(&self, w: &mut XmlWriter);
}

/// An operation of a service: its name and the types that it takes and gives.
///
/// What they can be read from and written as is their service's codec's to know.
pub trait Operation {
    /// The `Action`.
    const NAME: &'static str;
    /// The decoded request.
    type Input;
    /// The result; [`Done`] where the model has none.
    type Output;
}

/// The output of operations that only say that they succeeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done;

impl XmlBody for Done {
    const NOTHING: bool = true;

    fn members(&self, w: &mut XmlWriter) {
        w.text("return", "true");
    }
}

#[cfg(feature = "oracle")]
impl FromQuery for Done {
    fn from_query(_: &Node<'_>) -> Result<Self, WireError> {
        Ok(Self)
    }
}

/// Decodes a whole request.
pub fn decode<T: FromQuery>(query: &Query<'_>) -> Result<T, WireError> {
    T::from_query(&query.root())
}

impl FromQuery for String {
    fn from_query(node: &Node<'_>) -> Result<Self, WireError> {
        let text = node.scalar()?;
        if text.chars().all(is_xml_char) {
            Ok(text.to_owned())
        } else {
            Err(WireError::invalid_unechoed(
                node.path(),
                "text without control characters",
            ))
        }
    }

    /// A member that is a text, and no option, is required.
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl FromQuery for bool {
    fn from_query(node: &Node<'_>) -> Result<Self, WireError> {
        match node.scalar()? {
            "1" => Ok(true),
            "0" => Ok(false),
            text if text.eq_ignore_ascii_case("true") => Ok(true),
            text if text.eq_ignore_ascii_case("false") => Ok(false),
            text => Err(WireError::invalid(node.path(), text, "true or false")),
        }
    }
}

macro_rules! integer {
    ($ty:ty) => {
        impl FromQuery for $ty {
            fn from_query(node: &Node<'_>) -> Result<Self, WireError> {
                let given = node.scalar()?;
                text::number(given).ok_or_else(|| WireError::invalid(node.path(), given, "an integer"))
            }
        }

        impl ToXml for $ty {
            fn to_xml(&self, name: &str, w: &mut XmlWriter) {
                w.plain(name, format_args!("{self}"));
            }
        }
    };
}

integer!(i32);
integer!(i64);

impl FromQuery for f64 {
    fn from_query(node: &Node<'_>) -> Result<Self, WireError> {
        let text = node.scalar()?;
        let digits = text
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'e' | b'E' | b'+'));
        match text.parse::<Self>() {
            Ok(number) if digits && number.is_finite() => Ok(number),
            _ => Err(WireError::invalid(node.path(), text, "a number")),
        }
    }
}

impl FromQuery for Timestamp {
    fn from_query(node: &Node<'_>) -> Result<Self, WireError> {
        let text = node.scalar()?;
        Self::parse(text)
            .ok_or_else(|| WireError::invalid(node.path(), text, "a time such as 2026-01-02T03:04:05Z"))
    }
}

impl FromQuery for Blob {
    fn from_query(node: &Node<'_>) -> Result<Self, WireError> {
        let bytes = text::base64(node.scalar()?);
        bytes
            .map(Self)
            .ok_or_else(|| WireError::invalid_unechoed(node.path(), "base64"))
    }
}

impl<T: FromQuery> FromQuery for Sensitive<T> {
    fn from_query(node: &Node<'_>) -> Result<Self, WireError> {
        T::from_query(node).map(Self)
    }
}

impl<T: FromQuery> FromQuery for Option<T> {
    fn from_query(node: &Node<'_>) -> Result<Self, WireError> {
        if node.is_blank() {
            Ok(None)
        } else {
            T::from_query(node).map(Some)
        }
    }

    fn from_query_keeping_empty(node: &Node<'_>) -> Result<Self, WireError> {
        T::from_query(node).map(Some)
    }

    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T: FromQuery> FromQuery for Box<T> {
    fn from_query(node: &Node<'_>) -> Result<Self, WireError> {
        T::from_query(node).map(Self::new)
    }
}

impl<T: FromQuery> FromQuery for Vec<T> {
    fn from_query(node: &Node<'_>) -> Result<Self, WireError> {
        node.list()?.iter().map(|(_, item)| T::from_query(item)).collect()
    }

    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl ToXml for str {
    fn to_xml(&self, name: &str, w: &mut XmlWriter) {
        w.text(name, self);
    }
}

impl ToXml for String {
    fn to_xml(&self, name: &str, w: &mut XmlWriter) {
        w.text(name, self);
    }
}

impl ToXml for bool {
    fn to_xml(&self, name: &str, w: &mut XmlWriter) {
        w.text(name, if *self { "true" } else { "false" });
    }
}

impl ToXml for f64 {
    fn to_xml(&self, name: &str, w: &mut XmlWriter) {
        w.plain(name, format_args!("{self}"));
    }
}

impl ToXml for Timestamp {
    fn to_xml(&self, name: &str, w: &mut XmlWriter) {
        w.plain(name, format_args!("{self}"));
    }
}

impl ToXml for Blob {
    fn to_xml(&self, name: &str, w: &mut XmlWriter) {
        w.text(name, &BASE64.encode(&self.0));
    }
}

impl<T: ToXml> ToXml for Sensitive<T> {
    fn to_xml(&self, name: &str, w: &mut XmlWriter) {
        self.0.to_xml(name, w);
    }
}

impl<T: ToXml> ToXml for Option<T> {
    fn to_xml(&self, name: &str, w: &mut XmlWriter) {
        if let Some(value) = self {
            value.to_xml(name, w);
        }
    }
}

impl<T: ToXml> ToXml for Box<T> {
    fn to_xml(&self, name: &str, w: &mut XmlWriter) {
        (**self).to_xml(name, w);
    }
}

/// A list is written even when empty: botocore has no key for a list that is left out.
impl<T: ToXml> ToXml for Vec<T> {
    fn to_xml(&self, name: &str, w: &mut XmlWriter) {
        list_to_xml(self, name, "item", w);
    }
}

/// Writes a list whose members have a name of their own.
pub(crate) fn list_to_xml<T: ToXml>(items: &[T], name: &str, item: &str, w: &mut XmlWriter) {
    if items.is_empty() {
        return w.empty(name);
    }
    w.open(name);
    for value in items {
        value.to_xml(item, w);
    }
    w.close(name);
}
