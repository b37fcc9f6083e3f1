//! The one binary, `cumulet`: a cloud, and the tools to look after it.

mod audit;
mod cli;
mod config;
mod descriptors;
mod metrics;
mod roles;
mod state;
mod telemetry;
mod wiring;

use std::process::ExitCode;

use clap::Parser;

// libc's allocator cost a launch a fifth of its time, and kept what noisy neighbours had made it take
// (docs/benchmarks.md). How it is set up is in `.cargo/config.toml`, since it is read before `main`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // What is made here is nobody else's; where others are to have something of it, that is said there.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let done = descriptors::no_core_files().and_then(|()| cli::Cli::parse().run());
    match done {
        Ok(code) => code,
        Err(error) => {
            telemetry::complain(&cli::told(&error));
            ExitCode::FAILURE
        }
    }
}
