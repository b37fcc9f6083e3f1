//! Listings: what is alike of the operations that describe resources, and their filters as paths into the shape.
//!
//! A filter that names a member is data: its name, and how its texts are read off the shape, each exactly as it is on the
//! wire. `models/filter_members.toml` says which member that is where the name does not; codegen writes
//! [`Listing`] for each operation with filters.

use crate::codec::Operation;
use crate::ec2::shared::{Filter, Tag};
use crate::types::Timestamp;

/// Hears the texts that a shape has for a filter.
pub type Hear<'h> = dyn FnMut(&str) + 'h;

/// How to read the texts of one filter off a shape.
#[derive(Debug)]
pub struct FilterMember<S: 'static> {
    /// The documented name.
    pub name: &'static str,
    /// Says every text that is at its path.
    pub say: fn(&S, &mut Hear<'_>),
}

/// Says the tags of a shape: the key and the value of each.
pub type Tags<S> = fn(&S, &mut dyn FnMut(&str, &str));

/// What a request says about pages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pages<'a> {
    /// `MaxResults`.
    pub max_results: Option<i32>,
    /// `NextToken`.
    pub next_token: Option<&'a str>,
    /// Resources are named, by their ids or names.
    pub named: bool,
}

/// An operation that lists, with filters.
pub trait Listing: Operation {
    /// The shape of what is listed.
    type Item: 'static;
    /// The filters that are data.
    const FILTERS: &'static [FilterMember<Self::Item>];
    /// The names of the other documented ones, which its code computes.
    const COMPUTED_FILTERS: &'static [&'static str];
    /// The tags, where filters by tags are documented.
    const TAGS: Option<Tags<Self::Item>>;

    /// The request's filters.
    fn filters(input: &Self::Input) -> &[Filter];

    /// What the request says about pages; of operations without pages, what it names.
    fn pages(input: &Self::Input) -> Pages<'_>;

    /// The answer with these.
    fn answer(items: Vec<Self::Item>, next: Option<String>) -> Self::Output;
}

/// A step of a path: the structures in a member, however many there are.
pub(crate) trait Each {
    /// The structure.
    type One;

    /// Calls for each of them.
    fn each(&self, hear: &mut dyn FnMut(&Self::One));
}

impl<T: Each> Each for Option<T> {
    type One = T::One;

    fn each(&self, hear: &mut dyn FnMut(&T::One)) {
        if let Some(value) = self {
            value.each(hear);
        }
    }
}

impl<T: Each> Each for Vec<T> {
    type One = T::One;

    fn each(&self, hear: &mut dyn FnMut(&T::One)) {
        self.iter().for_each(|value| value.each(hear));
    }
}

impl<T: Each> Each for Box<T> {
    type One = T::One;

    fn each(&self, hear: &mut dyn FnMut(&T::One)) {
        (**self).each(hear);
    }
}

