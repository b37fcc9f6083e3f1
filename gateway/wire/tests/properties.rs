//! Properties of the form parser and the tree over it, against the plainest model of each.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed unwrap is the failure reported"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cumulet_wire::ec2::instances::{RunInstances, RunInstancesRequest};
use cumulet_wire::{Operation, Protocol, Query, decode};
use proptest::prelude::*;

fn escape(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        write!(out, "%{byte:02X}").unwrap();
        out
    })
}

fn key() -> impl Strategy<Value = String> {
    proptest::collection::vec("[A-C]|[0-9]{1,2}|[a-z-]{1,3}|é", 1..4).prop_map(|parts| parts.join("."))
}

proptest! {
    /// Whatever the bytes: an answer, no panic, and the parameters that were kept can be found.
    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(query) = Query::parse(&bytes, Protocol::Ec2) {
            for (key, value) in query.iter() {
                prop_assert_eq!(query.get(key), Some(value));
            }
            let _ = decode::<RunInstancesRequest>(&query);
        }
    }

    /// Text that looks like parameters reaches deeper than noise.
    #[test]
    fn near_misses_never_panic(body in "((BlockDeviceMapping|Filter|Placement|MinCount|NetworkInterface)(\\.(1|0|01|Ebs|Tenancy|))*(=|%|&|[a-z]){0,3}&?){0,6}") {
        for protocol in [Protocol::Ec2, Protocol::Query] {
            if let Ok(query) = Query::parse(body.as_bytes(), protocol) {
                let _ = decode::<<RunInstances as Operation>::Input>(&query);
            }
        }
    }

    /// Parameters come out as they went in, whatever their order and escaping.
    #[test]
    fn parameters_round_trip(pairs in proptest::collection::btree_map(key(), any::<String>(), 0..20), turn in 0..20_usize) {
        let mut body: Vec<String> = pairs.iter().map(|(k, v)| format!("{}={}", escape(k), escape(v))).collect();
        let turn = turn % body.len().max(1);
        body.rotate_left(turn);
        let body = body.join("&");
        let query = Query::parse(body.as_bytes(), Protocol::Ec2).unwrap();
        let found: BTreeMap<String, String> = query.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        prop_assert_eq!(found, pairs);
    }

    /// The members of the root are exactly the first segments, each once, and hold every parameter.
    #[test]
    fn members_partition_the_parameters(keys in proptest::collection::btree_set(key(), 0..20)) {
        let body: Vec<String> = keys.iter().map(|key| format!("{}=v", escape(key))).collect();
        let body = body.join("&");
        let query = Query::parse(body.as_bytes(), Protocol::Ec2).unwrap();
        let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for key in &keys {
            groups.entry(key.split('.').next().unwrap()).or_default().push(key);
        }
        let mut seen = BTreeMap::new();
        for (name, node) in query.root().members().unwrap() {
            prop_assert_eq!(node.path(), name);
            let mut below: Vec<&str> = node.leaves().map(|(key, _)| key).collect();
            below.sort_unstable();
            prop_assert!(seen.insert(name, below).is_none(), "{} twice", name);
        }
        for below in groups.values_mut() {
            below.sort_unstable();
        }
        prop_assert_eq!(seen, groups);
    }

    /// Lists keep the numeric order of their indices.
    #[test]
    fn lists_are_in_numeric_order(indices in proptest::collection::btree_set(0..5000_u64, 0..40), turn in 0..40_usize) {
        let mut body: Vec<String> = indices.iter().map(|i| format!("SecurityGroupId.{i}=sg-{i}")).collect();
        let turn = turn % body.len().max(1);
        body.rotate_left(turn);
        let body = format!("MinCount=1&MaxCount=1&{}", body.join("&"));
        let query = Query::parse(body.as_bytes(), Protocol::Ec2).unwrap();
        let request: RunInstancesRequest = decode(&query).unwrap();
        let expected: Vec<String> = indices.iter().map(|i| format!("sg-{i}")).collect();
        prop_assert_eq!(request.security_group_ids, expected);
    }
}
