//! The attachments of volumes to instances: rows, and the operations that bring volumes to hosts and take them away.

mod attach;
mod detach;

pub use attach::attach;
pub use detach::{Detach, detach};
