//! The codec as a filter, for comparison with botocore (`tests/oracle/wire_roundtrip.py`).
//!
//! Each line of standard input is `request TAB service TAB operation TAB form data`, or `response`
//! with the members of the result as form data under their XML names; for services of JSON, JSON. The answer is a line with
//! `ok` or `error` and a length in bytes, then that many bytes of XML or of an error, then a newline:
//! of a request what was decoded, under the names of requests; of a response the response.

use std::io::{BufRead as _, BufWriter, Write as _};

use cumulet_wire::json::{self, JsonShape};
use cumulet_wire::response::{EC2_VERSION, ec2_response, invalid_action, query_response};
use cumulet_wire::xml::XmlWriter;
use cumulet_wire::{Codec, FromQuery, Operation, Protocol, Query, WireError, XmlBody, decode};
use cumulet_wire::{iam, sts};

const REQUEST_ID: &str = "00000000-0000-4000-8000-000000000000";

/// What of the codec is tried.
struct Call<'a> {
    direction: &'a str,
    service: &'a str,
    operation: &'a str,
    body: &'a str,
}

fn xml<O>(call: &Call<'_>, protocol: Protocol) -> Result<String, WireError>
where
    O: Operation<Input: FromQuery + XmlBody, Output: FromQuery + XmlBody>,
{
    let query = Query::parse(call.body.as_bytes(), protocol)?;
    if call.direction == "request" {
        let input: O::Input = decode(&query)?;
        let mut w = XmlWriter::document();
        w.open("Request");
        input.members(&mut w);
        w.close("Request");
        return Ok(w.finish());
    }
    let result = decode::<O::Output>(&query)?;
    let service = match call.service {
        "iam" => &iam::SERVICE,
        "sts" => &sts::SERVICE,
        _ => return Ok(ec2_response(O::NAME, EC2_VERSION, REQUEST_ID, &result)),
    };
    let Codec::Query { namespace } = service.codec else {
        return Err(invalid_action(O::NAME));
    };
    Ok(query_response(namespace, O::NAME, REQUEST_ID, Some(&result)))
}

/// Read and written again: one shape is both.
fn json<O: Operation<Input: JsonShape, Output: JsonShape>>(call: &Call<'_>) -> Result<String, WireError> {
    let text = if call.direction == "request" {
        json::encode(&json::decode::<O::Input>(call.body.as_bytes())?)
    } else {
        json::encode(&json::decode::<O::Output>(call.body.as_bytes())?)
    };
    text.map_err(|error| WireError::malformed(error.to_string()))
}

fn answer(line: &str) -> Result<String, WireError> {
    let mut parts = line.splitn(4, '\t');
    let mut next = || parts.next().unwrap_or_default();
    let call = Call {
        direction: next(),
        service: next(),
        operation: next(),
        body: next(),
    };
    macro_rules! ec2 {
        ($($kind:ident $family:ident::$name:ident,)*) => {
            match call.operation {
                $(stringify!($name) => xml::<cumulet_wire::ec2::$family::$name>(&call, Protocol::Ec2),)*
                other => Err(invalid_action(other)),
            }
        };
    }
    macro_rules! query {
        ($($kind:ident $family:ident::$name:ident,)*) => {
            match call.operation {
                $(stringify!($name) => xml::<cumulet_wire::$family::$name>(&call, Protocol::Query),)*
                other => Err(invalid_action(other)),
            }
        };
    }
    macro_rules! json {
        ($($kind:ident $family:ident::$name:ident,)*) => {
            match call.operation {
                $(stringify!($name) => json::<cumulet_wire::$family::$name>(&call),)*
                other => Err(invalid_action(other)),
            }
        };
    }
    match call.service {
        "ec2" => cumulet_wire::for_each_ec2_operation!(ec2),
        "iam" => cumulet_wire::for_each_iam_operation!(query),
        "sts" => cumulet_wire::for_each_sts_operation!(query),
        "ssm" => cumulet_wire::for_each_ssm_operation!(json),
        _ => cumulet_wire::for_each_service_quotas_operation!(json),
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
