//! The codec as a filter, for comparison with botocore (`tests/oracle/wire_roundtrip.py`).
//!
//! Each line of standard input is `request TAB service TAB operation TAB form data`, or `response`
//! with the members of the result as form data under their XML names. The answer is a line with
//! `ok` or `error` and a length in bytes, then that many bytes of XML or of an error, then a newline:
//! of a request what was decoded, under the names of requests; of a response the response.

use std::io::{BufRead as _, BufWriter, Write as _};

use cumulet_wire::response::{EC2_VERSION, IAM, STS, ec2_response, query_response};
use cumulet_wire::xml::XmlWriter;
use cumulet_wire::{FromQuery, Operation, Protocol, Query, WireError, XmlBody, decode, ec2, iam, sts};

const REQUEST_ID: &str = "00000000-0000-4000-8000-000000000000";

fn request<O: Operation<Input: XmlBody>>(query: &Query<'_>) -> Result<String, WireError> {
    let input: O::Input = decode(query)?;
    let mut w = XmlWriter::document();
    w.open("Request");
    input.members(&mut w);
    w.close("Request");
    Ok(w.finish())
}

fn ec2_call<O>(direction: &str, query: &Query<'_>) -> Result<String, WireError>
where
    O: Operation<Input: XmlBody, Output: FromQuery>,
{
    if direction == "request" {
        return request::<O>(query);
    }
    Ok(ec2_response(
        O::NAME,
        EC2_VERSION,
        REQUEST_ID,
        &decode::<O::Output>(query)?,
    ))
}

fn ec2_dispatch(direction: &str, operation: &str, query: &Query<'_>) -> Result<String, WireError> {
    macro_rules! dispatch {
        ($($family:ident::$name:ident,)*) => {
            match operation {
                $(stringify!($name) => ec2_call::<ec2::$family::$name>(direction, query),)*
                _ => Err(cumulet_wire::response::invalid_action(operation)),
            }
        };
    }
    cumulet_wire::for_each_ec2_operation!(dispatch)
}

fn answer(line: &str) -> Result<String, WireError> {
    let mut parts = line.splitn(4, '\t');
    let mut next = || parts.next().unwrap_or_default();
    let (direction, service, operation, form) = (next(), next(), next(), next().as_bytes());
    if service == "ec2" {
        return ec2_dispatch(direction, operation, &Query::parse(form, Protocol::Ec2)?);
    }
    let query = Query::parse(form, Protocol::Query)?;
    match (direction, operation) {
        ("request", "GetCallerIdentity") => request::<sts::GetCallerIdentity>(&query),
        ("request", "GetUser") => request::<iam::GetUser>(&query),
        ("response", "GetCallerIdentity") => {
            let result: sts::GetCallerIdentityResponse = decode(&query)?;
            Ok(query_response(STS, operation, REQUEST_ID, Some(&result)))
        }
        ("response", "GetUser") => {
            let result: iam::GetUserResponse = decode(&query)?;
            Ok(query_response(IAM, operation, REQUEST_ID, Some(&result)))
        }
        _ => Err(cumulet_wire::response::invalid_action(operation)),
    }
}

fn main() -> std::io::Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().lines() {
        let (status, text) = match answer(&line?) {
            Ok(xml) => ("ok", xml),
            Err(error) => ("error", format!("{} {}", error.code(), error.parameter())),
        };
        writeln!(out, "{status} {}", text.len())?;
        writeln!(out, "{text}")?;
    }
    out.flush()
}
