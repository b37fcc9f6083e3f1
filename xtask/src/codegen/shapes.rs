//! The writer of a service's shapes: one file a family, and one for what families share.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context, Result, bail};

use super::listings::Listings;
use super::manifest::{Action, Patches};
use super::model::{Member, Model, Protocol, Shape};
use super::{HEADER, names};

/// The module of shapes that more than one family uses.
pub(super) const SHARED: &str = "shared";

/// What a map becomes.
const MAP: &str = "BTreeMap";

/// A service's shapes, sorted into files.
pub(super) struct Shapes<'a> {
    model: &'a Model,
    actions: &'a BTreeMap<String, Action>,
    inputs: BTreeSet<String>,
    outputs: BTreeSet<String>,
    /// Structures of requests that are decoded: not those in members which are refused altogether.
    decoded: BTreeSet<String>,
    /// The module of each structure.
    homes: BTreeMap<String, String>,
    keep_empty: BTreeSet<String>,
    list_of_one: BTreeSet<String>,
    not_required: BTreeSet<String>,
    optional_lists: BTreeSet<String>,
}

impl<'a> Shapes<'a> {
    pub(super) fn new(
        model: &'a Model,
        actions: &'a BTreeMap<String, Action>,
        patches: &Patches,
    ) -> Result<Self> {
        let names = |list: &[super::manifest::Exception]| list.iter().map(|e| e.member.clone()).collect();
        let mut shapes = Self {
            model,
            actions,
            inputs: BTreeSet::new(),
            outputs: BTreeSet::new(),
            decoded: BTreeSet::new(),
            homes: BTreeMap::new(),
            keep_empty: names(&patches.keep_empty),
            list_of_one: names(&patches.list_of_one),
            not_required: names(&patches.not_required),
            optional_lists: names(&patches.optional_lists),
        };
        shapes.sort_into_files()?;
        Ok(shapes)
    }

    fn sort_into_files(&mut self) -> Result<()> {
        for (name, action) in self.actions {
            let operation = self
                .model
                .operations
                .get(name)
                .with_context(|| format!("the model lacks {name}"))?;
            let mut reached = BTreeSet::new();
            if let Some(input) = &operation.input {
                self.model.reach(input, &mut self.inputs)?;
                self.model.reach(input, &mut reached)?;
                for (member, of) in self.model.members(input)?.iter() {
                    if !action.refuse.iter().any(|policy| policy.member == member) {
                        self.model.reach(&of.shape, &mut self.decoded)?;
                    }
                }
            }
            if let Some(output) = &operation.output {
                self.model.reach(output, &mut self.outputs)?;
                self.model.reach(output, &mut reached)?;
            }
            for shape in reached {
                let home = self.homes.entry(shape).or_insert_with(|| action.family.clone());
                if *home != action.family {
                    SHARED.clone_into(home);
                }
            }
        }
        if let Some(clash) = self.homes.keys().find(|shape| self.actions.contains_key(*shape)) {
            bail!("{clash} is both an operation and a shape");
        }
        Ok(())
    }

    /// The modules, each with its text.
    pub(super) fn files(&self, listings: Option<&Listings<'_>>) -> Result<BTreeMap<String, String>> {
        let mut modules: BTreeSet<&str> = self.actions.values().map(|a| a.family.as_str()).collect();
        if self.homes.values().any(|home| home == SHARED) {
            modules.insert(SHARED);
        }
        modules
            .into_iter()
            .map(|module| Ok((module.to_owned(), self.file(module, listings)?)))
            .collect()
    }

    fn file(&self, module: &str, listings: Option<&Listings<'_>>) -> Result<String> {
        let mut body = String::new();
        let mut used = BTreeSet::new();
        self.operations(module, &mut body, &mut used)?;
        if let Some(listings) = listings {
            body += &listings.family(module, &mut used)?;
        }
        for shape in self
            .homes
            .iter()
            .filter(|(_, home)| *home == module)
            .map(|(shape, _)| shape)
        {
            self.structure(shape, &mut body, &mut used)?;
        }
        let what = if module == SHARED {
            "Shapes that several families use.".to_owned()
        } else {
            format!("Operations and shapes of the family `{module}`.")
        };
        let mut out = format!(
            "{HEADER}//! {what}\n\n#![allow(missing_docs, reason = \"the names are the model's\")]\n\n"
        );
        let macros: Vec<&str> = ["both", "input", "json", "operations", "output"]
            .into_iter()
            .filter(|name| body.contains(&format!("{name}! {{")))
            .collect();
        if body.contains("listing! {") {
            writeln!(out, "use crate::listing::listing;")?;
        }
        writeln!(out, "use crate::shape::{{{}}};", macros.join(", "))?;
        if used.contains(MAP) {
            writeln!(out, "use std::collections::BTreeMap;")?;
        }
        let types: Vec<&str> = ["Blob", "Sensitive", "Timestamp"]
            .into_iter()
            .filter(|t| used.contains(*t))
            .collect();
        if !types.is_empty() {
            writeln!(out, "use crate::types::{{{}}};", types.join(", "))?;
        }
        let shared = |s: &&String| module != SHARED && self.homes.get(*s).is_some_and(|home| home == SHARED);
        let imports: Vec<&String> = used.iter().filter(shared).collect();
        if !imports.is_empty() {
            out.push_str("use super::shared::{\n");
            for shape in imports {
                writeln!(out, "    {shape},")?;
            }
            out.push_str("};\n");
        }
        out.push('\n');
        out.push_str(&body);
        Ok(out)
    }

