//! Image files: what may be imported, how it is converted where it has to be, and where imported ones are kept.

mod convert;
mod copy;
mod import;
mod inspect;
mod jail;
mod partial;
#[cfg(test)]
mod tests;

pub use convert::Converter;
pub use import::{Imported, Stage, import};
pub use inspect::{Inspected, Rejected, inspect};
pub use partial::sweep;
