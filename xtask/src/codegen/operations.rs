//! The writer of the table of operations: what the framework must know of each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context, Result, bail};

use super::manifest::{Action, FilterNames, Kind, Limits, MemberPolicy, Patches};
use super::model::{Members, Model, Protocol};
use super::{listings, names};

/// What the table is made from.
pub(super) struct Table<'a> {
    pub(super) service: &'a str,
    pub(super) model: &'a Model,
    pub(super) actions: &'a BTreeMap<String, Action>,
    pub(super) filters: &'a FilterNames,
    pub(super) patches: &'a Patches,
}

impl Table<'_> {
    /// The static table, and the service that it is of. `all` are the names of every operation of the service.
    pub(super) fn text(&self, all: &[String]) -> Result<String> {
        let mut out = String::new();
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
        self.model(&mut out)?;
        self.for_each(&mut out)?;
        let used: Vec<&str> = ["Access", "Filters", "MemberPolicy", "OperationInfo", "Paging"]
            .into_iter()
            .filter(|name| out.contains(&format!("{name} {{")) || out.contains(&format!("{name}::")))
            .collect();
        let imports = format!("\nuse crate::operation::{{{}}};\n", used.join(", "));
        Ok(imports + "use crate::service::{Codec, ServiceModel};\n\n" + &out)
    }

    /// What is known of the service as a whole.
    fn model(&self, out: &mut String) -> Result<()> {
        let model = self.model;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let codec = match model.protocol {
            Protocol::Ec2 => "Codec::Ec2".to_owned(),
            // The parsers of clients compare namespaces, and the model's own lacks the slash.
            Protocol::Query => {
                let namespace = text(&model.namespace);
                format!(
                    "Codec::Query {{ namespace: \"{}/\" }}",
                    namespace.trim_end_matches('/')
                )
            }
            Protocol::Json => {
                let content_type = match model.json_version.as_deref() {
                    Some("1.0") => "application/x-amz-json-1.0",
                    Some("1.1") => "application/x-amz-json-1.1",
                    other => bail!("the codec does not know JSON {other:?}"),
                };
                let prefix = text(&model.target_prefix);
                format!("Codec::Json {{ content_type: {content_type:?}, target_prefix: {prefix:?} }}")
            }
        };
        write!(
            out,
            "/// The service.\npub static SERVICE: ServiceModel = ServiceModel {{\n    name: {:?},\n    codec: {codec},\n    \
             version: {:?},\n    operations: OPERATIONS,\n    unserved: UNSERVED,\n}};\n",
            model.name, model.version
        )?;
        Ok(())
    }

    /// A macro over all operations, so that what concerns each of them needs no list of its own.
    fn for_each(&self, out: &mut String) -> Result<()> {
        let module = names::module(self.service);
        write!(
            out,
            "\n/// Calls `$callback! {{ kind family::Operation, ... }}` with every operation that is served, so that\n\
             /// what concerns each of them needs no list of its own. A kind is `listing` where there are filters,\n\
             /// `document` where the service speaks JSON, and else `action`.\n#[macro_export]\n\
             macro_rules! for_each_{module}_operation {{\n    ($callback:ident) => {{\n        $callback! {{\n"
        )?;
        for (name, action) in self.actions {
            writeln!(out, "            {} {}::{name},", self.kind(name)?, action.family)?;
        }
        out.push_str("        }\n    };\n}\n");
        let families: BTreeSet<&str> = self
            .actions
            .values()
            .map(|action| action.family.as_str())
            .collect();
        write!(
            out,
            "\n/// Calls `$callback! {{ family, ... }}` with every family of operations.\n#[macro_export]\n\
             macro_rules! for_each_{module}_family {{\n    ($callback:ident) => {{\n        $callback! {{\n"
        )?;
        for family in families {
            writeln!(out, "            {family},")?;
        }
        out.push_str("        }\n    };\n}\n");
        Ok(())
    }

    /// What of the framework serves an operation.
    fn kind(&self, name: &str) -> Result<&'static str> {
        Ok(match self.model.protocol {
            Protocol::Json => "document",
            _ if listings::is_listing(self.model, name)? => "listing",
            _ => "action",
        })
    }

    fn entry(&self, name: &str, action: &Action, out: &mut String) -> Result<()> {
        let input = self.model.operations[name].input.as_ref().context("no input")?;
        let members = self.model.members(input)?;
        let wire = |member: &str| {
            members
                .get(member)
                .map(|m| m.query_name(member, self.model.protocol))
        };
        let permission = action
            .permission
            .clone()
            .unwrap_or_else(|| format!("{}:{name}", self.model.name));
        let token = members
            .iter()
            .find(|(name, m)| m.idempotency_token || *name == "ClientToken");
        let token = token.map(|(name, m)| m.query_name(name, self.model.protocol));
        let access = if action.kind == Kind::Read {
            "Read"
        } else {
            "Write"
        };
        writeln!(out, "    OperationInfo {{")?;
        writeln!(out, "        name: {name:?},")?;
        writeln!(out, "        family: {:?},", action.family)?;
        writeln!(out, "        permission: {permission:?},")?;
        writeln!(out, "        anyone: {},", action.anyone)?;
        writeln!(out, "        access: Access::{access},")?;
        self.costs(action, members, out)?;
        writeln!(out, "        dry_run: {},", wire("DryRun").is_some())?;
        writeln!(out, "        client_token: {token:?},")?;
        let required: Vec<String> = members
            .iter()
            .filter(|(name, _)| self.is_required(input, name))
            .map(|(name, m)| m.query_name(name, self.model.protocol))
            .collect();
        writeln!(out, "        required: &{required:?},")?;
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

    fn is_required(&self, input: &str, member: &str) -> bool {
        let path = format!("{input}.{member}");
        let shape = self.model.shapes.get(input);
        shape.is_some_and(|shape| shape.required.iter().any(|name| name == member))
            && !self
                .patches
                .not_required
                .iter()
                .any(|exception| exception.member == path)
    }

    fn costs(&self, action: &Action, members: &Members, out: &mut String) -> Result<()> {
        for per in action.weight_per.iter().chain(&action.weight_rows) {
            let mut names = members
                .iter()
                .map(|(name, m)| m.query_name(name, self.model.protocol));
            if !names.any(|name| name == *per) {
                bail!("the model has no {per} to be the weight's");
            }
        }
        action.check_makes()?;
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
        let names = listings::documented(operation, self.filters, self.patches)?;
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
                let found = members.find(|(name, m)| m.query_name(name, self.model.protocol) == step);
                let (name, found) = found.with_context(|| format!("{path}: the model has no {step}"))?;
                member = format!("{shape}.{name}");
                found.shape.clone()
            };
        }
        Ok((self.model.shape(&shape)?.kind.clone(), member))
    }
}
