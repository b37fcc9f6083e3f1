//! The manifest and other hand-written inputs: what is served (`actions.toml`), deviations (`patches.toml`),
//! and the extracted lists.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::model::Shape;

/// `actions.toml`: operations by service.
pub(super) type Manifest = BTreeMap<String, BTreeMap<String, Action>>;

/// `filters.toml`: documented filter names by operation.
pub(super) type FilterNames = BTreeMap<String, Vec<String>>;

/// `filter_members.toml`: what filters are in the listed shape, by operation.
pub(super) type FilterMembers = BTreeMap<String, FilterWords>;

/// What the filters of a listing are whose names don't say it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FilterWords {
    /// The member of the item where paths begin that don't begin in the item.
    pub(super) below: Option<String>,
    /// Where the tags are, if not in `Tags` or `TagSet`.
    pub(super) tags: Option<String>,
    /// Those that the action's code computes.
    #[serde(default)]
    pub(super) computed: Vec<String>,
    /// Those of what the shape has not: they match nothing.
    #[serde(default)]
    pub(super) absent: Vec<String>,
    #[serde(default)]
    pub(super) members: BTreeMap<String, Place>,
}

/// What a filter compares with.
#[derive(Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(super) enum Place {
    /// The texts of a member: `Placement.Tenancy`.
    Path(String),
    /// Always the same text; or that once for each structure at a path.
    Text { text: String, each: Option<String> },
}

impl Action {
    /// What writes says what there is more of after it, and what makes something which limits there are on that. Names say
    /// nothing of it: who modifies a permission makes rows as well as who creates an image.
    pub(super) fn check_makes(&self) -> Result<()> {
        match (self.kind, &self.makes) {
            (Kind::Write, None) => bail!("it writes: say what there is more of after it, in `makes`"),
            (Kind::Read, Some(_)) => bail!("it reads: it makes nothing"),
            (_, makes) => {
                let makes_something = makes.as_ref().is_some_and(|made| !made.is_empty());
                match (makes_something, self.limits.is_empty()) {
                    (true, true) => bail!("it makes something: name the limit of how much, in `limits`"),
                    (false, false) => bail!("it has limits on nothing: say in `makes` what they are on"),
                    _ => Ok(()),
                }
            }
        }
    }

    /// What a request costs.
    pub(super) fn weight(&self) -> u32 {
        self.weight.unwrap_or(match self.kind {
            Kind::Read => 1,
            Kind::Write => 5,
        })
    }
}

/// One operation that is served.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Action {
    pub(super) family: String,
    pub(super) kind: Kind,
    pub(super) permission: Option<String>,
    /// Everybody may who has a key.
    #[serde(default)]
    pub(super) anyone: bool,
    pub(super) max_results: Option<Limits>,
    /// What a request costs; by itself 1 for one that reads, 5 for one that writes.
    pub(super) weight: Option<u32>,
    /// A parameter whose number is added to the weight.
    pub(super) weight_per: Option<String>,
    /// Lists whose lengths multiply to the rows that are written.
    #[serde(default)]
    pub(super) weight_rows: Vec<String>,
    /// What there is more of after it, of what writes: rows, and what is bounded otherwise.
    pub(super) makes: Option<Vec<String>>,
    /// The domain's limits on what it makes.
    #[serde(default)]
    pub(super) limits: Vec<String>,
    #[serde(default)]
    pub(super) refuse: Vec<MemberPolicy>,
    #[serde(default)]
    pub(super) ignore: Vec<MemberPolicy>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Read,
    Write,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) min: i32,
    pub(super) max: i32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MemberPolicy {
    pub(super) member: String,
    #[serde(default)]
    pub(super) default: Vec<String>,
    pub(super) reason: String,
}

/// `patches.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Patches {
    #[serde(default)]
    pub(super) keep_empty: Vec<Exception>,
    #[serde(default)]
    pub(super) list_of_one: Vec<Exception>,
    #[serde(default)]
    pub(super) not_required: Vec<Exception>,
    #[serde(default)]
    pub(super) optional_lists: Vec<Exception>,
    #[serde(default)]
    pub(super) members: Vec<AddedMember>,
    #[serde(default)]
    pub(super) retyped: Vec<Retyped>,
    #[serde(default)]
    pub(super) shapes: BTreeMap<String, Shape>,
    #[serde(default)]
    pub(super) filters: Vec<AddedFilters>,
}

/// A member treated otherwise: `Shape.Member`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Exception {
    pub(super) member: String,
    #[expect(dead_code, reason = "every deviation must say why; only people read it")]
    pub(super) reason: String,
}

/// A member, `Shape.Member`, that is read as another shape than the model's.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Retyped {
    pub(super) member: String,
    pub(super) of: String,
    #[expect(dead_code, reason = "every deviation must say why; only people read it")]
    pub(super) reason: String,
}

/// A member that the model lacks.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AddedMember {
    pub(super) shape: String,
    pub(super) name: String,
    pub(super) of: String,
    pub(super) wire: Option<String>,
    #[expect(dead_code, reason = "every deviation must say why; only people read it")]
    pub(super) reason: String,
}

/// Filters that the documentation lacks.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AddedFilters {
    pub(super) operation: String,
    pub(super) names: Vec<String>,
    #[expect(dead_code, reason = "every deviation must say why; only people read it")]
    pub(super) reason: String,
}

/// Reads a TOML file.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("parsing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(kind: &str, rest: &str) -> Action {
        toml::from_str(&format!("family = \"f\"\nkind = {kind:?}\n{rest}")).unwrap()
    }

    #[test]
    fn what_writes_weighs_more() {
        let weight = |kind| action(kind, "").weight();
        assert_eq!((weight("read"), weight("write")), (1, 5));
    }

    #[test]
    fn what_writes_says_what_it_makes_and_what_makes_something_has_a_limit() {
        for (kind, rest, told) in [
            ("read", "", ""),
            ("read", "makes = []", "it reads"),
            ("read", "limits = [\"Tags\"]", "limits on nothing"),
            ("write", "", "it writes"),
            ("write", "limits = [\"Tags\"]", "it writes"),
            ("write", "makes = []", ""),
            ("write", "makes = []\nlimits = [\"Tags\"]", "limits on nothing"),
            ("write", "makes = [\"tags\"]", "name the limit"),
            ("write", "makes = [\"tags\"]\nlimits = [\"Tags\"]", ""),
        ] {
            let checked = action(kind, rest).check_makes();
            let found = checked.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(
                found.contains(told) && found.is_empty() == told.is_empty(),
                "{kind} {rest}: {found}"
            );
        }
    }
}
