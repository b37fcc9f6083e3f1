//! The cost of writing the XML of a DescribeInstances answer and nothing else, for the benchmarks.
//!
//! Reads form data under the XML names of an answer (see the example `roundtrip`), one line for each
//! instance with its reservation, because a form has only so many members;
//! writes the answer once into a file and then again and again, and prints the median time of one in
//! microseconds. `xml_cost REQUEST_ID FORM OUTPUT`

use std::{
    fs,
    hint::black_box,
    io::{self, Write as _},
    time::{Duration, Instant},
};

use cumulet_wire::{
    Protocol, Query, decode,
    ec2::instances::DescribeInstancesResult,
    response::{EC2_VERSION, ec2_response},
};

/// How often it is written.
const TIMES: usize = 300;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [request_id, form, output] = &arguments[..] else {
        return Err(io::Error::other("usage: xml_cost REQUEST_ID FORM OUTPUT"));
    };
    let form = fs::read(form)?;
    let mut result = DescribeInstancesResult::default();
    for line in form.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let query = Query::parse(line, Protocol::Ec2).map_err(failed)?;
        let one: DescribeInstancesResult = decode(&query).map_err(failed)?;
        add(&mut result, one);
    }
    let write = || ec2_response("DescribeInstances", EC2_VERSION, request_id, &result);
    fs::write(output, write())?;
    let mut times: Vec<Duration> = (0..TIMES)
        .map(|_| {
            let start = Instant::now();
            black_box(write());
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    let median = times.get(TIMES / 2).copied().unwrap_or_default();
    writeln!(io::stdout(), "{}", median.as_micros())
}

/// Adds a line's instance to its reservation, which may have come with the line before.
fn add(result: &mut DescribeInstancesResult, one: DescribeInstancesResult) {
    for reservation in one.reservations {
        match result.reservations.last_mut() {
            Some(last) if last.reservation_id == reservation.reservation_id => {
                last.instances.extend(reservation.instances);
            }
            _ => result.reservations.push(reservation),
        }
    }
}

fn failed(error: cumulet_wire::WireError) -> io::Error {
    io::Error::other(format!("{}: {}", error.code(), error.parameter()))
}
