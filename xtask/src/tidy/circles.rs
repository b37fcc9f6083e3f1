//! The rule on circles: files of different folders don't import each other, directly or by way of others.
//!
//! A file imports another one where it names something that is written there, by whatever path: a re-export counts for
//! nothing by itself, whoever names what is re-exported imports the file that has it. A module's own file (`mod.rs`,
//! or `a.rs` beside `a/`) is of the module's folder. Test code may name what it likes.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::Visit;

use super::Finding;
use super::tree::{Source, Tree};

/// A module by its names below the crate's root.
type Module = Vec<String>;

/// The files that each file imports, by their places among the tree's sources.
type Arrows = BTreeMap<usize, BTreeSet<usize>>;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut crates: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, source) in tree.sources.iter().enumerate().filter(|(_, source)| !source.test) {
        if let Some(root) = root_of(&source.path) {
            crates.entry(root).or_default().push(at);
        }
    }
    let mut arrows = Arrows::new();
    for (root, files) in crates {
        arrows.extend(Crate::new(tree, root, &files).arrows());
    }
    let mut findings = Vec::new();
    let path = |at: &usize| tree.sources[*at].path.as_str();
    for circle in circles(&arrows) {
        let folders: BTreeSet<String> = circle.iter().map(|at| folder(tree, path(at))).collect();
        if folders.len() > 1 {
            let shortest = shortest(&arrows, &circle, |at| folder(tree, path(&at)));
            let way: Vec<&str> = shortest.iter().map(path).collect();
            let what = format!("is in a circle of imports between folders: {}", way.join(" -> "));
            findings.push(Finding::at(way[0], what));
        }
    }
    findings
}

/// The folder with a crate's sources, in which a file is.
fn root_of(path: &str) -> Option<&str> {
    let end = match path.starts_with("src/") {
        true => 4,
        false => path.find("/src/")? + 5,
    };
    Some(&path[..end])
}

/// The folder that a file is of; `a.rs` beside `a/` is of that.
fn folder(tree: &Tree, path: &str) -> String {
    let own = format!("{}/", path.trim_end_matches(".rs"));
    match tree
        .sources
        .iter()
        .any(|source| !source.test && source.path.starts_with(&own))
    {
        true => own,
        false => path[..=path.rfind('/').unwrap_or(0)].to_owned(),
    }
}

/// A crate's modules.
struct Crate<'t> {
    tree: &'t Tree,
    files: BTreeMap<Module, usize>,
    /// What names stand for, by module: the paths of its `use` lines.
    names: BTreeMap<Module, Vec<Name>>,
}

/// A name that a `use` line brings in; `None` for all of a module's.
#[derive(Clone)]
struct Name {
    name: Option<String>,
    path: Module,
}

impl<'t> Crate<'t> {
    fn new(tree: &'t Tree, root: &str, files: &[usize]) -> Self {
        let module = |at: &usize| {
            let path = tree.sources[*at].path[root.len()..].trim_end_matches(".rs");
            let mut names: Module = path.split('/').map(str::to_owned).collect();
            names.pop_if(|last| matches!(last.as_str(), "mod" | "lib" | "main"));
            names
        };
        let files: BTreeMap<Module, usize> = files.iter().map(|at| (module(at), *at)).collect();
        let names = files
            .iter()
            .map(|(module, at)| (module.clone(), names(&tree.sources[*at])));
        let names = names.collect();
        Crate { tree, files, names }
    }

    fn arrows(&self) -> Arrows {
        let arrows = self.files.iter().map(|(module, at)| {
            let source = &self.tree.sources[*at];
            let mut paths = Paths(Vec::new());
            paths.visit_file(&source.syntax);
            let tests = source.test_lines();
            let is_test = |line: &usize| tests.iter().any(|range| range.contains(line));
            let production = paths.0.into_iter().filter(|(line, _)| !is_test(line));
            let others = production.filter_map(|(_, path)| self.file_of(module, &path, 0));
            (*at, others.filter(|other| other != at).collect())
        });
        arrows.collect()
    }

