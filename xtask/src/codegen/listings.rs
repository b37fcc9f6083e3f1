//! The writer of listings: for each operation with filters its paging members, what it names, its answer, and which
//! member of the listed shape each documented filter is.
//!
//! A filter whose name spells a path of members (`metadata-options.http-tokens`) is that member; for all others
//! `filter_members.toml` says what they are. One that is nothing of it is an error, and so is a path that leads nowhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context, Result, bail};

use super::manifest::{Action, FilterMembers, FilterNames, FilterWords, Patches, Place};
use super::model::{Members, Model, Protocol};
use super::names;

/// What stands for filters by tags in the documentation.
const TAG: &str = "tag:<key>";

/// The words in `tags` for an item that is itself a tag.
const ITSELF: &str = "itself";

/// What listings are made from.
pub(super) struct Listings<'a> {
    pub(super) model: &'a Model,
    pub(super) actions: &'a BTreeMap<String, Action>,
    pub(super) documented: &'a FilterNames,
    pub(super) patches: &'a Patches,
    pub(super) words: &'a FilterMembers,
}

/// A listing's parts in the model.
struct Parts<'a> {
    name: &'a str,
    input: &'a Members,
    output: &'a Members,
    output_name: &'a str,
    /// The member with what is listed, and its shape.
    items: &'a str,
    item: String,
}

/// Whether an operation is a listing with filters.
pub(super) fn is_listing(model: &Model, name: &str) -> Result<bool> {
    let input = model.operations[name].input.as_ref().context("no input")?;
    Ok(model.protocol == Protocol::Ec2 && filters_of(model.members(input)?).is_some())
}

/// The member with the filters.
fn filters_of(members: &Members) -> Option<&'static str> {
    ["Filters", "Filter"]
        .into_iter()
        .find(|name| members.get(name).is_some())
}

/// The documented filters of an operation, and those that patches add.
pub(super) fn documented<'a>(
    operation: &str,
    documented: &'a FilterNames,
    patches: &'a Patches,
) -> Result<BTreeSet<&'a str>> {
    let names = documented.get(operation).context("no documented filters")?;
    let mut names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    for added in patches.filters.iter().filter(|f| f.operation == operation) {
        for name in &added.names {
            if !names.insert(name) {
                bail!("patches.toml: {name} is documented now");
            }
        }
    }
    Ok(names)
}

impl<'a> Listings<'a> {
    /// The listings of a family; the shapes that they name are added to `used`.
    pub(super) fn family(&self, family: &str, used: &mut BTreeSet<String>) -> Result<String> {
        let mut out = String::new();
        for (name, _) in self.actions.iter().filter(|(_, action)| action.family == family) {
            if is_listing(self.model, name)? {
                self.listing(name, &mut out, used)
                    .with_context(|| format!("the listing {name}"))?;
            }
        }
        Ok(out)
    }

    /// Refuses words for operations that are no listings here.
    pub(super) fn check(&self) -> Result<()> {
        for name in self.words.keys() {
            if !self.actions.contains_key(name) || !is_listing(self.model, name)? {
                bail!("filter_members.toml: {name} is no listing that is served");
            }
        }
        Ok(())
    }

    fn listing(&self, name: &'a str, out: &mut String, used: &mut BTreeSet<String>) -> Result<()> {
        let (parts, none) = (self.parts(name)?, FilterWords::default());
        let words = self.words.get(name).unwrap_or(&none);
        let filters = names::field(filters_of(parts.input).context("no filters")?);
        let (items, item, output) = (names::field(parts.items), &parts.item, parts.output_name);
        writeln!(
            out,
            "\nlisting! {{ {name}({filters}) -> {output} {{ {items}: {item} }} {{"
        )?;
        if ["MaxResults", "NextToken"]
            .iter()
            .all(|name| parts.input.get(name).is_some())
        {
            if parts.output.get("NextToken").is_none() {
                bail!("it has pages and no NextToken in its answer");
            }
            writeln!(out, "    pages max_results next_token;")?;
        }
        let named = self.named(&parts)?;
        if !named.is_empty() {
            writeln!(out, "    named {};", named.join(" "))?;
        }
        self.filters(&parts, words, out)?;
        out.push_str("} }\n");
        used.insert(parts.item.clone());
        Ok(())
    }

