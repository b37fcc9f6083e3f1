//! The rule on orphans: a Rust file below `src` that no `mod` names is not compiled, and says nothing when it breaks.

use std::collections::BTreeSet;

use syn::{Item, visit::Visit};

use super::Finding;
use super::tree::{Source, Tree};

/// Files that are crates of their own.
const ROOTS: &[&str] = &["lib.rs", "main.rs", "build.rs"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let named: BTreeSet<String> = tree.sources.iter().flat_map(names).collect();
    let orphans = tree.sources.iter().filter(|source| is_module(&source.path));
    orphans
        .filter(|source| !named.contains(&source.path))
        .map(|source| Finding::at(&source.path, "is named by no `mod`: it is not compiled"))
        .collect()
}

/// Whether a file is compiled only where another one names it.
fn is_module(path: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or(path);
    (path.starts_with("src/") || path.contains("/src/")) && !path.contains("/bin/") && !ROOTS.contains(&file)
}

/// The files that the `mod` lines of a file may mean.
fn names(source: &Source) -> Vec<String> {
    let mut mods = Mods {
        beside: source
            .path
            .rsplit_once('/')
            .map_or("", |(folder, _)| folder)
            .to_owned(),
        folder: folder(&source.path),
        found: Vec::new(),
    };
    mods.visit_file(&source.syntax);
    mods.found
}

/// Where the modules of a file are.
fn folder(path: &str) -> String {
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    match file {
        "mod.rs" | "lib.rs" | "main.rs" => folder.to_owned(),
        other => format!("{folder}/{}", other.trim_end_matches(".rs")),
    }
}

struct Mods {
    /// Where the file itself is, by which `#[path]` goes.
    beside: String,
    folder: String,
    found: Vec<String>,
}

impl<'ast> Visit<'ast> for Mods {
    fn visit_item(&mut self, item: &'ast Item) {
        let Item::Mod(module) = item else {
            return;
        };
        let place = format!("{}/{}", self.folder, module.ident);
        match (&module.content, path_of(module)) {
            (None, Some(path)) => self.found.push(format!("{}/{path}", self.beside)),
            (None, None) => self
                .found
                .extend([format!("{place}.rs"), format!("{place}/mod.rs")]),
            (Some((_, items)), _) => {
                let outer = std::mem::replace(&mut self.folder, place);
                items.iter().for_each(|item| self.visit_item(item));
                self.folder = outer;
            }
        }
    }
}

/// What a module's `#[path = "…"]` says.
fn path_of(module: &syn::ItemMod) -> Option<String> {
    let says = module
        .attrs
        .iter()
        .find(|attribute| attribute.path().is_ident("path"))?;
    match &says.meta {
        syn::Meta::NameValue(syn::MetaNameValue {
            value:
                syn::Expr::Lit(syn::ExprLit {
                    lit: syn::Lit::Str(text),
                    ..
                }),
            ..
        }) => Some(text.value()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_mod_names_is_found() {
        let tree = Tree::of(&[
            ("a/src/lib.rs", "mod b; #[cfg(test)] mod tests { mod inner; }"),
            ("a/src/b.rs", "pub(crate) mod c;"),
            ("a/src/b/c.rs", ""),
            ("a/src/b/d.rs", "#[path = \"odd.rs\"] mod e;"),
            ("a/src/b/odd.rs", ""),
            ("a/src/tests/inner.rs", ""),
            ("a/src/tests/outer.rs", ""),
            ("a/tests/whole.rs", ""),
        ]);
        let found: Vec<String> = check(&tree).into_iter().map(|finding| finding.0).collect();
        assert_eq!(
            found,
            [
                "a/src/b/d.rs: is named by no `mod`: it is not compiled",
                "a/src/tests/outer.rs: is named by no `mod`: it is not compiled",
            ]
        );
    }
}
