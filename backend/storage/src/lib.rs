//! The storage domain: images, their aliases and files, volumes that no instance has, snapshots,
//! and the encryption of all of them.

pub mod aliases;
pub mod encryption;
pub mod image_files;
pub mod images;
mod sharing;
pub mod snapshots;
pub mod volumes;

// For async functions that other crates await: in a box, they are compiled here, once, and not in every crate
// that awaits them (`cargo xtask tidy` asks for it).
pub(crate) use async_recursion::async_recursion as boxed;