    fn operations(&self, module: &str, out: &mut String, used: &mut BTreeSet<String>) -> Result<()> {
        let family: Vec<&String> = self
            .actions
            .iter()
            .filter(|(_, a)| a.family == module)
            .map(|(name, _)| name)
            .collect();
        if family.is_empty() {
            return Ok(());
        }
        out.push_str("operations! {\n");
        for name in family {
            let operation = &self.model.operations[name];
            let input = operation
                .input
                .clone()
                .with_context(|| format!("{name} has no input"))?;
            let output = operation
                .output
                .clone()
                .unwrap_or_else(|| "crate::codec::Done".to_owned());
            writeln!(out, "    {name}({input}) -> {output};")?;
            used.extend([input, output]);
        }
        out.push_str("}\n");
        Ok(())
    }

    fn structure(&self, name: &str, out: &mut String, used: &mut BTreeSet<String>) -> Result<()> {
        if self.model.protocol == Protocol::Json {
            return self.json(name, out, used);
        }
        let (input, output) = (self.inputs.contains(name), self.outputs.contains(name));
        let direction = match (input, output) {
            (true, true) => "both",
            (true, false) => "input",
            _ => "output",
        };
        let shape = self.model.shape(name)?;
        write!(out, "\n{direction}! {{ {name} {{")?;
        for (member_name, member) in self.model.members(name)?.iter() {
            let mut ty = self.member_type(name, member_name, member, used)?;
            if direction == "input" && self.is_there(name, member_name, shape) && ty == "Option<String>" {
                "String".clone_into(&mut ty);
            }
            write!(out, "\n    {}: {ty} =", names::field(member_name))?;
            if input {
                let query = member.query_name(member_name, self.model.protocol);
                write!(out, " {query:?}{}", self.flags(name, member_name, shape))?;
            }
            if input && output {
                out.push_str(" =>");
            }
            if output {
                write!(
                    out,
                    " {:?}{}",
                    member.xml_name(member_name),
                    self.item_name(member)?
                )?;
            }
            out.push(';');
        }
        out.push_str(if shape.members.is_empty() {
            "} }\n"
        } else {
            "\n} }\n"
        });
        Ok(())
    }

    /// A structure of a service of JSON: one name a member, in both directions.
    fn json(&self, name: &str, out: &mut String, used: &mut BTreeSet<String>) -> Result<()> {
        let shape = self.model.shape(name)?;
        let is_root = self.actions.keys().any(|operation| {
            let input = self
                .model
                .operations
                .get(operation)
                .and_then(|o| o.input.as_ref());
            input.is_some_and(|input| input == name)
        });
        if !is_root && self.decoded.contains(name) && !shape.required.is_empty() {
            bail!("{name} is in a request and has required members, which the codec does not look for");
        }
        write!(out, "\njson! {{ {name} {{")?;
        for (member_name, member) in self.model.members(name)?.iter() {
            let mut ty = self.member_type(name, member_name, member, used)?;
            let wire = member.query_name(member_name, Protocol::Json);
            let required = if shape.required.iter().any(|r| r == member_name) {
                " (required)"
            } else {
                ""
            };
            // An empty list is there, and none is missing.
            if is_root && !required.is_empty() && ty.starts_with("Vec<") {
                ty = format!("Option<{ty}>");
            }
            write!(
                out,
                "\n    {}: {ty} = {wire:?}{required};",
                names::field(member_name)
            )?;
        }
        out.push_str(if shape.members.is_empty() {
            "} }\n"
        } else {
            "\n} }\n"
        });
        Ok(())
    }

