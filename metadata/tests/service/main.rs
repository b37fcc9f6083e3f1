//! The running service on loopback. Every address in 127.0.0.0/8 is this machine's, so a guest is a
//! socket bound to an address such as 127.0.1.5.

// Helpers fail a test just as its own lines do.
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod client;
mod cloud;
mod guests;
mod limits;
mod sessions;
mod wire;
