//! Developer tasks: `cargo xtask TASK`.

mod codegen;
mod tidy;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;

/// The tasks.
#[derive(Debug, Parser)]
#[command(about = "Developer tasks of Cumulet")]
enum Task {
    /// Write the wire crate's shapes and operations table from models/.
    Codegen {
        /// Write nothing; fail if the checked-in files are not what models/ says.
        #[arg(long)]
        check: bool,
    },
    /// Check the rules of the repository.
    Tidy {
        /// Lower the ratchets in tests/ratchet/ to what is true now. It never raises one.
        #[arg(long)]
        shrink: bool,
    },
}

fn main() -> Result<()> {
    match Task::parse() {
        Task::Codegen { check } => codegen::run(&root()?, check),
        Task::Tidy { shrink } => tidy::run(&root()?, shrink),
    }
}

/// The workspace's root, as cargo tells it to what it runs: where the program was built may be gone.
fn root() -> Result<PathBuf> {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").context("cargo runs this: cargo xtask")?;
    Ok(Path::new(&here)
        .parent()
        .context("xtask lies in the workspace")?
        .to_owned())
}
