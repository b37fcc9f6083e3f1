//! The filters of Describe calls: the values of one filter are alternatives, all filters must match.
//!
//! They look at the shape that the client is shown, so that a filter compares with the exact text of the answer. Most
//! are data of the wire (`models/filter_members.toml`); an action has code for those alone whose texts are no
//! member's ([`on`]).
//!
//! What the comparisons of a request have taken is counted ([`Filters::steps`]), since a client chooses
//! the patterns: `describe` makes pauses by it, and ends a request that takes too much.

use std::sync::atomic::{AtomicU64, Ordering};

use cumulet_domain::{
    ResourceKind,
    id::{Id, Resource},
};
use cumulet_pattern::{MAX_CHARS, Pattern, Wild};
use cumulet_wire::{
    ec2::shared,
    listing::{FilterMember, Hear, Tags},
};
use serde::{Serialize, de::DeserializeOwned};

use super::ctx::id;
use crate::fault::Fault;

/// Filter values in one call at the most.
const MAX_VALUES: usize = 200;

/// What a text costs beside its comparisons, in steps of a pattern: it is read off its row.
const STEPS_PER_TEXT: u64 = 8;

/// Filters by ids, by the last parts of their names (`network-interface.vpc-id`); none: of any kind. What is
/// no such id is no value that a row could have.
const IDS: &[(&str, Option<ResourceKind>)] = &[
    ("attachment-id", Some(ResourceKind::InterfaceAttachment)),
    ("group-id", Some(ResourceKind::SecurityGroup)),
    ("image-id", Some(ResourceKind::Image)),
    ("instance-id", Some(ResourceKind::Instance)),
    ("key-pair-id", Some(ResourceKind::KeyPair)),
    ("network-interface-id", Some(ResourceKind::NetworkInterface)),
    ("reservation-id", Some(ResourceKind::Reservation)),
    ("resource-id", None),
    ("security-group-rule-id", Some(ResourceKind::SecurityGroupRule)),
    ("subnet-id", Some(ResourceKind::Subnet)),
    ("volume-id", Some(ResourceKind::Volume)),
    ("vpc-id", Some(ResourceKind::Vpc)),
];

/// A row of a listing: what is filtered, and then shown.
pub(crate) trait Row: Send + Sync + 'static {
    /// What a page ends with and the next one starts after.
    type Key: Serialize + DeserializeOwned + Send + Sync + 'static;
    /// What the client is shown of it.
    type Shape: 'static;

    /// Its key.
    fn key(&self) -> Self::Key;

    /// How it is shown.
    fn shown(&self) -> &Self::Shape;

    /// How it is shown, at the end.
    fn into_shown(self) -> Self::Shape;

    /// How many things it has in it: what is held and written at once goes by that.
    fn parts(&self) -> usize {
        1
    }
}

/// A row with its shape, and with what the action needs of it besides.
pub(crate) struct Keyed<K, S, M = ()> {
    /// See [`Row::key`].
    pub(crate) key: K,
    /// See [`Row::shown`].
    pub(crate) shown: S,
    /// What filters that are computed look at.
    pub(crate) more: M,
}

impl<K, S> Keyed<K, S> {
    /// A row that is its shape.
    pub(crate) fn new(key: K, shown: S) -> Self {
        Keyed { key, shown, more: () }
    }
}

impl<K, S, M> Row for Keyed<K, S, M>
where
    K: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
    S: Send + Sync + 'static,
    M: Send + Sync + 'static,
{
    type Key = K;
    type Shape = S;

    fn key(&self) -> K {
        self.key.clone()
    }

    fn shown(&self) -> &S {
        &self.shown
    }

    fn into_shown(self) -> S {
        self.shown
    }
}

/// A filter whose texts the action computes, and how.
pub(crate) struct Def<R: 'static> {
    name: &'static str,
    read: fn(&R, &mut Hear<'_>),
}

/// A filter that is computed.
pub(crate) const fn on<R>(name: &'static str, read: fn(&R, &mut Hear<'_>)) -> Def<R> {
    Def { name, read }
}

/// The filters of one Describe call.
pub(crate) struct Table<R: Row> {
    /// Those that are data.
    pub(crate) members: &'static [FilterMember<R::Shape>],
    /// Those that are not, but for tags.
    pub(crate) computed: &'static [Def<R>],
    /// The tags, where filters by them are served.
    pub(crate) tags: Option<Tags<R::Shape>>,
}

