//! The rule on loads: rows of an account are loaded by its grant (`store::resource`), which has the policy's look at each.
//! A query of one's own over the column of accounts has to be one of these, each with its reason; one that is gone is to be
//! gone here, too.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::Visit;

use super::Finding;
use super::tree::{Source, Tree};

/// Where the rule holds: what works for a principal.
const WITHIN: &[&str] = &[
    "backend/compute/src/",
    "backend/core/src/",
    "backend/identity/src/",
    "backend/network/src/",
    "backend/storage/src/",
];

/// Files with queries of their own, and why nobody is shown by them what a policy would refuse.
const KEPT: &[(&str, &str)] = &[
    (
        "backend/compute/src/instances/public_addresses.rs",
        "it counts, for a quota",
    ),
    (
        "backend/compute/src/instances/replay.rs",
        "a launch is found by its token, and then shown to the policy",
    ),
    (
        "backend/core/src/audit_log.rs",
        "the log has no rows of resources",
    ),
    ("backend/core/src/tag_room.rs", "it counts, for a quota"),
    (
        "backend/core/src/tags/mod.rs",
        "tags of resources that the grant has loaded",
    ),
    (
        "backend/identity/src/accounts/keys.rs",
        "an operator's, or the account's own keys",
    ),
    (
        "backend/identity/src/accounts/mod.rs",
        "an operator's, or the account's own users",
    ),
    (
        "backend/network/src/default_network.rs",
        "the first network of an account, before it has principals",
    ),
    (
        "backend/storage/src/images/describe.rs",
        "owners and permissions narrow what the grant loads",
    ),
    (
        "backend/storage/src/images/insert.rs",
        "it counts, for a quota, and looks for a taken name",
    ),
    (
        "backend/storage/src/images/share.rs",
        "to whom an image is given is no row of an account",
    ),
    (
        "backend/storage/src/snapshots/create.rs",
        "copies are found by their token, and then loaded by the grant",
    ),
    (
        "backend/storage/src/snapshots/describe.rs",
        "owners and permissions narrow what the grant loads",
    ),
    (
        "backend/storage/src/snapshots/pending.rs",
        "it counts, for a quota",
    ),
    (
        "backend/storage/src/snapshots/share.rs",
        "to whom a snapshot is given is no row of an account",
    ),
    ("backend/storage/src/volumes/room.rs", "it counts, for a quota"),
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    check_by(tree, KEPT)
}

fn check_by(tree: &Tree, kept: &[(&str, &str)]) -> Vec<Finding> {
    let theirs = |source: &&Source| !source.test && WITHIN.iter().any(|place| source.path.starts_with(place));
    let found: BTreeMap<&str, BTreeSet<usize>> = tree
        .sources
        .iter()
        .filter(theirs)
        .map(|source| (source.path.as_str(), queries(source)))
        .filter(|(_, lines)| !lines.is_empty())
        .collect();
    let is_kept = |path: &str| kept.iter().any(|(known, _)| *known == path);
    let fresh = found.iter().filter(|(path, _)| !is_kept(path));
    let fresh = fresh.flat_map(|(path, lines)| lines.iter().map(move |line| (path, line)));
    let mut findings: Vec<Finding> = fresh
        .map(|(path, line)| {
            let what = "a query over accounts of its own: load by the grant (store::resource), or say in tidy/loads.rs why \
                        not";
            Finding::at(format!("{path}:{line}"), what)
        })
        .collect();
    let gone = kept.iter().filter(|(path, _)| !found.contains_key(path));
    findings.extend(
        gone.map(|(path, _)| Finding::at(path, "has no such query any more: take it out of tidy/loads.rs")),
    );
    findings
}

/// The lines of production code that name the column of accounts.
fn queries(source: &Source) -> BTreeSet<usize> {
    let mut columns = Columns(BTreeSet::new());
    columns.visit_file(&source.syntax);
    columns
        .0
        .into_iter()
        .filter(|line| source.is_production(*line))
        .collect()
}

struct Columns(BTreeSet<usize>);

impl<'ast> Visit<'ast> for Columns {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        let mut last = path.segments.iter().rev();
        if let (Some(name), Some(of)) = (last.next(), last.next())
            && name.ident == "Account"
            && is_column(&of.ident.to_string())
        {
            self.0.insert(name.ident.span().start().line);
        }
        syn::visit::visit_path(self, path);
    }
}

/// Columns are named whole, or by a letter in a function that has many of them.
fn is_column(name: &str) -> bool {
    name == "Column" || (name.len() == 1 && name.chars().all(char::is_uppercase))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, kept: &[(&str, &str)]) -> usize {
        check_by(&Tree::of(&[("backend/storage/src/a.rs", text)]), kept).len()
    }

    #[test]
    fn a_query_of_ones_own_over_accounts_is_found() {
        let kept: &[(&str, &str)] = &[("backend/storage/src/a.rs", "it counts")];
        for (text, findings, where_kept) in [
            ("fn a() { find().filter(image::Column::Account.eq(1)); }", 1, 0),
            (
                "fn a() { use image::Column as C; find().filter(C::Account.eq(1)); }",
                1,
                0,
            ),
            (
                "fn a() { find().filter(Column::Id.eq(1)); ResourceKind::Account; }",
                0,
                1,
            ),
            ("#[cfg(test)]\nmod tests { fn a() { Column::Account; } }", 0, 1),
        ] {
            assert_eq!(found(text, &[]), findings, "{text}");
            assert_eq!(found(text, kept), where_kept, "{text}");
        }
    }
}
