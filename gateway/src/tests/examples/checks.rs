//! The checks that need nothing but the example.

use std::collections::BTreeSet;

use cumulet_backend::api::audit_log;
use cumulet_domain::ResourceKind;
use cumulet_wire::operation::Access;

use super::{
    asking::{with, without},
    limits, *,
};

/// Digits of every form: this cloud's, those of others, and the old ones.
const FORMS: [&str; 4] = [
    "0123456789abcdef0",
    "1234567890abcdef0",
    "fedcba98765432100",
    "1a2b3c4d",
];

/// Digits that no id has.
const GARBLED: [&str; 5] = [
    "",
    "xyz",
    "0123456789abcdef",
    "0123456789ABCDEF0",
    "0123456789abcdef01",
];

/// Everything that an account can see.
pub(super) async fn picture(world: &World) -> String {
    let mut whole = String::new();
    for info in EC2.model.operations {
        let listing = info.name.starts_with("Describe") && info.required.is_empty();
        if listing && info.name != "DescribeAccountAttributes" {
            whole += &world.ask(&format!("Action={}", info.name)).await;
        }
    }
    whole
}

async fn audited(world: &World) -> Vec<(String, String)> {
    let log = audit_log::list(&world.cloud.parts(), world.who.account, 1000).await;
    let rows = log.unwrap().into_iter();
    rows.map(|row| (row.action, row.outcome)).collect()
}

#[test]
fn every_served_operation_has_an_example() {
    for service in SERVICES {
        let given: BTreeSet<&str> = service
            .examples
            .iter()
            .flat_map(|family| family.iter().map(|example| example.operation))
            .collect();
        let served: BTreeSet<&str> = service.model.operations.iter().map(|info| info.name).collect();
        assert_eq!(
            given, served,
            "examples of {}, and what it serves",
            service.model.name
        );
    }
}

#[tokio::test]
async fn a_dry_call_changes_nothing_and_leaves_no_entry() {
    let scene = Scene::new().await;
    let world = &scene.world;
    let before = (picture(world).await, audited(world).await);
    let mut tried = 0;
    for (service, example) in examples() {
        if !info(service, example).dry_run || example.by_host {
            continue;
        }
        tried += 1;
        let name = name_of(service, example);
        let dry = with(service, &scene.parameters(example), "DryRun", "true");
        let refusal = ask(world, &world.who, service, example.operation, &dry).await;
        let refusal = refusal.expect_err(&name);
        assert_eq!(
            (&*refusal.code, refusal.status),
            ("DryRunOperation", 412),
            "{name}: {refusal:?}"
        );
        assert!(refusal.message.contains("DryRun flag is set"), "{name}");
    }
    assert!(tried > 30, "{tried}");
    assert_eq!((picture(world).await, audited(world).await), before);
}

/// Each is done for real, in a scene of its own where it changes something, after it was rehearsed: no token, name or rule was used up by that.
/// What changes something is in the audit log once, and what reads is not. What makes rows has a limit on them.
#[tokio::test]
async fn each_is_done_and_audited_once() {
    let mut scene = Scene::new().await;
    for (service, example) in examples().filter(|(_, example)| !example.by_host) {
        let world = &scene.world;
        let (info, name) = (info(service, example), name_of(service, example));
        let mut parameters = scene.parameters(example);
        if let Some(token) = info.client_token {
            parameters = with(service, &parameters, token, "t");
        }
        let before = audited(world).await;
        if info.dry_run {
            let dry = with(service, &parameters, "DryRun", "true");
            let refusal = ask(world, &world.who, service, example.operation, &dry).await;
            assert_eq!(refusal.expect_err(&name).code, "DryRunOperation", "{name}");
        }
        let rows = limits::rows(world).await;
        let done = ask(world, &world.who, service, example.operation, &parameters).await;
        let done = done.unwrap_or_else(|refusal| panic!("{name}: {refusal:?}"));
        if info.limits.is_empty() {
            limits::check_rows(&name, &rows, &limits::rows(world).await);
        }
        let mut expected = before;
        if info.access == Access::Write {
            expected.push((info.permission.to_owned(), "ok".to_owned()));
        }
        let sorted = |mut rows: Vec<(String, String)>| {
            rows.sort();
            rows
        };
        assert_eq!(sorted(audited(world).await), sorted(expected), "{name}");
        if info.client_token.is_some() {
            let after = picture(world).await;
            let again = ask(world, &world.who, service, example.operation, &parameters).await;
            assert_eq!(
                again.expect(&name),
                done,
                "{name}: the same token is answered with what it made"
            );
            assert_eq!(picture(world).await, after, "{name}: and makes nothing");
        }
        if info.access == Access::Write {
            scene = Scene::new().await;
        }
    }
}

#[tokio::test]
async fn a_reader_may_read_and_no_more() {
    let scene = Scene::new().await;
    let world = &scene.world;
    let before = picture(world).await;
    for (service, example) in examples() {
        let (info, name) = (info(service, example), name_of(service, example));
        if info.access == Access::Read && example.by_host {
            continue;
        }
        let parameters = scene.parameters(example);
        let answer = ask(world, &world.reader(), service, example.operation, &parameters).await;
        match (info.access, answer) {
            (Access::Read, answer) => drop(answer.unwrap_or_else(|refusal| panic!("{name}: {refusal:?}"))),
            (Access::Write, answer) => {
                let refusal = answer.expect_err(&name);
                let codes = ["UnauthorizedOperation", "AccessDenied", "AccessDeniedException"];
                assert!(codes.contains(&&*refusal.code), "{name}: {refusal:?}");
                assert!(refusal.message.contains(info.permission), "{name}: {refusal:?}");
            }
        }
    }
    assert_eq!(picture(world).await, before);
}

