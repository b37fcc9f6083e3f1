//! The rules of the repository that the compiler cannot check, each with a message that says what to do.
//!
//! They run as `cargo xtask tidy` and, so that nobody has to remember it, in `cargo test`.
//!
//! ```text
//! tree       reads the tree once: texts, syntax, what is test and what is generated
//! text       every file says what it is for; nothing unfinished; no path of somebody's machine
//! size       length of files and functions, with a ratchet (ratchet: exceptions that only shrink)
//! imports    what a source file may name
//! circles    files of different folders that import each other
//! graph      what a crate may depend on, and may reach
//! orphans    files that no `mod` names
//! loads      queries over accounts beside the grants
//! boxed      async functions that other crates await are compiled once
//! inventory  lists that must agree: crates and map, manifest and actions, migrations and migrator
//! ```

mod boxed;
mod circles;
mod graph;
mod imports;
mod inventory;
mod loads;
mod orphans;
mod ratchet;
mod size;
mod text;
mod tree;

use std::path::Path;

use anyhow::{Result, bail};

use tree::Tree;

/// Something that breaks a rule: `place: what, and what to do`.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding(String);

impl Finding {
    fn at(place: impl std::fmt::Display, what: impl std::fmt::Display) -> Self {
        Self(format!("{place}: {what}"))
    }
}

/// Checks everything below `root`. With `shrink`, lowers the ratchets first.
pub(crate) fn run(root: &Path, shrink: bool) -> Result<()> {
    let tree = Tree::read(root)?;
    if shrink {
        size::shrink(&tree)?;
    }
    let mut findings = tree.broken();
    findings.extend(text::check(&tree));
    findings.extend(size::check(&tree)?);
    findings.extend(imports::check(&tree));
    findings.extend(graph::check(root)?);
    findings.extend(boxed::check(&tree));
    findings.extend(circles::check(&tree));
    findings.extend(loads::check(&tree));
    findings.extend(inventory::check(&tree)?);
    findings.extend(orphans::check(&tree));
    findings.sort();
    findings.dedup();
    if findings.is_empty() {
        return Ok(());
    }
    let lines: Vec<&str> = findings.iter().map(|f| f.0.as_str()).collect();
    bail!("tidy: {} findings\n{}", lines.len(), lines.join("\n"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_repository_keeps_its_rules() {
        let root = crate::root().unwrap();
        if let Err(findings) = super::run(&root, false) {
            panic!("{findings}");
        }
    }
}
