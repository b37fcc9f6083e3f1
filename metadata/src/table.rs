//! The immutable tree of one snapshot: a body for each path, directories included.
//!
//! Listings are made from the leaves, so a listing can't name what isn't there: one listed name that
//! answers 404 makes cloud-init throw all metadata away.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;

use crate::version::Version;

/// What is found at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A name's value or a directory's listing.
    Text(Bytes),
    /// User data, served as it was given.
    Octets(Bytes),
}

#[derive(Debug)]
enum Node {
    Leaf {
        since: Version,
        found: Found,
    },
    /// The listing from each date on at which something joined it; ascending.
    Directory(Vec<(Version, Bytes)>),
}

/// The tree of one snapshot.
#[derive(Debug)]
pub(crate) struct Table(HashMap<Box<str>, Node>);

impl Table {
    /// What `version` has at `key`: a path without its version, without slashes around it.
    pub(crate) fn get(&self, version: Version, key: &str) -> Option<Found> {
        match self.0.get(key)? {
            Node::Leaf { since, found } => (*since <= version).then(|| found.clone()),
            Node::Directory(listings) => listings
                .iter()
                .rev()
                .find(|(since, _)| *since <= version)
                .map(|(_, body)| Found::Text(body.clone())),
        }
    }
}

/// Collects leaves.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    leaves: BTreeMap<String, (Version, Found)>,
    /// Paths that their directory lists under another name, or not at all.
    names: HashMap<String, Option<String>>,
}

impl Builder {
    /// Adds a text that exists since `since`.
    pub(crate) fn text(&mut self, path: impl Into<String>, since: Version, body: impl Into<String>) {
        let body = Bytes::from(body.into());
        self.leaves.insert(path.into(), (since, Found::Text(body)));
    }

    /// Adds bytes that are no text.
    pub(crate) fn octets(&mut self, path: impl Into<String>, since: Version, body: &[u8]) {
        let body = Bytes::copy_from_slice(body);
        self.leaves.insert(path.into(), (since, Found::Octets(body)));
    }

    /// Lets the parent list `path` as `name`; `None` hides it.
    pub(crate) fn listed_as(&mut self, path: impl Into<String>, name: Option<String>) {
        self.names.insert(path.into(), name);
    }

    /// Makes the directories.
    pub(crate) fn build(self) -> Table {
        // Directory -> listed name -> since.
        let mut directories: BTreeMap<&str, BTreeMap<String, Version>> = BTreeMap::new();
        directories.insert("", BTreeMap::new());
        for (path, (since, _)) in &self.leaves {
            let mut child = path.as_str();
            while !child.is_empty() {
                let (parent, name) = child.rsplit_once('/').unwrap_or(("", child));
                let names = directories.entry(parent).or_default();
                if let Some(name) = self.listed_name(parent, child, name, child == path) {
                    let first = names.entry(name).or_insert(*since);
                    *first = (*since).min(*first);
                }
                child = parent;
            }
        }
        let mut nodes: HashMap<Box<str>, Node> = directories
            .into_iter()
            .map(|(path, names)| (path.into(), Node::Directory(listings(&names))))
            .collect();
        for (path, (since, found)) in self.leaves {
            nodes.insert(path.into(), Node::Leaf { since, found });
        }
        Table(nodes)
    }

    /// How `parent` lists `path`. Directories end in a slash, except at the top of a version.
    fn listed_name(&self, parent: &str, path: &str, name: &str, leaf: bool) -> Option<String> {
        match self.names.get(path) {
            Some(listed) => listed.clone(),
            None if leaf || parent.is_empty() => Some(name.to_owned()),
            None => Some(format!("{name}/")),
        }
    }
}

/// A listing for each date at which it changed.
fn listings(names: &BTreeMap<String, Version>) -> Vec<(Version, Bytes)> {
    let dates: BTreeSet<Version> = names.values().copied().collect();
    let at = |date: Version| {
        let shown = names.iter().filter(|(_, since)| **since <= date);
        let shown: Vec<&str> = shown.map(|(name, _)| name.as_str()).collect();
        Bytes::from(shown.join("\n"))
    };
    dates.into_iter().map(|date| (date, at(date))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(body: &str) -> Option<Found> {
        Some(Found::Text(Bytes::copy_from_slice(body.as_bytes())))
    }

    #[test]
    fn listings_follow_the_leaves_and_the_date() {
        let mut builder = Builder::default();
        builder.text("meta-data/b/c", 2015, "C");
        builder.text("meta-data/b/d", 2010, "D");
        builder.text("meta-data/a", 2012, "A");
        builder.text("meta-data/keys/0/openssh-key", 2012, "ssh");
        builder.listed_as("meta-data/keys/0", Some("0=me".into()));
        builder.text("meta-data/hidden", 2012, "H");
        builder.listed_as("meta-data/hidden", None);
        let table = builder.build();
        for (version, key, found) in [
            (9999, "", text("meta-data")),
            (9999, "meta-data", text("a\nb/\nkeys/")),
            (2010, "meta-data", text("b/")),
            (2009, "meta-data", None),
            (2009, "", None),
            (2014, "meta-data/b", text("d")),
            (2015, "meta-data/b", text("c\nd")),
            (2014, "meta-data/b/c", None),
            (2015, "meta-data/b/c", text("C")),
            (2012, "meta-data/keys", text("0=me")),
            (2012, "meta-data/keys/0", text("openssh-key")),
            (2012, "meta-data/hidden", text("H")),
            (2012, "meta-data/a/b", None),
            (2012, "meta-data/", None),
        ] {
            assert_eq!(table.get(version, key), found, "{version} {key}");
        }
    }
}
