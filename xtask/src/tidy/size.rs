//! The size rules: small files and small functions. Tests don't count, and neither does what is generated.

use std::collections::BTreeMap;

use anyhow::Result;
use syn::spanned::Spanned as _;
use syn::visit::Visit;

use super::Finding;
use super::ratchet::Ratchet;
use super::tree::{Source, Tree, is_test};

/// Most lines of a file, without those of its tests.
const FILE: usize = 500;
/// Most lines of a function, from its signature to its last brace.
const FUNCTION: usize = 60;

type Measured = BTreeMap<String, usize>;

/// A rule with its ratchet: the name of the file, the limit, what is counted, and how.
type Rule = (&'static str, usize, &'static str, fn(&Tree) -> Measured);

const RULES: &[Rule] = &[
    ("long-files", FILE, "production lines", files),
    ("long-functions", FUNCTION, "lines", functions),
];

pub(super) fn check(tree: &Tree) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (name, limit, what, measure) in RULES {
        findings.extend(Ratchet::read(&tree.root, name)?.check(&measure(tree), *limit, what));
    }
    Ok(findings)
}

pub(super) fn shrink(tree: &Tree) -> Result<()> {
    for (name, _, _, measure) in RULES {
        Ratchet::read(&tree.root, name)?.shrink(&measure(tree))?;
    }
    Ok(())
}

/// Files beyond the limit.
fn files(tree: &Tree) -> Measured {
    let production = tree.sources.iter().filter(|source| !source.test);
    production
        .map(|source| (source.path.clone(), production_lines(source)))
        .filter(|(_, lines)| *lines > FILE)
        .collect()
}

fn production_lines(source: &Source) -> usize {
    let tests: usize = source.test_lines().into_iter().map(Iterator::count).sum();
    source.text.lines().count().saturating_sub(tests)
}

/// Functions beyond the limit, as `path::name`.
fn functions(tree: &Tree) -> Measured {
    let mut found = Functions {
        path: "",
        measured: Measured::new(),
    };
    for source in tree.sources.iter().filter(|source| !source.test) {
        found.path = &source.path;
        found.visit_file(&source.syntax);
    }
    found.measured
}

struct Functions<'a> {
    path: &'a str,
    measured: Measured,
}

impl Functions<'_> {
    fn measure(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let lines = block.span().end().line + 1 - signature.span().start().line;
        if lines > FUNCTION {
            let most = self
                .measured
                .entry(format!("{}::{}", self.path, signature.ident))
                .or_default();
            *most = lines.max(*most);
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_test(&item.attrs) {
            syn::visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_test(&item.attrs) {
            self.measure(&item.sig, &item.block);
            syn::visit::visit_item_fn(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_test(&item.attrs) {
            self.measure(&item.sig, &item.block);
            syn::visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.measure(&item.sig, block);
        }
        syn::visit::visit_trait_item_fn(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str, lines: usize) -> String {
        format!("fn {name}() {{\n{}}}\n", "    ();\n".repeat(lines - 2))
    }

    #[test]
    fn functions_are_measured_from_signature_to_brace_outside_tests() {
        let text = format!(
            "//! A.\n{}{}struct S;\nimpl S {{\n{}}}\n#[cfg(test)]\nmod tests {{\n{}}}\n",
            function("fits", 60),
            function("long", 61),
            function("method", 70),
            function("tested", 80),
        );
        let tree = Tree::of(&[("src/a.rs", &text), ("tests/b.rs", &function("free", 90))]);
        let expected = [
            ("src/a.rs::long".to_owned(), 61),
            ("src/a.rs::method".to_owned(), 70),
        ];
        assert_eq!(functions(&tree), expected.into());
    }

    #[test]
    fn files_are_measured_without_their_tests() {
        let body = "// more\n".repeat(498);
        let fits = format!("//! A.\nfn a() {{}}\n{body}#[cfg(test)]\nmod tests {{\n\n}}\n");
        let long = format!("//! A.\n\nfn a() {{}}\n{body}");
        let tree = Tree::of(&[
            ("src/fits.rs", &fits),
            ("src/long.rs", &long),
            ("tests/c.rs", &long),
        ]);
        assert_eq!(files(&tree), [("src/long.rs".to_owned(), 501)].into());
    }
}
