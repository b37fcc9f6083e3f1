//! Image files: what may be imported, and where imported ones are kept.

mod import;
mod inspect;

pub use import::{Imported, Stage, import, sweep};
pub use inspect::{Inspected, Rejected, inspect};
