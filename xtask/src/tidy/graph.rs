//! The crate graph's rules: what each crate may depend on, so that a layer cannot be reached past another; a
//! worker that could reach the database must not build.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Finding;

/// The crates of this workspace that each of them may use, itself aside. What is not listed may use
/// none; the binary may use all. A new line here is a decision about the architecture.
const MAY_USE: &[(&str, &[&str])] = &[
    // The control plane's crates, from below. A domain meets another one in the order of these lines, or through rows.
    (
        "cumulet-store",
        &["cumulet-certs", "cumulet-domain", "cumulet-migrations"],
    ),
    ("cumulet-journal", &["cumulet-domain", "cumulet-store"]),
    ("cumulet-scheduler", &["cumulet-domain", "cumulet-store"]),
    (
        "cumulet-core",
        &["cumulet-bus", "cumulet-certs", "cumulet-domain", "cumulet-store"],
    ),
    (
        "cumulet-operations",
        &[
            "cumulet-bus",
            "cumulet-certs",
            "cumulet-core",
            "cumulet-domain",
            "cumulet-journal",
            "cumulet-scheduler",
            "cumulet-store",
        ],
    ),
    (
        "cumulet-network",
        &["cumulet-core", "cumulet-domain", "cumulet-store"],
    ),
    (
        "cumulet-identity",
        &[
            "cumulet-certs",
            "cumulet-core",
            "cumulet-domain",
            "cumulet-network",
            "cumulet-store",
        ],
    ),
    (
        "cumulet-storage",
        &[
            "cumulet-core",
            "cumulet-domain",
            "cumulet-journal",
            "cumulet-operations",
            "cumulet-snapshots",
            "cumulet-store",
        ],
    ),
    (
        "cumulet-compute",
        &[
            "cumulet-bus",
            "cumulet-certs",
            "cumulet-core",
            "cumulet-domain",
            "cumulet-journal",
            "cumulet-network",
            "cumulet-operations",
            "cumulet-scheduler",
            "cumulet-storage",
            "cumulet-store",
        ],
    ),
    (
        "cumulet-operator",
        &[
            "cumulet-certs",
            "cumulet-compute",
            "cumulet-core",
            "cumulet-domain",
            "cumulet-identity",
            "cumulet-network",
            "cumulet-scheduler",
            "cumulet-store",
        ],
    ),
    (
        "cumulet-conductor",
        &[
            "cumulet-bus",
            "cumulet-certs",
            "cumulet-core",
            "cumulet-domain",
            "cumulet-journal",
            "cumulet-operations",
            "cumulet-scheduler",
            "cumulet-store",
        ],
    ),
    // All of it, for the doors and the wiring.
    (
        "cumulet-backend",
        &[
            "cumulet-bus",
            "cumulet-certs",
            "cumulet-compute",
            "cumulet-conductor",
            "cumulet-core",
            "cumulet-domain",
            "cumulet-identity",
            "cumulet-journal",
            "cumulet-network",
            "cumulet-operations",
            "cumulet-operator",
            "cumulet-scheduler",
            "cumulet-storage",
            "cumulet-store",
        ],
    ),
    ("cumulet-bus", &["cumulet-domain"]),
    ("cumulet-certs", &["cumulet-domain"]),
    (
        "cumulet-gateway",
        &[
            "cumulet-backend",
            "cumulet-certs",
            "cumulet-domain",
            "cumulet-pattern",
            "cumulet-timeouts",
            "cumulet-wire",
        ],
    ),
    ("cumulet-hypervisor", &["cumulet-certs", "cumulet-domain"]),
    (
        "cumulet-metadata",
        &["cumulet-certs", "cumulet-domain", "cumulet-timeouts"],
    ),
    // The readings of text that every door shares.
    ("cumulet-wire", &["cumulet-domain"]),
    // Runs the control plane, and workers over simulated machines.
    (
        "cumulet-simulate",
        &[
            "cumulet-backend",
            "cumulet-bus",
            "cumulet-certs",
            "cumulet-domain",
            "cumulet-hypervisor",
            "cumulet-worker",
        ],
    ),
    (
        "cumulet-worker",
        &[
            "cumulet-bus",
            "cumulet-certs",
            "cumulet-domain",
            "cumulet-hypervisor",
            "cumulet-snapshots",
        ],
    ),
];