    /// The file in which is written what a path names, seen from a module; none for a module itself, and for what
    /// other crates have.
    fn file_of(&self, from: &Module, path: &[String], depth: usize) -> Option<usize> {
        let (mut module, mut rest) = (from.clone(), path);
        while let Some((first, others)) = rest.split_first() {
            match first.as_str() {
                "crate" => module.clear(),
                "self" => {}
                "super" => drop(module.pop()),
                _ => break,
            }
            rest = others;
        }
        let anchored = rest.len() < path.len();
        let start = rest.len();
        while let Some((first, others)) = rest.split_first() {
            let mut child = module.clone();
            child.push(first.clone());
            if !self.files.contains_key(&child) {
                break;
            }
            (module, rest) = (child, others);
        }
        let (first, others) = rest.split_first()?;
        // The way is bounded, since names may stand for each other.
        let named = self.names.get(&module).into_iter().flatten();
        let mut globs = Vec::new();
        for name in named.filter(|_| depth < 8) {
            match &name.name {
                Some(own) if own == first => {
                    let path: Module = name.path.iter().chain(others).cloned().collect();
                    return self.file_of(&module, &path, depth + 1);
                }
                None => globs.push(&name.path),
                Some(_) => {}
            }
        }
        if first == "*" {
            return None;
        }
        // A name of one segment is the file's own, or comes by a glob, or from elsewhere.
        let here = anchored || rest.len() < start;
        if self.defines(&module, first) {
            return here.then(|| self.files.get(&module).copied()).flatten();
        }
        let globs = globs.into_iter().filter(|_| depth < 8).find_map(|glob| {
            let path: Module = glob.iter().chain(rest).cloned().collect();
            self.file_of(&module, &path, depth + 1)
        });
        globs.or_else(|| {
            (here && depth == 0)
                .then(|| self.files.get(&module).copied())
                .flatten()
        })
    }

    fn defines(&self, module: &Module, name: &str) -> bool {
        let source = self.files.get(module).map(|at| &self.tree.sources[*at]);
        source.is_some_and(|source| {
            source
                .syntax
                .items
                .iter()
                .any(|item| name_of(item).is_some_and(|own| own == name))
        })
    }
}

/// The name that an item defines.
fn name_of(item: &syn::Item) -> Option<&syn::Ident> {
    match item {
        syn::Item::Const(item) => Some(&item.ident),
        syn::Item::Enum(item) => Some(&item.ident),
        syn::Item::Fn(item) => Some(&item.sig.ident),
        syn::Item::Macro(item) => item.ident.as_ref(),
        syn::Item::Mod(item) => Some(&item.ident),
        syn::Item::Static(item) => Some(&item.ident),
        syn::Item::Struct(item) => Some(&item.ident),
        syn::Item::Trait(item) => Some(&item.ident),
        syn::Item::Type(item) => Some(&item.ident),
        syn::Item::Union(item) => Some(&item.ident),
        _ => None,
    }
}

fn names(source: &Source) -> Vec<Name> {
    let mut names = Vec::new();
    for item in &source.syntax.items {
        if let syn::Item::Use(item) = item {
            flatten(&item.tree, &mut Vec::new(), &mut names);
        }
    }
    names
}

fn flatten(tree: &syn::UseTree, before: &mut Module, names: &mut Vec<Name>) {
    let mut add = |name: Option<&syn::Ident>, last: Option<&syn::Ident>| {
        let mut path = before.clone();
        path.extend(last.filter(|last| *last != "self").map(ToString::to_string));
        let name = name.map(|name| {
            if name == "self" {
                path.last().cloned().unwrap_or_default()
            } else {
                name.to_string()
            }
        });
        names.push(Name { name, path });
    };
    match tree {
        syn::UseTree::Name(name) => add(Some(&name.ident), Some(&name.ident)),
        syn::UseTree::Rename(name) => add(Some(&name.rename), Some(&name.ident)),
        syn::UseTree::Glob(_) => add(None, None),
        syn::UseTree::Path(path) => {
            before.push(path.ident.to_string());
            flatten(&path.tree, before, names);
            before.pop();
        }
        syn::UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, before, names)),
    }
}

/// Every path that a file goes, with its line; of `use` lines those that are for the file itself.
struct Paths(Vec<(usize, Module)>);

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !matches!(item.vis, syn::Visibility::Inherited) {
            return;
        }
        let mut names = Vec::new();
        flatten(&item.tree, &mut Vec::new(), &mut names);
        let line = item.use_token.span.start().line;
        let paths = names.into_iter().map(|mut name| {
            if name.name.is_none() {
                name.path.push("*".to_owned());
            }
            (line, name.path)
        });
        self.0.extend(paths);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let Some(first) = path.segments.first() else {
            return;
        };
        let names = path.segments.iter().map(|segment| segment.ident.to_string());
        self.0.push((first.ident.span().start().line, names.collect()));
        syn::visit::visit_path(self, path);
    }
}

