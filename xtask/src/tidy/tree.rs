//! The source tree as the rules see it: every text file once, the Rust ones parsed.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned as _;
use syn::visit::Visit;

use super::Finding;

/// Directories that hold nothing of ours.
const SKIPPED: &[&str] = &["target", "__pycache__", "corpus", "artifacts"];

/// Hidden directories that are ours; the others are tools' own.
const HIDDEN: &[&str] = &[".cargo", ".ci", ".github"];

/// A file larger than this is no text that was written by hand.
const LARGEST: u64 = 8 << 20;

/// Directories whose code is only ever run by tests and developers.
const TEST_DIRS: &[&str] = &["tests", "examples", "benches"];

/// A text file.
#[derive(Debug)]
pub(super) struct Text {
    /// From the root, with slashes.
    pub(super) path: String,
    pub(super) text: String,
}

/// A Rust file written by hand.
pub(super) struct Source {
    pub(super) path: String,
    pub(super) text: String,
    pub(super) syntax: syn::File,
    /// Whether the whole file is test code.
    pub(super) test: bool,
}

/// Everything that was read.
pub(super) struct Tree {
    pub(super) root: PathBuf,
    pub(super) texts: Vec<Text>,
    pub(super) sources: Vec<Source>,
    broken: Vec<Finding>,
}

impl Tree {
    pub(super) fn read(root: &Path) -> Result<Self> {
        let mut texts = Vec::new();
        walk(root, root, &mut texts)?;
        let mut tree = Self {
            root: root.to_owned(),
            texts,
            sources: Vec::new(),
            broken: Vec::new(),
        };
        tree.parse();
        tree.mark_tests();
        Ok(tree)
    }

    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let text = |(path, text): &(&str, &str)| Text {
            path: (*path).to_owned(),
            text: (*text).to_owned(),
        };
        let texts = files.iter().map(text).collect();
        let mut tree = Self {
            root: PathBuf::new(),
            texts,
            sources: Vec::new(),
            broken: Vec::new(),
        };
        tree.parse();
        tree.mark_tests();
        tree
    }

    /// Files that could not be parsed.
    pub(super) fn broken(&self) -> Vec<Finding> {
        self.broken.iter().map(|f| Finding(f.0.clone())).collect()
    }

    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.texts
            .iter()
            .find(|t| t.path == path)
            .map(|t| t.text.as_str())
    }

    fn parse(&mut self) {
        for Text { path, text } in &self.texts {
            if !path.ends_with(".rs") || text.starts_with("// @generated") {
                continue;
            }
            match syn::parse_file(text) {
                Ok(syntax) => {
                    let test =
                        path.split('/').any(|part| TEST_DIRS.contains(&part)) || is_test(&syntax.attrs);
                    self.sources.push(Source {
                        path: path.clone(),
                        text: text.clone(),
                        syntax,
                        test,
                    });
                }
                Err(error) => {
                    let line = error.span().start().line;
                    self.broken.push(Finding::at(
                        format!("{path}:{line}"),
                        format!("does not parse: {error}"),
                    ));
                }
            }
        }
    }

    /// A file that is only reached through a `#[cfg(test)] mod` is test code, and so is all below it.
    fn mark_tests(&mut self) {
        let roots: BTreeSet<String> = self.sources.iter().flat_map(test_modules).collect();
        for source in &mut self.sources {
            let stem = source.path.trim_end_matches(".rs");
            source.test |= roots.iter().any(|root| {
                stem.strip_prefix(root.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            });
        }
    }
}

impl Source {
    /// The lines of items that only tests compile, one range each; ranges don't overlap.
    pub(super) fn test_lines(&self) -> Vec<RangeInclusive<usize>> {
        let mut finder = TestItems(Vec::new());
        finder.visit_file(&self.syntax);
        finder.0
    }

    /// Whether the item on this line is compiled outside tests.
    pub(super) fn is_production(&self, line: usize) -> bool {
        !self.test && !self.test_lines().iter().any(|range| range.contains(&line))
    }
}

struct TestItems(Vec<RangeInclusive<usize>>);

impl<'ast> Visit<'ast> for TestItems {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if is_test(attributes(item)) {
            let span = item.span();
            self.0.push(span.start().line..=span.end().line);
        } else {
            syn::visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if is_test(&item.attrs) {
            let span = item.span();
            self.0.push(span.start().line..=span.end().line);
        } else {
            syn::visit::visit_impl_item_fn(self, item);
        }
    }
}

/// Paths, without `.rs`, of the modules that a file declares for tests only.
fn test_modules(source: &Source) -> Vec<String> {
    let (dir, name) = source.path.rsplit_once('/').unwrap_or(("", &source.path));
    let inner = match name {
        "mod.rs" | "lib.rs" | "main.rs" => dir.to_owned(),
        _ => source.path.trim_end_matches(".rs").to_owned(),
    };
    let declared = source.syntax.items.iter().filter_map(|item| match item {
        syn::Item::Mod(module) if module.content.is_none() && is_test(&module.attrs) => Some(module),
        _ => None,
    });
    declared
        .map(|module| match path_attribute(&module.attrs) {
            Some(path) => format!("{dir}/{}", path.trim_end_matches(".rs")),
            None => format!("{inner}/{}", module.ident),
        })
        .collect()
}

