//! The inventory rules: lists that must agree with the tree.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Finding;
use super::tree::Tree;

/// What every reader expects at the root.
const DOCUMENTS: &[&str] = &["CONTRIBUTING.md", "LICENSE", "deny.toml"];

/// The map of the crates, wherever it is kept.
const MAP: &str = "ARCHITECTURE.md";

pub(super) fn check(tree: &Tree) -> Result<Vec<Finding>> {
    let mut findings = documents(tree);
    findings.extend(crates(tree)?);
    findings.extend(actions(tree)?);
    findings.extend(migrations(tree)?);
    Ok(findings)
}

fn documents(tree: &Tree) -> Vec<Finding> {
    let missing = DOCUMENTS.iter().filter(|path| tree.text(path).is_none());
    missing.map(|path| Finding::at(path, "is missing")).collect()
}

#[derive(Deserialize)]
struct Root {
    workspace: Workspace,
}

#[derive(Deserialize)]
struct Workspace {
    members: Vec<String>,
}

/// Each crate is on the map, and the map has no crate that is not there.
fn crates(tree: &Tree) -> Result<Vec<Finding>> {
    let Some(map) = tree.text(MAP) else {
        return Ok(vec![Finding::at(MAP, "is missing")]);
    };
    let root: Root = toml::from_str(tree.text("Cargo.toml").context("no Cargo.toml")?)?;
    let mapped = mapped_directories(map);
    let absent = root
        .workspace
        .members
        .iter()
        .filter(|member| !mapped.contains(*member));
    let mut findings: Vec<Finding> = absent
        .map(|member| {
            Finding::at(
                MAP,
                format!("its tree lacks the crate {member}/: say what it is for"),
            )
        })
        .collect();
    for directory in mapped {
        let there = format!("{directory}/");
        if !tree.texts.iter().any(|file| file.path.starts_with(&there)) {
            findings.push(Finding::at(
                MAP,
                format!("its tree has {there}, which does not exist"),
            ));
        }
    }
    Ok(findings)
}

/// The directories of the map, the first block of code: `backend/   the plane`, and below it, indented,
/// `bus/   messages`.
fn mapped_directories(map: &str) -> Vec<String> {
    let (mut directories, mut parent) = (Vec::new(), "");
    for line in map
        .lines()
        .skip_while(|line| *line != "```")
        .skip(1)
        .take_while(|line| *line != "```")
    {
        let Some(directory) = line
            .split_whitespace()
            .next()
            .and_then(|first| first.strip_suffix('/'))
        else {
            continue;
        };
        if line.starts_with(char::is_whitespace) {
            directories.push(format!("{parent}/{directory}"));
        } else {
            parent = directory;
            directories.push(directory.to_owned());
        }
    }
    directories
}

#[derive(Deserialize)]
struct Action {
    family: String,
}

/// Each operation is implemented in one file of its service, of its family where that has some. Its row in the
/// service's table is made from the manifest.
fn actions(tree: &Tree) -> Result<Vec<Finding>> {
    let manifest = tree
        .text("models/actions.toml")
        .context("no models/actions.toml")?;
    let manifest: BTreeMap<String, toml::Table> = toml::from_str(manifest)?;
    let mut findings = Vec::new();
    for (service, operations) in &manifest {
        let module = service.replace('-', "_");
        for (name, action) in operations {
            let Action { family } = action.clone().try_into()?;
            let mut directory = format!("gateway/src/{module}/actions/");
            if family != module {
                directory = format!("{directory}{family}/");
            }
            let implements = ["Action", "Describe"].map(|what| format!("impl {what} for {name} {{"));
            let files = tree.texts.iter().filter(|file| file.path.starts_with(&directory));
            let count = files
                .filter(|file| implements.iter().any(|line| file.text.contains(line)))
                .count();
            if count != 1 {
                let what =
                    format!("{count} files implement {name}, which is in models/actions.toml; one should");
                findings.push(Finding::at(&directory, what));
            }
        }
    }
    Ok(findings)
}