/// Packages that a crate must not reach, however far away: `(names, those who may)`. The binary may.
const REACH: &[(&[&str], &[&str])] = &[
    (
        &["sea-orm", "sea-orm-migration", "sqlx", "sqlx-core", "rusqlite"],
        &[
            "cumulet-backend",
            "cumulet-compute",
            "cumulet-conductor",
            "cumulet-core",
            "cumulet-gateway",
            "cumulet-identity",
            "cumulet-journal",
            "cumulet-migrations",
            "cumulet-network",
            "cumulet-operations",
            "cumulet-operator",
            "cumulet-scheduler",
            "cumulet-simulate",
            "cumulet-storage",
            "cumulet-store",
        ],
    ),
    (
        &["actix-web", "actix-http", "actix-server"],
        &["cumulet-gateway", "cumulet-metadata"],
    ),
    (
        &["virt", "virt-sys"],
        &["cumulet-hypervisor", "cumulet-simulate", "cumulet-worker"],
    ),
    (
        &["tokio", "reqwest", "hyper", "mio"],
        &[
            "cumulet-backend",
            "cumulet-bus",
            "cumulet-compute",
            "cumulet-conductor",
            "cumulet-core",
            "cumulet-gateway",
            "cumulet-hypervisor",
            "cumulet-identity",
            "cumulet-journal",
            "cumulet-metadata",
            "cumulet-migrations",
            "cumulet-network",
            "cumulet-operations",
            "cumulet-operator",
            "cumulet-scheduler",
            "cumulet-simulate",
            "cumulet-storage",
            "cumulet-store",
            "cumulet-timeouts",
            "cumulet-worker",
        ],
    ),
];

const BINARY: &str = "cumulet";

/// Package → the packages that its library links.
type Graph = BTreeMap<String, BTreeSet<String>>;

pub(super) fn check(root: &Path) -> Result<Vec<Finding>> {
    let metadata = metadata(root)?;
    let (members, graph) = read(&metadata)?;
    Ok(members
        .iter()
        .filter(|name| *name != BINARY)
        .flat_map(|name| check_crate(name, &members, &graph))
        .collect())
}