    fn parts(&self, name: &'a str) -> Result<Parts<'a>> {
        let operation = &self.model.operations[name];
        let (input, output_name) = (
            operation.input.as_deref().context("no input")?,
            operation.output.as_deref().context("no output")?,
        );
        let output = self.model.members(output_name)?;
        for (items, member) in output.iter() {
            let item = self.of_list(&member.shape)?;
            if item != member.shape && self.model.shape(item)?.kind == "structure" {
                return Ok(Parts {
                    name,
                    input: self.model.members(input)?,
                    output,
                    output_name,
                    items,
                    item: item.to_owned(),
                });
            }
        }
        bail!("its answer has no list of structures")
    }

    /// What a list is of, however many lists there are around it; else the shape itself.
    fn of_list<'s>(&'s self, mut shape: &'s str) -> Result<&'s str> {
        while let (true, Some(item)) = (
            self.model.shape(shape)?.kind == "list",
            &self.model.shape(shape)?.member,
        ) {
            shape = &item.shape;
        }
        Ok(shape)
    }

    /// The fields that name resources: lists of texts that are called after ids or names, or as the answer's list. Whose
    /// resources are wanted names none of them.
    fn named(&self, parts: &Parts<'_>) -> Result<Vec<String>> {
        let mut named = Vec::new();
        for (name, member) in parts.input.iter() {
            let item = self.of_list(&member.shape)?;
            let texts = item != member.shape && self.model.shape(item)?.kind == "string";
            let names = name.ends_with("Ids") || name.ends_with("Names") || name == parts.items;
            let accounts = name.ends_with("OwnerIds") || name.ends_with("UserIds");
            if texts && names && !accounts {
                named.push(names::field(name));
            }
        }
        Ok(named)
    }

    fn filters(&self, parts: &Parts<'_>, words: &FilterWords, out: &mut String) -> Result<()> {
        let documented = documented(parts.name, self.documented, self.patches)?;
        if documented.contains(TAG) {
            writeln!(out, "    tags {};", self.tags(parts, words)?)?;
        }
        let told = words
            .computed
            .iter()
            .chain(&words.absent)
            .chain(words.members.keys());
        for name in told.clone() {
            if !documented.contains(name.as_str()) {
                bail!("filter_members.toml: {name} is not documented");
            }
            if told.clone().filter(|other| *other == name).count() > 1 {
                bail!("filter_members.toml: {name} is two things");
            }
        }
        for (word, names) in [("computed", &words.computed), ("absent", &words.absent)] {
            if !names.is_empty() {
                let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
                writeln!(out, "    {word} {};", names.join(" "))?;
            }
        }
        for name in documented {
            let elsewhere = |list: &[String]| list.iter().any(|other| other == name);
            let tag = [TAG, "tag-key", "tag-value"].contains(&name);
            if tag || elsewhere(&words.computed) || elsewhere(&words.absent) {
                continue;
            }
            let place = self
                .place(parts, words, name)
                .with_context(|| format!("the filter {name}"))?;
            writeln!(out, "    {name:?} = {place};")?;
        }
        Ok(())
    }

    /// Where a filter's texts are, as the macro reads it.
    fn place(&self, parts: &Parts<'_>, words: &FilterWords, name: &str) -> Result<String> {
        let (path, text) = match words.members.get(name) {
            Some(Place::Path(path)) => (path, None),
            Some(Place::Text {
                text,
                each: Some(path),
            }) => (path, Some(text)),
            Some(Place::Text { text, each: None }) => return Ok(format!("{text:?}")),
            None => {
                let spelled = self.path(parts, words, name, &spells)?;
                let known = spelled.filter(|(_, kind)| is_text(kind));
                return known.map(|(path, _)| path).context(
                    "it spells no member: say in filter_members.toml which it is, or that it is computed or absent",
                );
            }
        };
        let found = self.path(parts, words, path, &|part, member| part == member)?;
        let (path, kind) = found.with_context(|| format!("there is no {path} in {}", parts.item))?;
        match text {
            Some(text) if kind == "structure" => Ok(format!("{path} {text:?}")),
            None if is_text(&kind) => Ok(path),
            _ => bail!("{path} is {kind}"),
        }
    }

    /// The fields of a path of members from the item, or from what is below it, and the kind at its end.
    fn path(
        &self,
        parts: &Parts<'_>,
        words: &FilterWords,
        path: &str,
        is: &dyn Fn(&str, &str) -> bool,
    ) -> Result<Option<(String, String)>> {
        if let Some(found) = self.walk(&parts.item, path, is)? {
            return Ok(Some(found));
        }
        let Some(below) = &words.below else {
            return Ok(None);
        };
        let member = self.model.members(&parts.item)?.get(below);
        let member = member.with_context(|| format!("there is no {below} in {}", parts.item))?;
        let found = self.walk(self.of_list(&member.shape)?, path, is)?;
        Ok(found.map(|(path, kind)| (format!("{}.{path}", names::field(below)), kind)))
    }

    fn walk(
        &self,
        from: &str,
        path: &str,
        is: &dyn Fn(&str, &str) -> bool,
    ) -> Result<Option<(String, String)>> {
        let (mut shape, mut fields) = (from, Vec::new());
        for part in path.split('.') {
            let members = self.model.members(self.of_list(shape)?)?;
            let exact = members.iter().find(|(name, _)| plain(name) == plain(part));
            let found = exact.or_else(|| members.iter().find(|(name, _)| is(part, name)));
            let Some((name, member)) = found.filter(|(name, _)| is(part, name)) else {
                return Ok(None);
            };
            fields.push(names::field(name));
            shape = &member.shape;
        }
        let kind = self.model.shape(self.of_list(shape)?)?.kind.clone();
        Ok(Some((fields.join("."), kind)))
    }

    fn tags(&self, parts: &Parts<'_>, words: &FilterWords) -> Result<String> {
        if words.tags.as_deref() == Some(ITSELF) {
            return Ok("item".to_owned());
        }
        let found = match &words.tags {
            Some(path) => self.path(parts, words, path, &|part, member| part == member)?,
            None => match self.path(parts, words, "Tags", &|part, member| part == member)? {
                Some(found) => Some(found),
                None => self.path(parts, words, "TagSet", &|part, member| part == member)?,
            },
        };
        let (path, _) = found.context("it has filters by tags, and no tags")?;
        Ok(path)
    }
}

/// Whether a filter's part spells a member, or several of it.
fn spells(part: &str, member: &str) -> bool {
    let (part, member) = (plain(part), plain(member));
    ["", "s", "es"].iter().any(|end| format!("{part}{end}") == member)
}

/// A name without hyphens and capitals.
fn plain(name: &str) -> String {
    name.replace('-', "").to_lowercase()
}

/// Whether a filter can compare it: no structure, and nothing secret.
fn is_text(kind: &str) -> bool {
    [
        "string",
        "boolean",
        "integer",
        "long",
        "double",
        "float",
        "timestamp",
    ]
    .contains(&kind)
}

#[cfg(test)]
mod tests {
    use super::super::{Sources, manifest::FilterMembers};
    use super::*;

