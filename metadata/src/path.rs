//! Request paths: final and doubled slashes don't matter, segments are percent-decoded.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::version::{self, Version};

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Location<'a> {
    /// The list of versions.
    Versions,
    /// Into a version's tree; the empty key is its top.
    Tree(Version, Cow<'a, str>),
    /// Nowhere.
    Unknown,
}

/// Finds out where `path` leads. Most requests need no allocation.
pub(crate) fn locate(path: &str) -> Location<'_> {
    let plain = !path.contains('%') && !path.contains("//");
    let Some(clean) = (if plain { Some(trim(path)) } else { decode(path) }) else {
        return Location::Unknown;
    };
    match clean {
        Cow::Borrowed("") => Location::Versions,
        Cow::Borrowed(clean) => {
            let (name, key) = clean.split_once('/').unwrap_or((clean, ""));
            known(name, Cow::Borrowed(key))
        }
        Cow::Owned(clean) if clean.is_empty() => Location::Versions,
        Cow::Owned(clean) => {
            let (name, key) = clean.split_once('/').unwrap_or((&clean, ""));
            known(name, Cow::Owned(key.to_owned()))
        }
    }
}

fn known<'a>(version: &str, key: Cow<'a, str>) -> Location<'a> {
    version::parse(version).map_or(Location::Unknown, |version| Location::Tree(version, key))
}

fn trim(path: &str) -> Cow<'_, str> {
    let path = path.strip_prefix('/').unwrap_or(path);
    Cow::Borrowed(path.strip_suffix('/').unwrap_or(path))
}

/// Decodes segment by segment; a slash that was escaped is part of no name that exists.
fn decode(path: &str) -> Option<Cow<'_, str>> {
    let mut clean = String::with_capacity(path.len());
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        let segment = percent_decode_str(segment).decode_utf8().ok()?;
        if segment.contains('/') {
            return None;
        }
        if !clean.is_empty() {
            clean.push('/');
        }
        clean.push_str(&segment);
    }
    Some(Cow::Owned(clean))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::version::LATEST;

    fn latest(key: &str) -> Location<'_> {
        Location::Tree(LATEST, Cow::Borrowed(key))
    }

    #[test]
    fn slashes_and_escapes() {
        for (path, location) in [
            ("", Location::Versions),
            ("/", Location::Versions),
            ("//", Location::Versions),
            ("/latest", latest("")),
            ("/latest/", latest("")),
            ("//latest//", latest("")),
            ("/latest/meta-data", latest("meta-data")),
            ("/latest/meta-data/", latest("meta-data")),
            ("/latest//meta-data///mac//", latest("meta-data/mac")),
            ("/latest/tags/instance/a%3Db", latest("tags/instance/a=b")),
            ("/l%61test/mac", latest("mac")),
            ("/latest/a%2Fb", Location::Unknown),
            ("/latest/%ff", Location::Unknown),
            ("/latest/%zz", latest("%zz")),
            ("/latest/..", latest("..")),
            ("/2021-03-24/mac", Location::Unknown),
            ("*", Location::Unknown),
        ] {
            assert_eq!(locate(path), location, "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_path_panics_and_slashes_never_matter(path in "[/a-z0-9.%-]{0,40}") {
            let doubled = format!("//{}/", path.replace('/', "//"));
            let path = format!("/{path}");
            prop_assert_eq!(locate(&path), locate(&doubled));
        }
    }
}
