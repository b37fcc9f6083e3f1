//! The rule on async functions at a crate's edge: they are boxed.
//!
//! The body of an async function is compiled in each crate that awaits it, and so is the body of every one that it
//! awaits in turn. In a box (`#[boxed]`, or a trait of `async_trait`) it is compiled where it is written, once.

use syn::visit::Visit;
use syn::{
    Attribute, ConstParam, ImplItem, Item, ReturnType, Signature, TypeImplTrait, TypeParam, Visibility,
    spanned::Spanned as _,
};

use super::Finding;
use super::tree::{Source, Tree};

/// The crates that others await.
const WITHIN: &[&str] = &[
    "backend/compute/src/",
    "backend/conductor/src/",
    "backend/core/src/",
    "backend/identity/src/",
    "backend/journal/src/",
    "backend/network/src/",
    "backend/operations/src/",
    "backend/operator/src/",
    "backend/scheduler/src/",
    "backend/src/",
    "backend/storage/src/",
    "backend/store/src/",
    "backend/worker/src/",
];

/// What is for tests alone.
const EXCEPT: &[&str] = &["backend/src/test_support.rs", "backend/store/src/scratch.rs"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let sources = tree.sources.iter().filter(|source| !source.test);
    let edges = sources.filter(|source| {
        !EXCEPT.contains(&source.path.as_str()) && WITHIN.iter().any(|place| source.path.starts_with(place))
    });
    edges.flat_map(check_source).collect()
}

fn check_source(source: &Source) -> Vec<Finding> {
    let mut open = Vec::new();
    for item in &source.syntax.items {
        collect(item, &mut open);
    }
    let production = open.into_iter().filter(|(line, _)| source.is_production(*line));
    production
        .map(|(line, name)| {
            let place = format!("{}:{line}", source.path);
            Finding::at(
                place,
                format!("`{name}` is compiled again in every crate that awaits it: #[boxed]"),
            )
        })
        .collect()
}

fn collect(item: &Item, open: &mut Vec<(usize, String)>) {
    match item {
        Item::Fn(function) => look(&function.vis, &function.attrs, &function.sig, open),
        Item::Impl(block) if block.trait_.is_none() => {
            for item in &block.items {
                if let ImplItem::Fn(function) = item {
                    look(&function.vis, &function.attrs, &function.sig, open);
                }
            }
        }
        Item::Mod(module) => {
            for item in module.content.iter().flat_map(|(_, items)| items) {
                collect(item, open);
            }
        }
        _ => {}
    }
}

fn look(vis: &Visibility, attributes: &[Attribute], sig: &Signature, open: &mut Vec<(usize, String)>) {
    let boxed = attributes
        .iter()
        .any(|attribute| attribute.path().is_ident("boxed"));
    if matches!(vis, Visibility::Public(_)) && sig.asyncness.is_some() && !boxed && !is_generic(sig) {
        open.push((sig.span().start().line, sig.ident.to_string()));
    }
}

/// Whether it is compiled where its types are known, whatever is done to it.
fn is_generic(sig: &Signature) -> bool {
    let mut found = Generic(false);
    found.visit_signature(sig);
    found.0
}

struct Generic(bool);

impl<'ast> Visit<'ast> for Generic {
    fn visit_type_param(&mut self, _: &'ast TypeParam) {
        self.0 = true;
    }

    fn visit_const_param(&mut self, _: &'ast ConstParam) {
        self.0 = true;
    }

    fn visit_type_impl_trait(&mut self, _: &'ast TypeImplTrait) {
        self.0 = true;
    }

    fn visit_return_type(&mut self, _: &'ast ReturnType) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_await_is_found_unless_it_is_boxed_or_generic() {
        let text = "
            pub async fn open() {}
            #[boxed] pub async fn closed() {}
            pub(crate) async fn inner() {}
            async fn own() {}
            pub fn plain() {}
            pub async fn generic<T>(_: T) {}
            pub async fn over(_: &impl Sized) {}
            pub async fn borrowed<'a>(_: &'a str) {}
            impl X { pub async fn method(&self) {} #[boxed] pub async fn boxed(&self) {} }
            impl Y for X { async fn of_a_trait(&self) {} }
        ";
        let mut open = Vec::new();
        for item in syn::parse_file(text).unwrap().items {
            collect(&item, &mut open);
        }
        let names: Vec<&str> = open.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["open", "borrowed", "method"]);
    }
}