impl<R: Row> Table<R> {
    fn find(&self, name: &str) -> Option<Read<R>> {
        if let (Some(tags), Some(key)) = (self.tags, name.strip_prefix("tag:")) {
            return (!key.is_empty()).then(|| Read::Tag(tags, key.to_owned()));
        }
        if let Some(member) = self.members.iter().find(|member| member.name == name) {
            return Some(Read::Member(member.say));
        }
        if let Some(def) = self.computed.iter().find(|def| def.name == name) {
            return Some(Read::Computed(def.read));
        }
        match (self.tags, name) {
            (Some(tags), "tag-key") => Some(Read::TagKey(tags)),
            (Some(tags), "tag-value") => Some(Read::TagValue(tags)),
            _ => None,
        }
    }

    /// The names of those that are computed.
    #[cfg(test)]
    pub(crate) fn computed_names(&self) -> Vec<&'static str> {
        self.computed.iter().map(|def| def.name).collect()
    }

    /// Whether the table has what the documentation calls `name`.
    #[cfg(test)]
    pub(crate) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }
}

enum Read<R: Row> {
    Member(fn(&R::Shape, &mut Hear<'_>)),
    Computed(fn(&R, &mut Hear<'_>)),
    Tag(Tags<R::Shape>, String),
    TagKey(Tags<R::Shape>),
    TagValue(Tags<R::Shape>),
}

struct Term<R: Row> {
    name: String,
    read: Read<R>,
    values: Values,
}

/// The values of a filter, which are alternatives.
struct Values {
    /// Those without wildcards, sorted: however many they are, a text is looked for in one go.
    literals: Vec<String>,
    wild: Vec<Wild>,
}

impl Values {
    fn new(given: &[String]) -> Result<Self, cumulet_pattern::TooLong> {
        let (mut literals, mut wild) = (Vec::new(), Vec::new());
        for value in given {
            match Pattern::new(value)? {
                Pattern::Literal(text) => literals.push(text),
                Pattern::Wild(pattern) => wild.push(pattern),
            }
        }
        literals.sort_unstable();
        literals.dedup();
        Ok(Values { literals, wild })
    }

    fn has(&self, text: &str, steps: &mut u64) -> bool {
        *steps += STEPS_PER_TEXT;
        self.literals
            .binary_search_by(|literal| literal.as_str().cmp(text))
            .is_ok()
            || self.wild.iter().any(|pattern| pattern.matches(text, steps))
    }
}

/// The filters of one request.
pub(crate) struct Filters<R: Row> {
    terms: Vec<Term<R>>,
    steps: AtomicU64,
}

impl<R: Row> Filters<R> {
    /// Checks the filters of a request against the call's table.
    ///
    /// # Errors
    /// An unknown name, or too many values. A filter without values is no error: nothing passes it.
    pub(crate) fn parse(table: &Table<R>, given: &[shared::Filter]) -> Result<Self, Fault> {
        let total: usize = given.iter().map(|filter| filter.values.len()).sum();
        if total > MAX_VALUES {
            return Err(Fault::coded(
                "FilterLimitExceeded",
                400,
                format!("The maximum number of filter values specified on a single call is {MAX_VALUES}"),
            ));
        }
        given
            .iter()
            .map(|filter| term(table, filter))
            .collect::<Result<_, _>>()
            .map(|terms| Filters {
                terms,
                steps: AtomicU64::new(0),
            })
    }

    /// Whether the row passes.
    pub(crate) fn matches(&self, row: &R) -> bool {
        if self.terms.is_empty() {
            return true;
        }
        let mut steps = 0;
        let passes = self.terms.iter().all(|term| term.matches(row, &mut steps));
        // One task at a time reads for a request: nobody adds in between.
        self.steps
            .store(self.steps().saturating_add(steps), Ordering::Relaxed);
        passes
    }

    /// What comparing has taken so far, in steps of a pattern: a few nanoseconds each.
    pub(crate) fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// No filter was given.
    pub(crate) fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether no row can pass, whatever it has: one of the filters has no values, or is one by ids none of
    /// which is one. Then nothing needs to be read.
    pub(crate) fn pass_nothing(&self) -> bool {
        self.terms.iter().any(Term::passes_nothing)
    }

    /// The values of the first filter called `name`, where none of them is a pattern: a column of the
    /// database can then do the first part of the work.
    pub(crate) fn literals(&self, name: &str) -> Option<Vec<&str>> {
        let term = self.terms.iter().find(|term| term.name == name)?;
        let literals = term.values.literals.iter().map(String::as_str);
        term.values.wild.is_empty().then(|| literals.collect())
    }

    /// The ids that the filter called `name` has, where none of its values is a pattern, for the database to look
    /// for. A text that is no id matches nothing, which the filter itself sees to.
    pub(crate) fn ids<I: Resource>(&self, name: &str) -> Vec<Id<I>> {
        let texts = self.literals(name).unwrap_or_default();
        texts.into_iter().filter_map(|text| id(text).ok()).collect()
    }
}

fn term<R: Row>(table: &Table<R>, filter: &shared::Filter) -> Result<Term<R>, Fault> {
    let name = filter.name.as_deref().unwrap_or("null");
    let shown: String = name.chars().take(128).collect();
    let invalid = |message: String| Fault::coded("InvalidParameterValue", 400, message);
    let read = table
        .find(name)
        .ok_or_else(|| invalid(format!("The filter '{shown}' is invalid")))?;
    let values = Values::new(&filter.values).map_err(|_| {
        invalid(format!(
            "A value of the filter '{shown}' is longer than {MAX_CHARS} characters"
        ))
    })?;
    Ok(Term {
        name: name.to_owned(),
        read,
        values,
    })
}

impl<R: Row> Term<R> {
    fn passes_nothing(&self) -> bool {
        if !self.values.wild.is_empty() {
            return false;
        }
        let part = self.name.rsplit('.').next().unwrap_or_default();
        let ids = IDS.iter().find(|(name, _)| *name == part);
        match (&self.read, ids) {
            (Read::Member(_) | Read::Computed(_), Some((_, kind))) => {
                let mut texts = self.values.literals.iter();
                !texts.any(|text| ResourceKind::of(text).is_some_and(|of| kind.is_none_or(|kind| of == kind)))
            }
            _ => self.values.literals.is_empty(),
        }
    }

    fn matches(&self, row: &R, steps: &mut u64) -> bool {
        let mut found = false;
        *steps += STEPS_PER_TEXT;
        let mut try_one = |value: &str| found = found || self.values.has(value, steps);
        match &self.read {
            Read::Member(say) => say(row.shown(), &mut try_one),
            Read::Computed(read) => read(row, &mut try_one),
            Read::Tag(tags, wanted) => tags(row.shown(), &mut |key, value| {
                if key == wanted {
                    try_one(value);
                }
            }),
            Read::TagKey(tags) => tags(row.shown(), &mut |key, _| try_one(key)),
            Read::TagValue(tags) => tags(row.shown(), &mut |_, value| try_one(value)),
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct One {
        state: &'static str,
        sizes: Vec<u32>,
        tags: Vec<(&'static str, &'static str)>,
    }

    impl Row for One {
        type Key = ();
        type Shape = Self;

        fn key(&self) {}

        fn shown(&self) -> &Self {
            self
        }

        fn into_shown(self) -> Self {
            self
        }
    }

    const fn member(name: &'static str, say: fn(&One, &mut Hear<'_>)) -> FilterMember<One> {
        FilterMember { name, say }
    }

    const TABLE: Table<One> = Table {
        members: &[
            member("state", |row, hear| hear(row.state)),
            member("State", |row, hear| hear(row.state)),
            member("outpost-arn", |_, _| {}),
        ],
        computed: &[on("size", |row, hear| {
            row.sizes.iter().for_each(|size| hear(&size.to_string()));
        })],
        tags: Some(|row, hear| row.tags.iter().for_each(|(key, value)| hear(key, value))),
    };

    fn row() -> One {
        One {
            state: "available",
            sizes: vec![8, 10],
            tags: vec![("Name", "web-1"), ("a:b", "True"), ("empty", "")],
        }
    }

    fn filter(name: &str, values: &[&str]) -> shared::Filter {
        shared::Filter {
            name: Some(name.into()),
            values: values.iter().map(|v| (*v).to_owned()).collect(),
        }
    }

    #[test]
    fn values_are_alternatives_and_filters_add_up() {
        for (filters, expected) in [
            (vec![], true),
            (vec![filter("state", &["pending", "available"])], true),
            (vec![filter("State", &["avail*"])], true),
            (
                vec![filter("state", &["available"]), filter("size", &["9"])],
                false,
            ),
            (
                vec![filter("state", &["available"]), filter("size", &["9", "10"])],
                true,
            ),
            (vec![filter("outpost-arn", &["*"])], false),
            (vec![filter("tag:Name", &["web-?"])], true),
            (vec![filter("tag:name", &["web-1"])], false),
            (vec![filter("tag:a:b", &["true"])], false),
            (vec![filter("tag:a:b", &["True"])], true),
            (vec![filter("tag:empty", &[""])], true),
            (vec![filter("tag-key", &["Na*"])], true),
            (vec![filter("tag-value", &["web-1"])], true),
            (vec![filter("tag:N*", &["web-1"])], false),
            (vec![filter("state", &[])], false),
            (vec![filter("tag:Name", &[])], false),
            (vec![filter("state", &["available"]), filter("size", &[])], false),
        ] {
            let parsed = Filters::parse(&TABLE, &filters).unwrap();
            assert_eq!(parsed.matches(&row()), expected, "{filters:?}");
        }
    }

    #[test]
    fn what_is_refused() {
        let many: Vec<String> = (0..201).map(|n| n.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for (filters, code) in [
            (vec![filter("nonsense", &["x"])], "InvalidParameterValue"),
            (vec![filter("tag:", &["x"])], "InvalidParameterValue"),
            (
                vec![filter("state", &[&"x".repeat(513)])],
                "InvalidParameterValue",
            ),
            (vec![filter("state", &many)], "FilterLimitExceeded"),
            (
                vec![filter("state", &many[..101]), filter("size", &many[..100])],
                "FilterLimitExceeded",
            ),
        ] {
            let fault = Filters::parse(&TABLE, &filters).err().unwrap();
            assert_eq!(fault.answer().code, code);
        }
        assert!(Filters::parse(&TABLE, &[filter("state", &many[..200])]).is_ok());
    }

    #[test]
    fn literals_are_offered_to_the_database_only_without_patterns() {
        let parsed =
            Filters::parse(&TABLE, &[filter("state", &["a", "b"]), filter("size", &["1*"])]).unwrap();
        assert_eq!(parsed.literals("state"), Some(vec!["a", "b"]));
        assert_eq!(parsed.literals("size"), None);
        assert_eq!(parsed.literals("other"), None);
    }

    #[test]
    fn filters_that_no_row_passes_are_known_before_any_is_read() {
        const VPC: fn(&One, &mut Hear<'_>) = |_, hear| hear("vpc-0123456789abcdef0");
        const IDS: Table<One> = Table {
            members: &[
                member("vpc-id", VPC),
                member("resource-id", VPC),
                member("owner-id", VPC),
            ],
            computed: &[on("network-interface.vpc-id", VPC)],
            tags: TABLE.tags,
        };
        let (vpc, other) = ("vpc-0123456789abcdef0", "subnet-0123456789abcdef0");
        for (filters, vain) in [
            (vec![], false),
            (vec![filter("vpc-id", &[vpc])], false),
            (vec![filter("vpc-id", &["vpc-1a2b3c4d"])], false),
            (vec![filter("vpc-id", &["x", vpc])], false),
            (vec![filter("vpc-id", &["vpc-*"])], false),
            (vec![filter("vpc-id", &["x"])], true),
            (vec![filter("vpc-id", &[""])], true),
            (vec![filter("vpc-id", &["vpc-", "vpc-0123456789ABCDEF0"])], true),
            (vec![filter("vpc-id", &[other])], true),
            (vec![filter("network-interface.vpc-id", &[other])], true),
            (vec![filter("resource-id", &[other])], false),
            (vec![filter("resource-id", &["x"])], true),
            (vec![filter("owner-id", &["x"])], false),
            (vec![filter("owner-id", &[])], true),
            (vec![filter("tag:vpc-id", &["x"])], false),
            (vec![filter("tag:a.vpc-id", &["x"])], false),
            (vec![filter("tag:a", &[])], true),
            (vec![filter("owner-id", &["x"]), filter("vpc-id", &["x"])], true),
        ] {
            let parsed = Filters::parse(&IDS, &filters).unwrap();
            assert_eq!(parsed.pass_nothing(), vain, "{filters:?}");
            assert!(!vain || !parsed.matches(&row()), "{filters:?}");
        }
    }
}
