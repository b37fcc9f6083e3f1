//! The filters of Describe calls: the values of one filter are alternatives, all filters must match.
//!
//! A Describe call has one table of its filters. Its rows are what the client is shown or the view it
//! is made from, so that a filter compares with the exact text of the answer.
//!
//! What the comparisons of a request have taken is counted ([`Filters::steps`]), since a client chooses
//! the patterns: `describe` makes pauses by it, and ends a request that takes too much.

use std::sync::atomic::{AtomicU64, Ordering};

use cumulet_domain::{ResourceKind, tag::Tag};
use cumulet_pattern::{MAX_CHARS, Pattern, Wild};
use cumulet_wire::ec2::shared;

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

/// Hears the values that a row has for a filter.
pub(crate) type Sink<'s> = dyn FnMut(&str) + 's;

/// How to read the values of one filter off a row.
pub(crate) struct Def<R: 'static> {
    /// The documented name, and aliases in use.
    names: &'static [&'static str],
    read: fn(&R, &mut Sink<'_>),
}

/// A filter and how to read its values.
pub(crate) const fn on<R>(names: &'static [&'static str], read: fn(&R, &mut Sink<'_>)) -> Def<R> {
    Def { names, read }
}

/// Documented filters of what this cloud has not: they are known and match nothing.
pub(crate) const fn never<R>(names: &'static [&'static str]) -> Def<R> {
    Def {
        names,
        read: |_, _| {},
    }
}

/// The filters of one Describe call.
pub(crate) struct Table<R: 'static> {
    /// All but those of tags.
    pub(crate) defs: &'static [Def<R>],
    /// The tags of a row, where `tag:<key>` is served.
    pub(crate) tags: Option<fn(&R) -> &[Tag]>,
}

impl<R> Table<R> {
    fn find(&self, name: &str) -> Option<Read<R>> {
        if let (Some(tags), Some(key)) = (self.tags, name.strip_prefix("tag:")) {
            return (!key.is_empty()).then(|| Read::Tag(tags, key.to_owned()));
        }
        let def = self.defs.iter().find(|def| def.names.contains(&name));
        match (def, self.tags) {
            (Some(def), _) => Some(Read::Values(def.read)),
            (None, Some(tags)) if name == "tag-key" => Some(Read::TagKey(tags)),
            (None, Some(tags)) if name == "tag-value" => Some(Read::TagValue(tags)),
            (None, _) => None,
        }
    }

    /// Whether the table has what the documentation calls `name`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }
}

enum Read<R> {
    Values(fn(&R, &mut Sink<'_>)),
    Tag(fn(&R) -> &[Tag], String),
    TagKey(fn(&R) -> &[Tag]),
    TagValue(fn(&R) -> &[Tag]),
}

struct Term<R> {
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
pub(crate) struct Filters<R> {
    terms: Vec<Term<R>>,
    steps: AtomicU64,
}

impl<R: 'static> Filters<R> {
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
}

fn term<R: 'static>(table: &Table<R>, filter: &shared::Filter) -> Result<Term<R>, Fault> {
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

impl<R> Term<R> {
    fn passes_nothing(&self) -> bool {
        if !self.values.wild.is_empty() {
            return false;
        }
        let part = self.name.rsplit('.').next().unwrap_or_default();
        let ids = IDS.iter().find(|(name, _)| *name == part);
        match (&self.read, ids) {
            (Read::Values(_), Some((_, kind))) => {
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
            Read::Values(read) => read(row, &mut try_one),
            Read::Tag(tags, key) => {
                tags(row)
                    .iter()
                    .filter(|tag| tag.key == *key)
                    .for_each(|tag| try_one(&tag.value));
            }
            Read::TagKey(tags) => tags(row).iter().for_each(|tag| try_one(&tag.key)),
            Read::TagValue(tags) => tags(row).iter().for_each(|tag| try_one(&tag.value)),
        }
        found
    }
}

/// Says an optional text.
pub(crate) fn text(value: &Option<String>, sink: &mut Sink<'_>) {
    if let Some(value) = value {
        sink(value);
    }
}

/// Says anything that prints.
pub(crate) fn shown(value: impl std::fmt::Display, sink: &mut Sink<'_>) {
    sink(&value.to_string());
}

/// Says an optional value that prints.
pub(crate) fn some(value: Option<impl std::fmt::Display>, sink: &mut Sink<'_>) {
    if let Some(value) = value {
        shown(value, sink);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Row {
        state: &'static str,
        sizes: Vec<u32>,
        tags: Vec<Tag>,
    }

    const TABLE: Table<Row> = Table {
        defs: &[
            on(&["state", "State"], |row: &Row, sink| sink(row.state)),
            on(&["size"], |row: &Row, sink| {
                row.sizes.iter().for_each(|size| shown(size, sink))
            }),
            never(&["outpost-arn"]),
        ],
        tags: Some(|row| &row.tags),
    };

    fn row() -> Row {
        let tag = |key: &str, value: &str| Tag {
            key: key.into(),
            value: value.into(),
        };
        Row {
            state: "available",
            sizes: vec![8, 10],
            tags: vec![tag("Name", "web-1"), tag("a:b", "True"), tag("empty", "")],
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
        const IDS: Table<Row> = Table {
            defs: &[on(
                &["vpc-id", "network-interface.vpc-id", "resource-id", "owner-id"],
                |_: &Row, sink| sink("vpc-0123456789abcdef0"),
            )],
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
