//! Requests as boto 2 sends them (`tests/oracle/boto2_requests.py`): each of its spellings is understood, whatever is
//! answered to what it says.

use std::collections::{BTreeMap, BTreeSet};

use cumulet_wire::{Known, OperationInfo, operation::Access};
use serde::Deserialize;

use super::{asking::with, *};

/// A request of boto 2, with names of the scene in it.
#[derive(Deserialize)]
struct Recorded {
    method: String,
    form: String,
}

/// Parameters that boto 2 sends and the model has not: they were Eucalyptus' own.
const NOT_OF_EC2: [&str; 1] = ["AddressingType"];

#[tokio::test]
async fn every_spelling_of_boto_2_is_understood() {
    let recorded: Vec<Recorded> = serde_json::from_str(include_str!("../testdata/boto2.json")).unwrap();
    let (scene, mut accepted, mut refused) = (Scene::new().await, BTreeMap::new(), BTreeSet::new());
    for Recorded { method, form } in &recorded {
        let asked = form.strip_prefix("Action=").and_then(|rest| rest.split_once('&'));
        let (operation, parameters) = asked.unwrap_or_else(|| panic!("{method}: {form}"));
        let parameters = scene.filled(parameters);
        let (world, who) = (&scene.world, &scene.world.who);
        match EC2.model.lookup(operation) {
            Known::Served(info) => {
                // Nothing is changed, so that one scene is enough for all.
                assert!(info.dry_run || info.access == Access::Read, "{operation}");
                let parameters = if info.dry_run {
                    with(&EC2, &parameters, "DryRun", "true")
                } else {
                    parameters
                };
                let refusal = ask(world, who, &EC2, operation, &parameters).await.err();
                let refusal = refusal.filter(|refusal| refusal.code != "DryRunOperation");
                *accepted.entry(operation).or_insert(false) |= refusal.is_none();
                let Some(refusal) = refusal.filter(|refusal| is_of_spelling(info, refusal)) else {
                    continue;
                };
                let unknown = NOT_OF_EC2
                    .into_iter()
                    .find(|name| refusal.message == format!("The parameter {name} is not recognized"));
                refused.insert(unknown.unwrap_or_else(|| panic!("{method}: {form}: {refusal:?}")));
            }
            Known::Unserved => {
                let refusal = ask(world, who, &EC2, operation, &parameters).await;
                let refusal = refusal.expect_err(form);
                assert_eq!(refusal.code, "UnsupportedOperation", "{form}: {refusal:?}");
            }
            Known::Unknown => panic!("{method}: there is no {operation}"),
        }
    }
    let never: Vec<_> = accepted.iter().filter(|(_, once)| !**once).collect();
    assert!(never.is_empty(), "none of these was accepted, ever: {never:?}");
    assert!(accepted.len() > 50, "{}", accepted.len());
    assert_eq!(refused, BTreeSet::from(NOT_OF_EC2), "refused for what they are");
}

/// Whether a refusal is of how a request is spelled, and not of what it says.
fn is_of_spelling(info: &OperationInfo, refusal: &Answer) -> bool {
    match &*refusal.code {
        "UnknownParameter" | "MalformedQueryString" | "InvalidQueryParameter" | "InvalidAction" => true,
        // All that is required was sent, so that it was looked for elsewhere.
        "MissingParameter" => info.required.iter().any(|name| refusal.message.ends_with(name)),
        "InvalidParameterValue" => {
            // A value's form, as the codec has it; and a filter's name.
            refusal.message.contains("is invalid. Expected ") || refusal.message.contains("The filter '")
        }
        _ => refusal.status >= 500,
    }
}
