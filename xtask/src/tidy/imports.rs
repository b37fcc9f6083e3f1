//! The import rules: what a source file may name, for layers below the level of crates.
//!
//! Comments and strings don't count, and test code may name what it likes.

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::Visit;

use super::Finding;
use super::tree::{Source, Tree};

/// A rule: these names only below these paths.
struct Only {
    /// A name of a crate or type; with a final `*`, all that begin so.
    names: &'static [&'static str],
    /// Where they may be used.
    within: &'static [&'static str],
    why: &'static str,
}

const ONLY: &[Only] = &[
    Only {
        names: &["actix_*"],
        within: &["gateway/src/", "metadata/src/"],
        why: "only the doors and the metadata service know the HTTP server",
    },
    Only {
        names: &["sea_orm", "sea_orm_migration", "sea_query", "sqlx", "rusqlite"],
        within: &[
            "backend/compute/src/",
            "backend/conductor/src/",
            "backend/core/src/",
            "backend/identity/src/",
            "backend/network/src/",
            "backend/operations/src/",
            "backend/operator/src/",
            "backend/src/test_support.rs",
            "backend/storage/src/aliases.rs",
            "backend/storage/src/images/",
            "backend/storage/src/sharing.rs",
            "backend/storage/src/snapshots/",
            "backend/storage/src/volumes/",
            "backend/journal/src/",
            "backend/scheduler/src/",
            "backend/simulate/src/",
            "backend/store/src/",
            "migrations/src/",
            "src/",
        ],
        why: "only the control plane's core and the binary know the database",
    },
    Only {
        names: &["virt", "virt_sys"],
        within: &["backend/hypervisor/src/"],
        why: "libvirt is behind the driver trait",
    },
    Only {
        names: &["cumulet_migrations"],
        within: &["backend/store/src/", "src/cli/database.rs"],
        why: "the store brings its schema along",
    },
    Only {
        names: &["LocalBus", "RabbitBus"],
        within: &["backend/bus/src/", "src/wiring"],
        why: "only the wiring names concrete buses",
    },
    Only {
        names: &["FakeHypervisor", "LibvirtHypervisor"],
        within: &[
            "backend/hypervisor/src/",
            "backend/simulate/src/host/",
            "src/wiring",
        ],
        why: "only the wiring and a simulated host name concrete hypervisors",
    },
];

/// A rule: below this path none of these names.
struct Never {
    within: &'static str,
    names: &'static [&'static str],
    why: &'static str,
}

const NEVER: &[Never] = &[
    Never {
        within: "gateway/src/auth/",
        names: &["actix_*", "cumulet_backend", "cumulet_domain", "cumulet_wire"],
        why: "verification knows nothing of HTTP servers, accounts or operations",
    },
    Never {
        within: "gateway/src/ec2/",
        names: &["actix_*", "RequestHead"],
        why: "a service's operations know nothing of the HTTP server",
    },
    Never {
        within: "gateway/src/iam/",
        names: &["actix_*", "RequestHead"],
        why: "a service's operations know nothing of the HTTP server",
    },
    Never {
        within: "gateway/src/sts/",
        names: &["actix_*", "RequestHead"],
        why: "a service's operations know nothing of the HTTP server",
    },
    Never {
        within: "gateway/src/service_quotas/",
        names: &["actix_*", "RequestHead"],
        why: "a service's operations know nothing of the HTTP server",
    },
    Never {
        within: "gateway/src/ssm/",
        names: &["actix_*", "RequestHead"],
        why: "a service's operations know nothing of the HTTP server",
    },
    Never {
        within: "gateway/src/rpc/",
        names: &["actix_*"],
        why: "the framework of operations knows nothing of the HTTP server",
    },
    Never {
        within: "gateway/src/door.rs",
        names: &["actix_*"],
        why: "the door can be asked without a server",
    },
    Never {
        within: "gateway/src/service.rs",
        names: &["actix_*"],
        why: "a service knows nothing of the HTTP server",
    },
    Never {
        within: "backend/journal/src/",
        names: &[
            "api",
            "authority",
            "bootstrap",
            "conductor",
            "images",
            "scheduler",
            "instance*",
            "InstanceId",
            "image*",
            "interface*",
            "volume*",
            "vpc",
            "subnet",
            "host",
            "networks",
            "placement",
        ],
        why: "the journal knows no resource, and nobody who works with it",
    },
    Never {
        within: "backend/domain/src/",
        names: &["tokio", "async_trait", "futures"],
        why: "the domain does no I/O",
    },
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.sources
        .iter()
        .filter(|source| !source.test)
        .flat_map(check_source)
        .collect()
}