/// The sets of files of which each imports each other, directly or by way of others.
fn circles(arrows: &Arrows) -> Vec<BTreeSet<usize>> {
    let reach: BTreeMap<usize, BTreeSet<usize>> =
        arrows.keys().map(|at| (*at, reached(arrows, *at))).collect();
    let mut circles = BTreeSet::new();
    for (at, others) in &reach {
        let circle: BTreeSet<usize> = others
            .iter()
            .copied()
            .filter(|other| reach[other].contains(at))
            .collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

fn reached(arrows: &Arrows, from: usize) -> BTreeSet<usize> {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(at) = next.pop() {
        let others = arrows.get(&at).into_iter().flatten();
        next.extend(others.copied().filter(|other| seen.insert(*other)));
    }
    seen
}

/// The shortest way around a circle that leaves a folder, with its beginning at its end.
fn shortest(arrows: &Arrows, circle: &BTreeSet<usize>, folder: impl Fn(usize) -> String) -> Vec<usize> {
    let edges = circle.iter().flat_map(|from| {
        let others = arrows[from].iter().filter(|other| circle.contains(other));
        others.map(|other| (*from, *other))
    });
    let crossing = edges.filter(|(from, to)| folder(*from) != folder(*to));
    let ways = crossing.map(|(from, to)| {
        let mut way = vec![from];
        way.extend(back(arrows, to, from));
        way
    });
    ways.min_by_key(Vec::len).unwrap_or_default()
}

/// The shortest way from one file to another, both included.
fn back(arrows: &Arrows, from: usize, to: usize) -> Vec<usize> {
    let (mut before, mut next) = (
        BTreeMap::from([(from, from)]),
        std::collections::VecDeque::from([from]),
    );
    while let Some(at) = next.pop_front().filter(|at| *at != to) {
        for other in arrows.get(&at).into_iter().flatten() {
            before.entry(*other).or_insert_with(|| {
                next.push_back(*other);
                at
            });
        }
    }
    let (mut way, mut at) = (vec![to], to);
    while at != from {
        at = before[&at];
        way.push(at);
    }
    way.reverse();
    way
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        check(&Tree::of(files))
            .into_iter()
            .map(|finding| finding.0)
            .collect()
    }

    #[test]
    fn a_circle_between_folders_is_found_however_it_is_written() {
        for (a, b) in [
            ("use crate::b::one::B;", "use crate::a::one::A;"),
            ("use crate::{b::one::{self, C}};", "use super::super::a::one::A;"),
            (
                "fn a() { crate::b::one::run(); }",
                "fn b() { let _: crate::a::one::A; }",
            ),
            (
                "use crate::b;\nfn a() { b::one::run(); }",
                "use crate::a as x;\nfn b() { x::one::run(); }",
            ),
            // By way of a re-export.
            ("use crate::b::B;", "use crate::a::A;"),
            (
                "use crate::b::*;\nfn a(_: B) {}",
                "use crate::a::*;\nfn b(_: A) {}",
            ),
        ] {
            let all = found(&[
                ("x/src/lib.rs", "mod a;\nmod b;"),
                ("x/src/a/mod.rs", "pub mod one;\npub use one::A;"),
                (
                    "x/src/a/one.rs",
                    &format!("{a}\npub struct A;\npub fn run() {{}}"),
                ),
                ("x/src/b/mod.rs", "pub mod one;\npub use one::B;"),
                (
                    "x/src/b/one.rs",
                    &format!("{b}\npub struct B;\npub struct C;\npub fn run() {{}}"),
                ),
            ]);
            assert_eq!(all.len(), 1, "{a} {b}: {all:?}");
            assert!(
                all[0].contains("x/src/a/one.rs") && all[0].contains("x/src/b/one.rs"),
                "{all:?}"
            );
        }
    }

    #[test]
    fn a_folder_and_what_it_has_folders_for_are_two() {
        let below = ("x/src/a/c/mod.rs", "use super::A;\npub struct C;");
        let own = ("x/src/a/mod.rs", "mod c;\npub use c::C;\npub struct A;");
        assert_eq!(found(&[("x/src/lib.rs", "mod a;"), own, below]), [""; 0]);
        let knows = ("x/src/a/mod.rs", "mod c;\nuse c::C;\npub struct A(C);");
        assert_eq!(found(&[("x/src/lib.rs", "mod a;"), knows, below]).len(), 1);
    }

    #[test]
    fn one_folder_tests_and_other_crates_are_nobodys_circle() {
        let all = found(&[
            ("x/src/lib.rs", "mod a;\nmod b;\nmod c;"),
            ("x/src/a.rs", "use crate::b::B;\npub struct A;"),
            ("x/src/b.rs", "use crate::a::A;\nuse serde::de;\npub struct B;"),
            (
                "x/src/c.rs",
                "mod d;\nuse d::D;\npub struct C(D);\n#[cfg(test)]\nmod tests { use crate::e::E; }",
            ),
            ("x/src/c/d.rs", "use super::C;\npub struct D;"),
            ("x/src/e/mod.rs", "use crate::c::C;\npub struct E;"),
            ("y/src/b/mod.rs", "use crate::e::E;"),
        ]);
        assert_eq!(all, [""; 0]);
    }
}