fn metadata(root: &Path) -> Result<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // Filtered, because cargo has fetched only what this platform needs.
    let platform = format!("--filter-platform={}", platform()?);
    let arguments = [
        "metadata",
        "--format-version=1",
        "--locked",
        "--offline",
        "--all-features",
        &platform,
    ];
    let output = Command::new(cargo)
        .args(arguments)
        .current_dir(root)
        .output()
        .context("running cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn platform() -> Result<String> {
    let output = Command::new("rustc")
        .arg("-vV")
        .output()
        .context("running rustc")?;
    let text = String::from_utf8(output.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV names no host")
}

/// The names of the workspace's crates, and the graph without what only tests use.
fn read(metadata: &Value) -> Result<(BTreeSet<String>, Graph)> {
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata has no packages")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let names: BTreeMap<String, String> = packages
        .iter()
        .map(|p| (text(&p["id"]), text(&p["name"])))
        .collect();
    let name = |id: &Value| names.get(&text(id)).cloned().unwrap_or_default();
    let members = metadata["workspace_members"]
        .as_array()
        .context("no members")?
        .iter()
        .map(name)
        .collect();
    let mut graph = Graph::new();
    for node in metadata["resolve"]["nodes"]
        .as_array()
        .context("cargo metadata has no graph")?
    {
        let uses = graph.entry(name(&node["id"])).or_default();
        for dependency in node["deps"].as_array().into_iter().flatten() {
            let mut kinds = dependency["dep_kinds"].as_array().into_iter().flatten();
            if kinds.any(|kind| kind["kind"].is_null()) {
                uses.insert(name(&dependency["pkg"]));
            }
        }
    }
    Ok((members, graph))
}

fn check_crate(name: &str, members: &BTreeSet<String>, graph: &Graph) -> Vec<Finding> {
    let mut findings = Vec::new();
    let none = BTreeSet::new();
    let allowed = MAY_USE
        .iter()
        .find(|(who, _)| *who == name)
        .map_or(&[][..], |(_, uses)| uses);
    for used in graph.get(name).unwrap_or(&none).intersection(members) {
        if used != name && !allowed.contains(&used.as_str()) {
            findings.push(Finding::at(
                name,
                format!("must not depend on {used} (xtask/src/tidy/graph.rs)"),
            ));
        }
    }
    let reached = reach(name, graph);
    for (packages, may) in REACH
        .iter()
        .filter(|(_, may)| !may.contains(&name) && name != "cumulet-xtask")
    {
        for package in packages.iter().filter(|package| reached.contains(**package)) {
            findings.push(Finding::at(
                name,
                format!("must not reach {package}; {} may", may.join(", ")),
            ));
        }
    }
    findings
}

fn reach(from: &str, graph: &Graph) -> BTreeSet<String> {
    let (mut reached, mut todo) = (BTreeSet::new(), vec![from.to_owned()]);
    while let Some(next) = todo.pop() {
        for used in graph.get(&next).into_iter().flatten() {
            if reached.insert(used.clone()) {
                todo.push(used.clone());
            }
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &[&str])]) -> Graph {
        let uses = |uses: &[&str]| uses.iter().map(|name| (*name).to_owned()).collect();
        edges
            .iter()
            .map(|(name, list)| ((*name).to_owned(), uses(list)))
            .collect()
    }

    fn found(name: &str, edges: &[(&str, &[&str])]) -> Vec<String> {
        let members = [
            "cumulet-worker",
            "cumulet-backend",
            "cumulet-bus",
            "cumulet-domain",
        ];
        let members = members.iter().map(|name| (*name).to_owned()).collect();
        check_crate(name, &members, &graph(edges))
            .into_iter()
            .map(|f| f.0)
            .collect()
    }

    #[test]
    fn a_worker_cannot_reach_the_database() {
        let edges: &[(&str, &[&str])] = &[
            ("cumulet-worker", &["cumulet-bus", "helpful"]),
            ("cumulet-bus", &["cumulet-domain"]),
            ("helpful", &["sea-orm"]),
        ];
        assert_eq!(
            found("cumulet-worker", edges),
            [
                "cumulet-worker: must not reach sea-orm; cumulet-backend, cumulet-compute, cumulet-conductor, cumulet-core, cumulet-gateway, cumulet-identity, cumulet-journal, cumulet-migrations, cumulet-network, cumulet-operations, cumulet-operator, cumulet-scheduler, cumulet-simulate, cumulet-storage, cumulet-store may"
            ]
        );
        assert_eq!(found("cumulet-worker", &edges[1..]), [""; 0]);
    }

    #[test]
    fn a_crate_uses_only_what_the_architecture_says() {
        let edges: &[(&str, &[&str])] = &[("cumulet-worker", &["cumulet-backend", "cumulet-domain"])];
        assert_eq!(
            found("cumulet-worker", edges),
            ["cumulet-worker: must not depend on cumulet-backend (xtask/src/tidy/graph.rs)"]
        );
        assert_eq!(
            found("cumulet-domain", &[("cumulet-domain", &["cumulet-bus"])]).len(),
            1
        );
    }

    #[test]
    fn what_only_tests_use_is_no_edge() {
        let metadata = serde_json::json!({
            "packages": [{"id": "1", "name": "a"}, {"id": "2", "name": "b"}, {"id": "3", "name": "c"}],
            "workspace_members": ["1"],
            "resolve": {"nodes": [{"id": "1", "deps": [
                {"pkg": "2", "dep_kinds": [{"kind": "dev"}]},
                {"pkg": "3", "dep_kinds": [{"kind": "dev"}, {"kind": null}]},
            ]}]},
        });
        let (members, graph) = read(&metadata).unwrap();
        assert_eq!((members.len(), graph), (1, super::tests::graph(&[("a", &["c"])])));
    }
}