/// The end of a path: its texts as [`ToXml`](crate::codec::ToXml) writes them. What is secret has none.
pub(crate) trait Texts {
    /// Says them.
    fn say(&self, hear: &mut Hear<'_>);
}

impl Texts for String {
    fn say(&self, hear: &mut Hear<'_>) {
        hear(self);
    }
}

impl Texts for bool {
    fn say(&self, hear: &mut Hear<'_>) {
        hear(if *self { "true" } else { "false" });
    }
}

macro_rules! printed {
    ($($ty:ty)*) => {$(
        impl Texts for $ty {
            fn say(&self, hear: &mut Hear<'_>) {
                hear(&self.to_string());
            }
        }
    )*};
}

printed!(i32 i64 f64 Timestamp);

impl<T: Texts> Texts for Option<T> {
    fn say(&self, hear: &mut Hear<'_>) {
        if let Some(value) = self {
            value.say(hear);
        }
    }
}

impl<T: Texts> Texts for Vec<T> {
    fn say(&self, hear: &mut Hear<'_>) {
        self.iter().for_each(|value| value.say(hear));
    }
}

/// Says a tag.
pub(crate) fn tag(tag: &Tag, hear: &mut dyn FnMut(&str, &str)) {
    hear(
        tag.key.as_deref().unwrap_or_default(),
        tag.value.as_deref().unwrap_or_default(),
    );
}

/// Goes a path of fields, and does something with what is at its end.
macro_rules! walk {
    ($from:ident, |$end:ident| $do:expr;) => {{
        let $end = $from;
        $do
    }};
    ($from:ident, |$end:ident| $do:expr; $step:ident $(. $rest:ident)*) => {
        $crate::listing::Each::each(&$from.$step, &mut |next| {
            $crate::listing::walk!(next, |$end| $do; $($rest).*)
        })
    };
}

/// What one filter says: the texts of a member, a text that is always the same, or one for each structure at a path.
macro_rules! said {
    ($from:ident, $hear:ident; $text:literal) => {
        $hear($text)
    };
    ($from:ident, $hear:ident; $last:ident) => {
        $crate::listing::Texts::say(&$from.$last, $hear)
    };
    ($from:ident, $hear:ident; $($step:ident).+ $text:literal) => {
        $crate::listing::walk!($from, |_end| $hear($text); $($step).+)
    };
    ($from:ident, $hear:ident; $step:ident . $($rest:ident).+) => {
        $crate::listing::Each::each(&$from.$step, &mut |next| $crate::listing::said!(next, $hear; $($rest).+))
    };
}

/// The tags at a path; `item` where the item is a tag itself.
macro_rules! tags_of {
    () => {
        None
    };
    (item) => {
        Some(|item, hear| {
            let (key, value) = (item.key.as_deref(), item.value.as_deref());
            hear(key.unwrap_or_default(), value.unwrap_or_default());
        })
    };
    ($($step:ident).+) => {
        Some(|item, hear| $crate::listing::walk!(item, |tag| $crate::listing::tag(tag, hear); $($step).+))
    };
}

/// A listing: `Name(filters) -> Output { items: Item };`, then its pages, what it names, its tags, and each filter with
/// its path, its text, or both.
macro_rules! listing {
    ($name:ident($filters:ident) -> $output:ident { $items:ident: $item:ident } {
        $(pages $max:ident $next:ident;)?
        $(named $($named:ident)+;)?
        $(tags $($tags:ident).+;)?
        $(computed $($computed:literal)+;)?
        $(absent $($absent:literal)+;)?
        $($filter:literal = $($step:ident).* $($text:literal)?;)*
    }) => {
        impl $crate::listing::Listing for $name {
            type Item = $item;
            const FILTERS: &'static [$crate::listing::FilterMember<$item>] = &[
                $($crate::listing::FilterMember {
                    name: $filter,
                    say: |_item, _hear| $crate::listing::said!(_item, _hear; $($step).* $($text)?),
                },)*
                $($($crate::listing::FilterMember { name: $absent, say: |_, _| {} },)+)?
            ];
            const COMPUTED_FILTERS: &'static [&'static str] = &[$($($computed),+)?];
            const TAGS: Option<$crate::listing::Tags<$item>> = $crate::listing::tags_of!($($($tags).+)?);

            fn filters(input: &Self::Input) -> &[$crate::ec2::shared::Filter] {
                &input.$filters
            }

            #[allow(clippy::needless_update, unused_variables, reason = "some listings have no pages")]
            fn pages(input: &Self::Input) -> $crate::listing::Pages<'_> {
                $crate::listing::Pages {
                    $(max_results: input.$max, next_token: input.$next.as_deref(),)?
                    named: false $($(|| !input.$named.is_empty())+)?,
                    ..Default::default()
                }
            }

            #[allow(clippy::needless_update, unused_variables, reason = "some listings have no pages")]
            fn answer(items: Vec<$item>, next: Option<String>) -> $output {
                $output {
                    $items: items,
                    $($next: next,)?
                    ..Default::default()
                }
            }
        }
    };
}

pub(crate) use {listing, said, tags_of, walk};