    /// Whether the codec has refused a request without the member, or with an empty one.
    fn is_there(&self, shape_name: &str, member: &str, shape: &Shape) -> bool {
        let path = format!("{shape_name}.{member}");
        let required = shape.required.iter().any(|name| name == member);
        required && !self.not_required.contains(&path) && !self.keep_empty.contains(&path)
    }

    fn flags(&self, shape_name: &str, member: &str, shape: &Shape) -> String {
        let path = format!("{shape_name}.{member}");
        let required = shape.required.iter().any(|name| name == member);
        let flags: Vec<&str> = [
            ("keep", self.keep_empty.contains(&path)),
            ("one", self.list_of_one.contains(&path)),
            ("required", required && !self.not_required.contains(&path)),
        ]
        .into_iter()
        .filter_map(|(flag, set)| set.then_some(flag))
        .collect();
        if flags.is_empty() {
            return String::new();
        }
        format!(" ({})", flags.join(" "))
    }

    /// The name of a list's items, where it isn't `item`.
    fn item_name(&self, member: &Member) -> Result<String> {
        let shape = self.model.shape(&member.shape)?;
        if shape.flattened || member.flattened {
            bail!("{} is flattened, which the codec does not know", member.shape);
        }
        let Some(item) = &shape.member else {
            return Ok(String::new());
        };
        let default = if self.model.protocol == Protocol::Ec2 {
            "item"
        } else {
            "member"
        };
        let name = item.location_name.as_deref().unwrap_or(default);
        Ok(if name == "item" {
            String::new()
        } else {
            format!(" {name:?}")
        })
    }

    fn member_type(
        &self,
        owner: &str,
        name: &str,
        member: &Member,
        used: &mut BTreeSet<String>,
    ) -> Result<String> {
        let shape = self.model.shape(&member.shape)?;
        let ty = self.value_type(&member.shape, used)?;
        let path = format!("{owner}.{name}");
        if shape.kind == "list" && !self.optional_lists.contains(&path) {
            return Ok(ty);
        }
        let recursive =
            shape.kind == "structure" && self.model.holds(&member.shape, owner, &mut BTreeSet::new())?;
        Ok(if recursive {
            format!("Option<Box<{ty}>>")
        } else {
            format!("Option<{ty}>")
        })
    }

    fn value_type(&self, name: &str, used: &mut BTreeSet<String>) -> Result<String> {
        let shape = self.model.shape(name)?;
        let ty = match shape.kind.as_str() {
            "string" => "String",
            "boolean" => "bool",
            "integer" => "i32",
            "long" => "i64",
            "double" | "float" => "f64",
            "timestamp"
                if shape
                    .timestamp_format
                    .as_deref()
                    .is_none_or(|f| f == self.times()) =>
            {
                "Timestamp"
            }
            "blob" => "Blob",
            "structure" => name,
            "map" if self.model.protocol == Protocol::Json => return self.map_type(name, shape, used),
            "list" => {
                let item = shape
                    .member
                    .as_ref()
                    .with_context(|| format!("the list {name} has no member"))?;
                return Ok(format!("Vec<{}>", self.value_type(&item.shape, used)?));
            }
            other => bail!("the codec does not know {other} ({name})"),
        };
        if self.model.protocol == Protocol::Json && ty == "Blob" {
            bail!("the codec of JSON does not know {} ({name})", shape.kind);
        }
        used.insert(ty.to_owned());
        // A blob hides itself already.
        if shape.sensitive && shape.kind != "blob" {
            used.insert("Sensitive".to_owned());
            return Ok(format!("Sensitive<{ty}>"));
        }
        Ok(ty.to_owned())
    }

    /// The one form of moments that the codec knows.
    fn times(&self) -> &'static str {
        match self.model.protocol {
            Protocol::Json => "unixTimestamp",
            Protocol::Ec2 | Protocol::Query => "iso8601",
        }
    }

    fn map_type(&self, name: &str, shape: &Shape, used: &mut BTreeSet<String>) -> Result<String> {
        let (Some(key), Some(value)) = (&shape.key, &shape.value) else {
            bail!("the map {name} has no key or value");
        };
        used.insert(MAP.to_owned());
        let (key, value) = (
            self.value_type(&key.shape, used)?,
            self.value_type(&value.shape, used)?,
        );
        Ok(format!("BTreeMap<{key}, {value}>"))
    }

    /// Every `Shape.Member` in use, to find patches that no longer apply.
    pub(super) fn member_paths(&self) -> Result<BTreeSet<String>> {
        let mut paths = BTreeSet::new();
        for shape in self.homes.keys() {
            paths.extend(
                self.model
                    .members(shape)?
                    .iter()
                    .map(|(name, _)| format!("{shape}.{name}")),
            );
        }
        Ok(paths)
    }
}
