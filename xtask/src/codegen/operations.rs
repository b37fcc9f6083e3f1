//! The writer of the table of operations: what the framework must know of each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context, Result, bail};

use super::manifest::{Action, FilterNames, Kind, Limits, MemberPolicy, Patches};
use super::model::{Members, Model, Protocol};

/// What the table is made from.
pub(super) struct Table<'a> {
    pub(super) service: &'a str,
    pub(super) protocol: Protocol,
    pub(super) model: &'a Model,
    pub(super) actions: &'a BTreeMap<String, Action>,
    pub(super) filters: &'a FilterNames,
    pub(super) patches: &'a Patches,
}

impl Table<'_> {
    /// The static table and its look-up. `all` are the names of every operation of the service.
    pub(super) fn text(&self, all: &[String]) -> Result<String> {
        let mut out = String::new();
        if self.service == "ec2" {
            out.push_str(
                "use crate::operation::{Access, Filters, Known, MemberPolicy, OperationInfo, Paging};\n\n",
            );
        } else {
            out.push_str("\nuse crate::operation::{Access, Known, OperationInfo};\n\n");
        }
        out.push_str(
            "/// Every operation that is served, by name.\npub static OPERATIONS: &[OperationInfo] = &[\n",
        );
        for (name, action) in self.actions {
            self.entry(name, action, &mut out)
                .with_context(|| format!("operation {name}"))?;
        }
        out.push_str("];\n\n");
        out.push_str(
            "/// Operations of the model that are not served, by name.\npub static UNSERVED: &[&str] = &[\n",
        );
        for name in all.iter().filter(|name| !self.actions.contains_key(*name)) {
            writeln!(out, "    {name:?},")?;
        }
        out.push_str("];\n\n");
        out.push_str(LOOKUP);
        if self.service == "ec2" {
            self.for_each(&mut out)?;
        }
        Ok(out)
    }

    /// A macro over all operations, so that dispatch needs no list of its own.
    fn for_each(&self, out: &mut String) -> Result<()> {
        out.push_str(FOR_EACH);
        for (name, action) in self.actions {
            writeln!(out, "            {}::{name},", action.family)?;
        }
        out.push_str("        }\n    };\n}\n");
        Ok(())
    }

    fn entry(&self, name: &str, action: &Action, out: &mut String) -> Result<()> {
        let input = self.model.operations[name].input.as_ref().context("no input")?;
        let members = self.model.members(input)?;
        let wire = |member: &str| members.get(member).map(|m| m.query_name(member, self.protocol));
        let permission = action
            .permission
            .clone()
            .unwrap_or_else(|| format!("{}:{name}", self.service));
        let token = members
            .iter()
            .find(|(name, m)| m.idempotency_token || *name == "ClientToken");
        let token = token.map(|(name, m)| m.query_name(name, self.protocol));
        let access = if action.kind == Kind::Read {
            "Read"
        } else {
            "Write"
        };
        writeln!(out, "    OperationInfo {{")?;
        writeln!(out, "        name: {name:?},")?;
        writeln!(out, "        family: {:?},", action.family)?;
        writeln!(out, "        permission: {permission:?},")?;
        writeln!(out, "        access: Access::{access},")?;
        self.costs(name, action, members, out)?;
        writeln!(out, "        dry_run: {},", wire("DryRun").is_some())?;
        writeln!(out, "        client_token: {token:?},")?;
        match self.paging(action, members)? {
            Some(Limits { min, max }) => {
                writeln!(out, "        paging: Some(Paging {{ min: {min}, max: {max} }}),")?;
            }
            None => writeln!(out, "        paging: None,")?,
        }
        match wire("Filters").or_else(|| wire("Filter")) {
            Some(parameter) => self.filters(name, &parameter, out)?,
            None => writeln!(out, "        filters: None,")?,
        }
        self.policies("refused", input, &action.refuse, out)?;
        self.policies("ignored", input, &action.ignore, out)?;
        writeln!(out, "    }},")?;
        Ok(())
    }

    fn costs(&self, name: &str, action: &Action, members: &Members, out: &mut String) -> Result<()> {
        for per in action.weight_per.iter().chain(&action.weight_rows) {
            let mut names = members.iter().map(|(name, m)| m.query_name(name, self.protocol));
            if !names.any(|name| name == *per) {
                bail!("the model has no {per} to be the weight's");
            }
        }
        if action.must_have_limits(name) && action.limits.is_empty() {
            bail!("it makes something: name the limit of how much, in `limits`");
        }
        writeln!(out, "        weight: {},", action.weight())?;
        writeln!(out, "        weight_per: {:?},", action.weight_per)?;
        writeln!(out, "        weight_rows: &{:?},", action.weight_rows)?;
        writeln!(out, "        limits: &{:?},", action.limits)?;
        Ok(())
    }

    fn paging(&self, action: &Action, members: &Members) -> Result<Option<Limits>> {
        let (Some(size), true) = (members.get("MaxResults"), members.get("NextToken").is_some()) else {
            return Ok(None);
        };
        let shape = self.model.shape(&size.shape)?;
        #[expect(clippy::cast_possible_truncation, reason = "small whole numbers in the model")]
        let limits = shape.min.zip(shape.max).map(|(min, max)| Limits {
            min: min as i32,
            max: max as i32,
        });
        match (limits, action.max_results) {
            (Some(limits), None) | (None, Some(limits)) => Ok(Some(limits)),
            (Some(_), Some(_)) => bail!("the model has limits of MaxResults: drop max_results"),
            (None, None) => bail!("the model has no limits of MaxResults: give max_results"),
        }
    }

    fn filters(&self, operation: &str, parameter: &str, out: &mut String) -> Result<()> {
        let mut names: BTreeSet<&str> = self
            .filters
            .get(operation)
            .context("no documented filters")?
            .iter()
            .map(String::as_str)
            .collect();
        for added in self.patches.filters.iter().filter(|f| f.operation == operation) {
            for name in &added.names {
                if !names.insert(name) {
                    bail!("patches.toml: {name} is documented now");
                }
            }
        }
        writeln!(out, "        filters: Some(Filters {{")?;
        writeln!(
            out,
            "            parameter: {parameter:?},\n            names: &["
        )?;
        for name in names {
            writeln!(out, "                {name:?},")?;
        }
        writeln!(out, "            ],\n        }}),")?;
        Ok(())
    }

    fn policies(&self, field: &str, input: &str, policies: &[MemberPolicy], out: &mut String) -> Result<()> {
        if policies.is_empty() {
            writeln!(out, "        {field}: &[],")?;
            return Ok(());
        }
        writeln!(out, "        {field}: &[")?;
        for policy in policies {
            let (kind, member) = self.resolve(input, &policy.member)?;
            if field == "refused" && self.patches.keep_empty.iter().any(|kept| kept.member == member) {
                bail!(
                    "{}: an empty value of it means something: its handler has to refuse it",
                    policy.member
                );
            }
            let mut defaults: Vec<&str> = policy.default.iter().map(String::as_str).collect();
            if kind == "boolean" && defaults.is_empty() {
                defaults = vec!["false", "0"];
            }
            writeln!(
                out,
                "            MemberPolicy {{ parameter: {:?}, defaults: &{defaults:?}, reason: {:?} }},",
                policy.member, policy.reason
            )?;
        }
        writeln!(out, "        ],")?;
        Ok(())
    }

    /// The type at the end of a path on the wire, and the member there as `Shape.Member`; an error if the model has
    /// no such path.
    fn resolve(&self, input: &str, path: &str) -> Result<(String, String)> {
        let (mut shape, mut member) = (input.to_owned(), String::new());
        for step in path.split('.') {
            let here = self.model.shape(&shape)?;
            shape = if step == "N" {
                here.member
                    .as_ref()
                    .with_context(|| format!("{path}: no list at N"))?
                    .shape
                    .clone()
            } else {
                let mut members = self.model.members(&shape)?.iter();
                let found = members.find(|(name, m)| m.query_name(name, self.protocol) == step);
                let (name, found) = found.with_context(|| format!("{path}: the model has no {step}"))?;
                member = format!("{shape}.{name}");
                found.shape.clone()
            };
        }
        Ok((self.model.shape(&shape)?.kind.clone(), member))
    }
}

const LOOKUP: &str = "\
/// What is known of an action.
#[must_use]
pub fn lookup(action: &str) -> Known {
    match OPERATIONS.binary_search_by(|info| info.name.cmp(action)) {
        Ok(at) => Known::Served(&OPERATIONS[at]),
        Err(_) if UNSERVED.binary_search(&action).is_ok() => Known::Unserved,
        Err(_) => Known::Unknown,
    }
}
";

const FOR_EACH: &str = "
/// Calls `$callback! { family::Operation, ... }` with every operation that is served, so that
/// dispatch needs no list of its own.
#[macro_export]
macro_rules! for_each_ec2_operation {
    ($callback:ident) => {
        $callback! {
";
