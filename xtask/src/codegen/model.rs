//! The stripped models in `models/`, with the patches applied, and what they say of names and types.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::manifest::{Patches, Retyped};

/// A stripped model: `models/SERVICE.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Model {
    /// What signatures for it call it.
    pub(super) name: String,
    pub(super) protocol: Protocol,
    pub(super) version: String,
    /// Of its documents, where they are XML.
    pub(super) namespace: Option<String>,
    /// What its operations' names are prefixed with in `X-Amz-Target`, where they are JSON.
    pub(super) target_prefix: Option<String>,
    pub(super) json_version: Option<String>,
    pub(super) operations: BTreeMap<String, ModelOperation>,
    pub(super) shapes: BTreeMap<String, Shape>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ModelOperation {
    pub(super) input: Option<String>,
    pub(super) output: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Shape {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) required: Vec<String>,
    #[serde(default)]
    pub(super) members: Members,
    pub(super) member: Option<Member>,
    pub(super) key: Option<Member>,
    pub(super) value: Option<Member>,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    #[serde(default)]
    pub(super) sensitive: bool,
    #[serde(default)]
    pub(super) flattened: bool,
    pub(super) timestamp_format: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Member {
    pub(super) shape: String,
    pub(super) location_name: Option<String>,
    pub(super) query_name: Option<String>,
    #[serde(default)]
    pub(super) idempotency_token: bool,
    #[serde(default)]
    pub(super) flattened: bool,
}

/// A structure's members in the model's order, which is the order in responses.
#[derive(Clone, Debug, Default)]
pub(super) struct Members(Vec<(String, Member)>);

impl Members {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Member)> {
        self.0.iter().map(|(name, member)| (name.as_str(), member))
    }

    pub(super) fn get(&self, name: &str) -> Option<&Member> {
        self.iter()
            .find(|(other, _)| *other == name)
            .map(|(_, member)| member)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("members by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    members.push(entry);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

/// How names are made for requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Protocol {
    Ec2,
    Query,
    Json,
}

impl Member {
    /// The name in a request.
    pub(super) fn query_name(&self, name: &str, protocol: Protocol) -> String {
        match (protocol, &self.query_name, &self.location_name) {
            (Protocol::Ec2, Some(query), _) => query.clone(),
            (Protocol::Ec2, None, Some(location)) => {
                let mut chars = location.chars();
                chars
                    .next()
                    .map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
            }
            (Protocol::Query | Protocol::Json, _, Some(location)) => location.clone(),
            (_, _, None) => name.to_owned(),
        }
    }

    /// The name in a response.
    pub(super) fn xml_name(&self, name: &str) -> String {
        self.location_name.clone().unwrap_or_else(|| name.to_owned())
    }
}

impl Model {
    /// Reads a model and merges the patches that concern its shapes.
    pub(super) fn read(path: &Path, patches: &Patches) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let mut model: Self =
            serde_json::from_str(&text).with_context(|| format!("parsing {}", path.display()))?;
        if path.file_stem().is_some_and(|stem| stem == "ec2") {
            model.patch(patches)?;
        }
        Ok(model)
    }

    fn patch(&mut self, patches: &Patches) -> Result<()> {
        for (name, shape) in &patches.shapes {
            if self.shapes.insert(name.clone(), shape.clone()).is_some() {
                bail!("patches.toml: the model has a shape {name} now");
            }
        }
        for patch in &patches.members {
            let shape = self
                .shapes
                .get_mut(&patch.shape)
                .with_context(|| format!("patches.toml: no shape {}", patch.shape))?;
            if shape.members.get(&patch.name).is_some() {
                bail!("patches.toml: the model has {}.{} now", patch.shape, patch.name);
            }
            let member = Member {
                shape: patch.of.clone(),
                location_name: patch.wire.clone(),
                query_name: None,
                idempotency_token: false,
                flattened: false,
            };
            shape.members.0.push((patch.name.clone(), member));
        }
        patches.retyped.iter().try_for_each(|patch| self.retype(patch))
    }

    fn retype(&mut self, patch: &Retyped) -> Result<()> {
        let found = patch.member.split_once('.').and_then(|(shape, name)| {
            let members = &mut self.shapes.get_mut(shape)?.members.0;
            members.iter_mut().find(|(known, _)| known == name)
        });
        let (_, member) = found.with_context(|| format!("patches.toml: no member {}", patch.member))?;
        if member.shape == patch.of {
            bail!("patches.toml: the model has {} as {} now", patch.member, patch.of);
        }
        member.shape.clone_from(&patch.of);
        Ok(())
    }

    pub(super) fn shape(&self, name: &str) -> Result<&Shape> {
        self.shapes
            .get(name)
            .with_context(|| format!("no shape {name} in the model"))
    }

    /// A structure's members, in the model's order.
    pub(super) fn members(&self, name: &str) -> Result<&Members> {
        Ok(&self.shape(name)?.members)
    }

    /// Adds the structures reachable from `root` to `seen`.
    pub(super) fn reach(&self, root: &str, seen: &mut BTreeSet<String>) -> Result<()> {
        let shape = self.shape(root)?;
        if let Some(item) = shape.member.as_ref().or(shape.value.as_ref()) {
            return self.reach(&item.shape, seen);
        }
        if shape.kind != "structure" || !seen.insert(root.to_owned()) {
            return Ok(());
        }
        for (_, member) in self.members(root)?.iter() {
            self.reach(&member.shape, seen)?;
        }
        Ok(())
    }

    /// Whether the structure `from` holds `to` by value, without a list between.
    pub(super) fn holds(&self, from: &str, to: &str, seen: &mut BTreeSet<String>) -> Result<bool> {
        if from == to {
            return Ok(true);
        }
        if self.shape(from)?.kind != "structure" || !seen.insert(from.to_owned()) {
            return Ok(false);
        }
        for (_, member) in self.members(from)?.iter() {
            if self.holds(&member.shape, to, seen)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
