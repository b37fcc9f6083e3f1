//! Requests made from examples, in whichever codec.

use cumulet_wire::{Codec, Known, OperationInfo, json::Members};
use serde_json::{Map, Value};

use super::*;

/// What is known of an example's operation.
pub(super) fn info(service: &Rpc, example: &Example) -> &'static OperationInfo {
    match service.model.lookup(example.operation) {
        Known::Served(info) => info,
        _ => panic!("{} is not served", example.operation),
    }
}

/// An example's name in messages.
pub(super) fn name_of(service: &Rpc, example: &Example) -> String {
    format!("{} {}", service.model.name, example.operation)
}

/// Asks for an operation with these parameters.
pub(super) async fn ask(
    world: &World,
    who: &Principal,
    service: &'static Rpc,
    operation: &str,
    parameters: &str,
) -> Result<String, Answer> {
    let form;
    let asked = match service.model.codec {
        Codec::Json { .. } => Members::parse(parameters.as_bytes()).map(|members| Asked::Json {
            operation,
            members,
            body: parameters.as_bytes(),
        }),
        codec => {
            let protocol = if codec == Codec::Ec2 {
                Protocol::Ec2
            } else {
                Protocol::Query
            };
            form = format!("Action={operation}&{parameters}");
            Query::parse(form.as_bytes(), protocol).map(Asked::Form)
        }
    };
    let asked = asked.unwrap_or_else(|error| panic!("{operation} {parameters}: {error}"));
    let caller = Caller::pretended(who.clone(), &world.fences);
    let answer = async {
        let body = rpc::serve(service, &world.cloud.clone().into(), caller, &asked, "req-1").await?;
        body.text().await
    };
    answer.await.map_err(|fault| {
        assert_eq!(fault.hidden(), None, "{operation} {parameters}");
        (service.words)(&fault)
    })
}

/// The parameters with one more, or another one.
pub(super) fn with(service: &Rpc, parameters: &str, name: &str, value: &str) -> String {
    match service.model.codec {
        Codec::Json { .. } => {
            let mut members = members(parameters);
            members.insert(name.into(), value.into());
            Value::Object(members).to_string()
        }
        _ => format!("{}&{name}={value}", without(service, parameters, name)),
    }
}

/// The parameters without a member and what is below it.
pub(super) fn without(service: &Rpc, parameters: &str, name: &str) -> String {
    match service.model.codec {
        Codec::Json { .. } => {
            let mut members = members(parameters);
            members.remove(name);
            Value::Object(members).to_string()
        }
        _ => {
            let below = format!("{name}.");
            let kept = parameters.split('&').filter(|pair| {
                let key = pair.split('=').next().unwrap();
                key != name && !key.starts_with(&below)
            });
            kept.collect::<Vec<_>>().join("&")
        }
    }
}

fn members(parameters: &str) -> Map<String, Value> {
    serde_json::from_str(parameters).unwrap()
}
