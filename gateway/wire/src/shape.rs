//! The macros in which the generated files are written: a structure with its names on the wire.
//!
//! `input!` gives [`FromQuery`](crate::codec::FromQuery), `output!` gives
//! [`ToXml`](crate::codec::ToXml), `both!` gives both under two sets of names. With the feature
//! `oracle` every shape has both directions, so that values can be brought in and out as text and
//! compared with botocore's.

macro_rules! declare {
    ($name:ident { $($field:ident: $ty:ty,)* }) => {
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name {
            $(pub $field: $ty,)*
        }
    };
}

macro_rules! from_query {
    ($name:ident { $($field:ident = $wire:literal ($($flag:ident)*),)* }) => {
        impl $crate::codec::FromQuery for $name {
            #[allow(unused_mut, clippy::match_single_binding, reason = "some shapes have no members")]
            fn from_query(node: &$crate::query::Node<'_>) -> Result<Self, $crate::error::WireError> {
                let mut shape = Self::default();
                for (name, member) in node.members()? {
                    match name {
                        $($wire => shape.$field = $crate::shape::member!(member; $($flag)*),)*
                        _ => node.refuse(name, &member)?,
                    }
                }
                $($crate::shape::required!(node, $wire, shape.$field; $($flag)*);)*
                Ok(shape)
            }
        }
    };
}

macro_rules! member {
    ($node:ident; keep $($rest:ident)*) => {
        $crate::codec::FromQuery::from_query_keeping_empty(&$node)?
    };
    ($node:ident; one $($rest:ident)*) => {
        $crate::codec::FromQuery::from_query(&$node.one()?)?
    };
    ($node:ident; $($rest:ident)*) => {
        $crate::codec::FromQuery::from_query(&$node)?
    };
}

macro_rules! required {
    ($node:ident, $wire:literal, $value:expr;) => {};
    ($node:ident, $wire:literal, $value:expr; required) => {
        if $crate::codec::FromQuery::is_absent(&$value) {
            return Err($crate::error::WireError::missing(&$node.path_of($wire)));
        }
    };
    ($node:ident, $wire:literal, $value:expr; keep $($rest:ident)*) => {
        $crate::shape::required!($node, $wire, $value; $($rest)*)
    };
    ($node:ident, $wire:literal, $value:expr; one $($rest:ident)*) => {
        $crate::shape::required!($node, $wire, $value; $($rest)*)
    };
}

macro_rules! to_xml {
    ($name:ident { $($field:ident = $wire:literal $($item:literal)?,)* }) => {
        impl $crate::codec::XmlBody for $name {
            #[allow(unused_variables, reason = "some shapes have no members")]
            fn members(&self, w: &mut $crate::xml::XmlWriter) {
                $($crate::shape::element!(self.$field, w, $wire $($item)?);)*
            }
        }

        impl $crate::codec::ToXml for $name {
            fn to_xml(&self, name: &str, w: &mut $crate::xml::XmlWriter) {
                w.open(name);
                $crate::codec::XmlBody::members(self, w);
                w.close(name);
            }
        }
    };
}

macro_rules! element {
    ($value:expr, $w:ident, $wire:literal) => {
        $crate::codec::ToXml::to_xml(&$value, $wire, $w)
    };
    ($value:expr, $w:ident, $wire:literal $item:literal) => {
        $crate::codec::list_to_xml(&$value, $wire, $item, $w)
    };
}

/// A structure is a step of filters' paths.
macro_rules! each {
    ($name:ident) => {
        impl $crate::listing::Each for $name {
            type One = Self;

            fn each(&self, hear: &mut dyn FnMut(&Self)) {
                hear(self);
            }
        }
    };
}

/// A shape that requests carry: `field: Type = "QueryName" (flags);`
macro_rules! input {
    ($name:ident { $($field:ident: $ty:ty = $query:literal $(($($flag:ident)*))?;)* }) => {
        $crate::shape::declare! { $name { $($field: $ty,)* } }
        $crate::shape::from_query! { $name { $($field = $query ($($($flag)*)?),)* } }
        #[cfg(feature = "oracle")]
        $crate::shape::to_xml! { $name { $($field = $query,)* } }
    };
}

/// A shape that responses carry: `field: Type = "xmlName" "itemName";`
macro_rules! output {
    ($name:ident { $($field:ident: $ty:ty = $xml:literal $($item:literal)?;)* }) => {
        $crate::shape::declare! { $name { $($field: $ty,)* } }
        $crate::shape::to_xml! { $name { $($field = $xml $($item)?,)* } }
        $crate::shape::each! { $name }
        #[cfg(feature = "oracle")]
        $crate::shape::from_query! { $name { $($field = $xml (),)* } }
    };
}

/// A shape of both: `field: Type = "QueryName" (flags) => "xmlName" "itemName";`
macro_rules! both {
    ($name:ident {
        $($field:ident: $ty:ty = $query:literal $(($($flag:ident)*))? => $xml:literal $($item:literal)?;)*
    }) => {
        $crate::shape::declare! { $name { $($field: $ty,)* } }
        $crate::shape::from_query! { $name { $($field = $query ($($($flag)*)?),)* } }
        $crate::shape::to_xml! { $name { $($field = $xml $($item)?,)* } }
        $crate::shape::each! { $name }
    };
}

/// A shape of a service of JSON, which requests and responses spell alike: `field: Type = "Name" (required);`
macro_rules! json {
    ($name:ident { $($field:ident: $ty:ty = $wire:literal $(($flag:ident))?;)* }) => {
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $(
                #[serde(
                    rename = $wire,
                    deserialize_with = "crate::json::or_none",
                    skip_serializing_if = "crate::shape::is_none"
                )]
                pub $field: $ty,
            )*
        }

        impl $crate::json::JsonShape for $name {
            fn missing(&self) -> Option<&'static str> {
                $($(
                    $crate::shape::json_flag!($flag);
                    if $crate::shape::is_none(&self.$field) {
                        return Some($wire);
                    }
                )?)*
                None
            }
        }
    };
}

macro_rules! json_flag {
    (required) => {};
}

/// What is written of a member that has no value: nothing, except of lists.
pub(crate) fn is_none<T: MayBeNone>(value: &T) -> bool {
    value.is_none()
}

/// A member's type that has a value for "not given".
pub(crate) trait MayBeNone {
    fn is_none(&self) -> bool;
}

impl<T> MayBeNone for Option<T> {
    fn is_none(&self) -> bool {
        self.is_none()
    }
}

/// An empty list is a list.
impl<T> MayBeNone for Vec<T> {
    fn is_none(&self) -> bool {
        false
    }
}

/// An operation: `Name(Input) -> Output;`
macro_rules! operations {
    ($($name:ident($input:ty) -> $output:ty;)*) => {$(
        #[derive(Clone, Copy, Debug, Default)]
        pub struct $name;

        impl $crate::codec::Operation for $name {
            const NAME: &'static str = stringify!($name);
            type Input = $input;
            type Output = $output;
        }
    )*};
}

pub(crate) use {
    both, declare, each, element, from_query, input, json, json_flag, member, operations, output, required,
    to_xml,
};