    /// What codegen says of DescribeSubnets with these words.
    fn listing(words: &str) -> Result<String> {
        let sources = Sources::read(&crate::root()?)?;
        let model = Model::read(&sources.models.join("ec2.json"), &sources.patches)?;
        let words: FilterMembers = toml::from_str(&format!("[DescribeSubnets]\n{words}"))?;
        let listings = Listings {
            model: &model,
            actions: &sources.manifest["ec2"],
            documented: &sources.filters,
            patches: &sources.patches,
            words: &words,
        };
        listings.check()?;
        let mut out = String::new();
        listings.listing("DescribeSubnets", &mut out, &mut BTreeSet::new())?;
        Ok(out)
    }

    const REST: &str = "\"cidr\" = \"CidrBlock\"\n\
                        \"ipv6-cidr-block-association.association-id\" = \"Ipv6CidrBlockAssociationSet.AssociationId\"\n\
                        \"ipv6-cidr-block-association.ipv6-cidr-block\" = \"Ipv6CidrBlockAssociationSet.Ipv6CidrBlock\"\n";

    #[test]
    fn each_filter_is_a_member_or_said_to_be_something_else() {
        let state = "ipv6-cidr-block-association.state";
        let path = "Ipv6CidrBlockAssociationSet.Ipv6CidrBlockState.State";
        for (words, expected) in [
            (
                format!("[DescribeSubnets.members]\n{REST}\"{state}\" = \"{path}\""),
                Ok("ipv6_cidr_block_association_set.ipv6_cidr_block_state.state;"),
            ),
            (
                format!("absent = [\"{state}\"]\n[DescribeSubnets.members]\n{REST}"),
                Ok("absent \"ipv6-cidr-block-association.state\";"),
            ),
            (
                format!(
                    "[DescribeSubnets.members]\n{REST}\"{state}\" = {{ text = \"x\", each = \"Ipv6CidrBlockAssociationSet\" }}"
                ),
                Ok("\"ipv6-cidr-block-association.state\" = ipv6_cidr_block_association_set \"x\";"),
            ),
            (
                format!("[DescribeSubnets.members]\n{REST}"),
                Err("spells no member"),
            ),
            (
                format!(
                    "[DescribeSubnets.members]\n{REST}\"{state}\" = \"Ipv6CidrBlockAssociationSet.State\""
                ),
                Err("there is no Ipv6CidrBlockAssociationSet.State in Subnet"),
            ),
            (
                format!("[DescribeSubnets.members]\n{REST}\"{state}\" = \"Ipv6CidrBlockAssociationSet\""),
                Err("is structure"),
            ),
            (
                format!(
                    "absent = [\"{state}\"]\ncomputed = [\"{state}\"]\n[DescribeSubnets.members]\n{REST}"
                ),
                Err("is two things"),
            ),
            (
                format!("absent = [\"{state}\", \"colour\"]\n[DescribeSubnets.members]\n{REST}"),
                Err("colour is not documented"),
            ),
        ] {
            match (listing(&words), expected) {
                (Ok(text), Ok(part)) => assert!(text.contains(part), "{words}: {text}"),
                (Err(error), Err(part)) => assert!(format!("{error:#}").contains(part), "{words}: {error:#}"),
                (got, _) => panic!("{words}: {got:?}"),
            }
        }
    }
}
