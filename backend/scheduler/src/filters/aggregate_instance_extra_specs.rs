//! An aggregate of the host has what the instance type's extra specifications want: keys of the scope
//! `aggregate_instance_extra_specs`, and those without a scope (Nova's filter of the name).

use super::{Filter, by_profile};
use crate::{Fleet, Request, extra_specs};

/// The aggregate's key that a key asks for.
fn scoped(key: &str) -> Option<&str> {
    match key.split_once(':') {
        None => Some(key),
        Some(("aggregate_instance_extra_specs", name)) => Some(name),
        Some(_) => None,
    }
}

/// See the module.
#[derive(Debug)]
pub struct AggregateInstanceExtraSpecs;

impl Filter for AggregateInstanceExtraSpecs {
    fn name(&self) -> &'static str {
        "aggregate_instance_extra_specs"
    }

    fn applies(&self, request: &Request) -> bool {
        request.extra_specs.keys().any(|key| scoped(key).is_some())
    }

    fn wants(&self, request: &Request) -> String {
        let specs = request.extra_specs.iter();
        let wanted = specs.filter_map(|(key, value)| Some(format!("{} {value}", scoped(key)?)));
        let wanted: Vec<_> = wanted.collect();
        format!("is in an aggregate with {}", wanted.join(", "))
    }

    fn sieve(&self, left: &mut Vec<u32>, fleet: &Fleet, request: &Request) {
        by_profile(left, fleet, |profile| {
            request.extra_specs.iter().all(|(key, wanted)| {
                let Some(name) = scoped(key) else { return true };
                let mut values = profile
                    .aggregates
                    .iter()
                    .filter_map(|metadata| metadata.get(name));
                values.any(|value| extra_specs::matches(value, wanted))
            })
        });
    }
}