fn check_source(source: &Source) -> Vec<Finding> {
    let mut named = Named(Vec::new());
    named.visit_file(&source.syntax);
    let mut findings = Vec::new();
    for (line, name) in named.0 {
        let Some(why) = forbidden(&source.path, &name) else {
            continue;
        };
        if source.is_production(line) {
            findings.push(Finding::at(
                format!("{}:{line}", source.path),
                format!("must not name {name}: {why}"),
            ));
        }
    }
    findings
}

fn forbidden(path: &str, name: &str) -> Option<&'static str> {
    let only = ONLY.iter().find(|rule| {
        rule.names.iter().any(|pattern| matches(pattern, name))
            && !rule.within.iter().any(|place| path.starts_with(place))
    });
    let never = NEVER.iter().find(|rule| {
        path.starts_with(rule.within) && rule.names.iter().any(|pattern| matches(pattern, name))
    });
    only.map(|rule| rule.why).or(never.map(|rule| rule.why))
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

/// Every identifier that a path, an import or a macro's tokens name, with its line.
struct Named(Vec<(usize, String)>);

impl Named {
    fn add(&mut self, ident: &syn::Ident) {
        self.0.push((ident.span().start().line, ident.to_string()));
    }

    fn scan(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => self.add(&ident),
                TokenTree::Group(group) => self.scan(group.stream()),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for Named {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        // A variable may share a crate's name: a crate is named by a path of two segments or more.
        let start = usize::from(path.segments.len() == 1 && is_lower(&path.segments[0].ident));
        path.segments
            .iter()
            .skip(start)
            .for_each(|segment| self.add(&segment.ident));
        syn::visit::visit_path(self, path);
    }

    fn visit_use_path(&mut self, path: &'ast syn::UsePath) {
        self.add(&path.ident);
        syn::visit::visit_use_path(self, path);
    }

    fn visit_use_name(&mut self, name: &'ast syn::UseName) {
        self.add(&name.ident);
    }

    fn visit_use_rename(&mut self, rename: &'ast syn::UseRename) {
        self.add(&rename.ident);
    }

    fn visit_macro(&mut self, found: &'ast syn::Macro) {
        self.visit_path(&found.path);
        self.scan(found.tokens.clone());
    }
}

fn is_lower(ident: &syn::Ident) -> bool {
    ident.to_string().starts_with(|c: char| c.is_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> usize {
        check(&Tree::of(&[(path, text)])).len()
    }

    #[test]
    fn names_are_allowed_in_their_places_only() {
        for (path, text, findings) in [
            ("gateway/src/server.rs", "use actix_web::HttpServer;", 0),
            ("backend/core/src/lib.rs", "use actix_web::HttpServer;", 1),
            ("backend/worker/src/a.rs", "use sea_orm::{EntityTrait, DbErr};", 1),
            ("backend/worker/src/a.rs", "fn a() { sea_orm::connect(); }", 1),
            (
                "backend/worker/src/a.rs",
                "fn a() { println!(\"{}\", sea_orm::A); }",
                1,
            ),
            ("backend/worker/src/a.rs", "use {std::fmt, virt::connect};", 1),
            ("backend/worker/src/a.rs", "use virt as v;", 1),
            (
                "backend/hypervisor/src/libvirt/a.rs",
                "use virt::connect::Connect;",
                0,
            ),
            ("backend/storage/src/image_files/a.rs", "use sea_orm::DbErr;", 1),
            ("backend/store/src/a.rs", "use sea_orm::DbErr;", 0),
            ("src/wiring/host.rs", "use cumulet_bus::LocalBus;", 0),
            ("src/cli/up.rs", "use cumulet_bus::LocalBus;", 1),
            (
                "backend/journal/src/a.rs",
                "use cumulet_store::entity::{operation, instance};",
                1,
            ),
            ("backend/journal/src/a.rs", "use crate::conductor::Conductor;", 1),
            (
                "backend/journal/src/a.rs",
                "use cumulet_store::{Store, entity::operation};",
                0,
            ),
            ("gateway/src/auth/a.rs", "use cumulet_backend::api;", 1),
            ("gateway/src/ec2/a.rs", "use cumulet_backend::api;", 0),
        ] {
            assert_eq!(found(path, text), findings, "{path}: {text}");
        }
    }

    #[test]
    fn comments_variables_and_tests_may_say_anything() {
        let path = "backend/worker/src/a.rs";
        assert_eq!(
            found(path, "//! No sea_orm here.\nconst A: &str = \"sea_orm::x\";"),
            0
        );
        assert_eq!(found(path, "fn a(virt: u8) -> u8 { virt }"), 0);
        assert_eq!(
            found(path, "#[cfg(test)]\nmod tests { use cumulet_bus::LocalBus; }"),
            0
        );
        assert_eq!(
            found("backend/worker/tests/a.rs", "use cumulet_bus::LocalBus;"),
            0
        );
    }
}
