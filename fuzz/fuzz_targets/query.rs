//! A stranger's form data, decoded as every operation that is served; and a document of JSON.
//!
//! Nothing panics; an error has a code of the list and a short message that XML can carry; and what is
//! decoded can be written as XML.
//!
//! Input: one byte for the operation, one for the protocol, and the form data. With an `Action` in it
//! that is served, it wins.

#![no_main]

use cumulet_fuzz::text_of;
use cumulet_wire::error::{WireErrorKind, ec2_error_xml};
use cumulet_wire::json::{self, Members};
use cumulet_wire::service_quotas::ListServiceQuotasRequest;
use cumulet_wire::ssm::Parameter;
use cumulet_wire::xml::XmlWriter;
use cumulet_wire::{FromQuery, Known, Operation, Protocol, Query, WireError, XmlBody, decode, ec2, iam, sts};
use libfuzzer_sys::fuzz_target;

/// A message is shown to people: what it repeats of a request is cut.
const LONGEST_MESSAGE: usize = 2_000;

fn call<O: Operation<Input: FromQuery + XmlBody>>(query: &Query<'_>) -> Result<(), WireError> {
    let input: O::Input = decode(query)?;
    let mut w = XmlWriter::document();
    w.open("Request");
    input.members(&mut w);
    w.close("Request");
    text_of(&w.finish());
    Ok(())
}

fn ec2_call(operation: &str, query: &Query<'_>) -> Result<(), WireError> {
    macro_rules! dispatch {
        ($($kind:ident $family:ident::$name:ident,)*) => {
            match operation {
                $(stringify!($name) => call::<ec2::$family::$name>(query),)*
                other => panic!("{other} is listed and not dispatched"),
            }
        };
    }
    cumulet_wire::for_each_ec2_operation!(dispatch)
}

fn ec2_request(pick: u8, query: &Query<'_>) -> Result<(), WireError> {
    let operations = ec2::operations::OPERATIONS;
    let named = query.action().map(|name| ec2::operations::SERVICE.lookup(name));
    let info = match named {
        Ok(Known::Served(info)) => info,
        _ => &operations[usize::from(pick) % operations.len()],
    };
    info.check_members(query)?;
    ec2_call(info.name, query)
}

fn check(error: &WireError) {
    assert!(WireErrorKind::ALL.contains(&error.kind()));
    assert!(
        error.message().len() <= LONGEST_MESSAGE,
        "{} bytes of message",
        error.message().len()
    );
    text_of(&ec2_error_xml(error.code(), error.message(), "id"));
}

fuzz_target!(|data: &[u8]| {
    let [pick, protocol, form @ ..] = data else { return };
    let result = match protocol % 4 {
        0 => Query::parse(form, Protocol::Query).and_then(|query| match pick % 2 {
            0 => call::<sts::GetCallerIdentity>(&query),
            _ => call::<iam::GetUser>(&query),
        }),
        1 => {
            if let Err(error) = Members::parse(form) {
                check(&error);
            }
            let quotas = json::decode::<ListServiceQuotasRequest>(form);
            let parameter = json::decode::<Parameter>(form).map(|shape| drop(json::encode(&shape).unwrap()));
            quotas
                .map(|shape| drop(json::encode(&shape).unwrap()))
                .and(parameter)
        }
        _ => Query::parse(form, Protocol::Ec2).and_then(|query| ec2_request(*pick, &query)),
    };
    if let Err(error) = result {
        check(&error);
    }
});