fn is_not_found(code: &str) -> bool {
    code.ends_with(".NotFound") || code == "InvalidPlacementGroup.Unknown"
}

/// T01: what belongs to others is not there, and a sentence does not tell it from what nobody has.
#[tokio::test]
async fn ids_of_others_are_not_there() {
    let scene = Scene::new().await;
    let world = &scene.world;
    let mut tried = BTreeSet::new();
    for (service, example) in examples() {
        let name = name_of(service, example);
        for (parameters, id, kind) in scene.each_id(example, |name, _| scene.theirs[name].clone()) {
            let refusal = ask(world, &world.who, service, example.operation, &parameters).await;
            let refusal = refusal.expect_err(&name);
            assert!(is_not_found(&refusal.code), "{name} {id}: {refusal:?}");
            let nobodys = format!("{}-0123456789abcdef0", kind.prefix());
            let parameters = parameters.replace(&id, &nobodys);
            let other = ask(world, &world.who, service, example.operation, &parameters).await;
            let other = other.expect_err(&name);
            assert_eq!(other.code, refusal.code, "{name}");
            assert_eq!(other.message, refusal.message.replace(&id, &nobodys), "{name}");
            tried.insert(kind);
        }
    }
    assert!(tried.len() >= 8, "{tried:?}");
}

/// Any 8 or 17 digits are well-formed; what is not there is not found, and the sentence has the id as it was sent.
#[tokio::test]
async fn ids_are_looked_at_before_they_are_looked_up() {
    let scene = Scene::new().await;
    let world = &scene.world;
    let before = picture(world).await;
    for (service, example) in examples() {
        let name = name_of(service, example);
        let id = |kind: ResourceKind, digits: &str| format!("{}-{digits}", kind.prefix());
        for digits in FORMS.iter().chain(&GARBLED) {
            let other = |_: &'static str, own: &str| id(ResourceKind::of(own).unwrap(), digits);
            for (parameters, other, _) in scene.each_id(example, other) {
                let refusal = ask(world, &world.who, service, example.operation, &parameters).await;
                let refusal = refusal.expect_err(&name);
                let expected = if GARBLED.contains(digits) {
                    refusal.code.ends_with(".Malformed")
                } else {
                    is_not_found(&refusal.code) && refusal.message.contains(&other)
                };
                assert!(expected, "{name} {other}: {refusal:?}");
            }
        }
    }
    assert_eq!(picture(world).await, before);
}

#[tokio::test]
async fn what_the_model_requires_must_be_there() {
    let scene = Scene::new().await;
    let world = &scene.world;
    let mut tried = 0;
    for (service, example) in examples() {
        let (info, name) = (info(service, example), name_of(service, example));
        let whole = scene.parameters(example);
        for member in info.required {
            let parameters = without(service, &whole, member);
            assert_ne!(parameters, whole, "{name}: its example lacks {member}");
            let refusal = ask(world, &world.who, service, example.operation, &parameters).await;
            let refusal = refusal.expect_err(&name);
            let codes = ["MissingParameter", "ValidationError", "ValidationException"];
            assert!(
                codes.contains(&&*refusal.code),
                "{name} without {member}: {refusal:?}"
            );
            let told = refusal.message.to_lowercase();
            assert!(
                told.contains(&member.to_lowercase()),
                "{name} without {member}: {refusal:?}"
            );
            tried += 1;
        }
    }
    assert!(tried > 15, "{tried}");
}

#[tokio::test]
async fn what_the_model_has_not_and_what_is_not_served_is_refused_by_its_name() {
    let scene = Scene::new().await;
    let world = &scene.world;
    let before = picture(world).await;
    for (service, example) in examples() {
        let (info, name) = (info(service, example), name_of(service, example));
        let whole = scene.parameters(example);
        let unknown = with(service, &whole, "Nonsense", "1");
        let refusal = ask(world, &world.who, service, example.operation, &unknown).await;
        let refusal = refusal.expect_err(&name);
        let codes = ["UnknownParameter", "ValidationError", "SerializationException"];
        assert!(codes.contains(&&*refusal.code), "{name}: {refusal:?}");
        assert!(refusal.message.contains("Nonsense"), "{name}: {refusal:?}");
        for policy in info.refused {
            let member: Vec<&str> = policy
                .parameter
                .split('.')
                .map(|step| if step == "N" { "1" } else { step })
                .collect();
            let member = member.join(".");
            let value = if policy.defaults.contains(&"true") {
                "false"
            } else {
                "true"
            };
            let parameters = with(service, &whole, &member, value);
            let refusal = ask(world, &world.who, service, example.operation, &parameters).await;
            let refusal = refusal.expect_err(&name);
            assert!(
                refusal.code.starts_with("UnsupportedOperation"),
                "{name} {member}: {refusal:?}"
            );
            assert!(refusal.message.contains(&member), "{name} {member}: {refusal:?}");
        }
    }
    assert_eq!(picture(world).await, before);
}