fn path_attribute(attrs: &[syn::Attribute]) -> Option<String> {
    attrs.iter().find_map(|attr| match &attr.meta {
        syn::Meta::NameValue(syn::MetaNameValue {
            path,
            value:
                syn::Expr::Lit(syn::ExprLit {
                    lit: syn::Lit::Str(text),
                    ..
                }),
            ..
        }) if path.is_ident("path") => Some(text.value()),
        _ => None,
    })
}

/// Whether attributes leave an item to tests: `#[cfg(test)]`, `#[cfg(any(test, …))]`, `#[test]` and
/// its likes.
pub(super) fn is_test(attrs: &[syn::Attribute]) -> bool {
    attrs.iter().any(|attr| match &attr.meta {
        syn::Meta::List(list) if list.path.is_ident("cfg") => mentions_test(list.tokens.clone()),
        meta => meta
            .path()
            .segments
            .last()
            .is_some_and(|last| last.ident == "test"),
    })
}

/// Whether a `cfg` predicate asks for tests; what is inside `not(…)` doesn't count.
fn mentions_test(tokens: TokenStream) -> bool {
    let mut negated = false;
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => {
            negated = ident == "not";
            ident == "test"
        }
        TokenTree::Group(group) => !std::mem::take(&mut negated) && mentions_test(group.stream()),
        _ => false,
    })
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_ours(directory: &str) -> bool {
    !SKIPPED.contains(&directory) && (!directory.starts_with('.') || HIDDEN.contains(&directory))
}

fn walk(root: &Path, dir: &Path, texts: &mut Vec<Text>) -> Result<()> {
    let entries = std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?;
    for entry in entries {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        let name = entry.file_name();
        if kind.is_dir() {
            if is_ours(&name.to_string_lossy()) {
                walk(root, &path, texts)?;
            }
        // In a worktree `.git` is a file that names the repository's place.
        } else if kind.is_file() && name != ".git" && entry.metadata()?.len() <= LARGEST {
            // What is not UTF-8 is no text, and has no rules.
            if let Ok(text) = String::from_utf8(std::fs::read(&path)?) {
                let path = path.strip_prefix(root)?.to_string_lossy().replace('\\', "/");
                texts.push(Text { path, text });
            }
        }
    }
    texts.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_code_is_known_by_its_attributes_and_by_who_declares_it() {
        let tree = Tree::of(&[
            (
                "a/src/lib.rs",
                "//! A.\n#[cfg(test)]\nmod tests;\n#[cfg(any(test, feature = \"x\"))]\npub mod contract;\n#[cfg(not(test))]\nmod real;\nmod plain;\n",
            ),
            ("a/src/tests.rs", ""),
            ("a/src/tests_of_more.rs", ""),
            ("a/src/contract/deep.rs", ""),
            ("a/src/real.rs", ""),
            (
                "a/src/plain.rs",
                "#[cfg(test)]\n#[path = \"odd.rs\"]\nmod t;\n#[cfg(test)]\nmod u;",
            ),
            ("a/src/odd.rs", ""),
            ("a/src/plain/u.rs", ""),
            ("a/tests/it.rs", ""),
            ("a/src/gen.rs", "// @generated by x\nbroken("),
        ]);
        assert_eq!(tree.broken(), []);
        let tests: Vec<&str> = tree
            .sources
            .iter()
            .filter(|s| s.test)
            .map(|s| s.path.as_str())
            .collect();
        assert_eq!(
            tests,
            [
                "a/src/tests.rs",
                "a/src/contract/deep.rs",
                "a/src/odd.rs",
                "a/src/plain/u.rs",
                "a/tests/it.rs"
            ]
        );
        assert!(!tree.sources.iter().any(|s| s.path.ends_with("gen.rs")));
    }

    #[test]
    fn a_file_that_does_not_parse_is_found() {
        let tree = Tree::of(&[("src/a.rs", "//! A.\nfn (")]);
        assert!(
            tree.broken()[0].0.starts_with("src/a.rs:2: does not parse"),
            "{:?}",
            tree.broken()
        );
    }

    #[test]
    fn test_items_are_ranges_of_lines() {
        let tree = Tree::of(&[(
            "src/a.rs",
            "//! A.\nfn a() {}\n#[cfg(test)]\nmod tests {\n    #[test]\n    fn b() {}\n}\n#[tokio::test]\nasync fn c() {}\n",
        )]);
        assert_eq!(tree.sources[0].test_lines(), [3..=7, 8..=9]);
        assert!(tree.sources[0].is_production(2) && !tree.sources[0].is_production(6));
    }
}