/// Each migration is registered, in the order of their numbers, and no number is used twice.
fn migrations(tree: &Tree) -> Result<Vec<Finding>> {
    const LIST: &str = "migrations/src/lib.rs";
    let list = tree.text(LIST).context("no migrations/src/lib.rs")?;
    let (mut findings, mut last, mut number_before) = (Vec::new(), 0, "");
    let files = tree
        .texts
        .iter()
        .filter_map(|file| file.path.strip_prefix("migrations/src/")?.strip_suffix(".rs"));
    for name in files.filter(|name| name.starts_with("m0")) {
        let (number, _) = name.split_once('_').unwrap_or((name, ""));
        if number == number_before {
            findings.push(Finding::at(LIST, format!("the number {number} is used twice")));
        }
        number_before = number;
        match list.find(&format!("Box::new({name}::Migration)")) {
            None => findings.push(Finding::at(LIST, format!("{name} is not registered"))),
            Some(at) if at < last => findings.push(Finding::at(LIST, format!("{name} is out of order"))),
            Some(at) => last = at,
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(check: fn(&Tree) -> Result<Vec<Finding>>, files: &[(&str, &str)]) -> Vec<String> {
        check(&Tree::of(files))
            .unwrap()
            .into_iter()
            .map(|f| f.0)
            .collect()
    }

    #[test]
    fn crates_and_map_agree() {
        let members = (
            "Cargo.toml",
            "[workspace]\nmembers = [\"backend\", \"backend/bus\"]\n",
        );
        let good = "# A\n```\nCargo.toml  x\nbackend/    the plane\n  bus/   messages\n```\nsee a/ b\n";
        let there = ("backend/bus/src/lib.rs", "");
        assert_eq!(
            found(crates, &[members, ("ARCHITECTURE.md", good), there]),
            [""; 0]
        );
        assert_eq!(
            found(
                crates,
                &[
                    members,
                    ("ARCHITECTURE.md", "```\nbackend/  x\nghosts/  y\n```\n"),
                    there
                ]
            ),
            [
                "ARCHITECTURE.md: its tree lacks the crate backend/bus/: say what it is for",
                "ARCHITECTURE.md: its tree has ghosts/, which does not exist",
            ]
        );
        assert_eq!(found(crates, &[members]), ["ARCHITECTURE.md: is missing"]);
    }

    #[test]
    fn actions_have_a_file() {
        let manifest = (
            "models/actions.toml",
            "[ec2.DescribeVpcs]\nfamily = \"vpcs\"\n[a-b.GetX]\nfamily = \"a_b\"\n",
        );
        let x = ("gateway/src/a_b/actions/get_x.rs", "impl Action for GetX {");
        let file = (
            "gateway/src/ec2/actions/vpcs/describe_vpcs.rs",
            "impl Describe for DescribeVpcs {\n",
        );
        assert_eq!(found(actions, &[manifest, file, x]), [""; 0]);
        assert_eq!(
            found(
                actions,
                &[manifest, (file.0, "impl Describe for DescribeVpcsX {"), x]
            )
            .len(),
            1
        );
        assert_eq!(
            found(actions, &[manifest]),
            [
                "gateway/src/a_b/actions/: 0 files implement GetX, which is in models/actions.toml; one should",
                "gateway/src/ec2/actions/vpcs/: 0 files implement DescribeVpcs, which is in models/actions.toml; one should",
            ]
        );
    }

    #[test]
    fn migrations_are_registered_in_order() {
        let list = (
            "migrations/src/lib.rs",
            "Box::new(m0002_b::Migration), Box::new(m0001_a::Migration)",
        );
        let files = [
            list,
            ("migrations/src/m0001_a.rs", ""),
            ("migrations/src/m0002_b.rs", ""),
            ("migrations/src/m0002_c.rs", ""),
        ];
        assert_eq!(
            found(migrations, &files),
            [
                "migrations/src/lib.rs: m0002_b is out of order",
                "migrations/src/lib.rs: the number 0002 is used twice"
                    .replace("0002", "m0002")
                    .as_str(),
                "migrations/src/lib.rs: m0002_c is not registered",
            ]
        );
    }
}
