//! The front doors: HTTP in, a call of the backend's API, HTTP out; no rule of the business.
//!
//! One address serves every service: the scope of a request's signature says which one is meant.
//!
//! ```text
//! http ─▶ door ─▶ auth ─▶ mounted ─▶ rpc ─▶ ec2::actions::<family>::<action> ─▶ backend::api
//!                                           iam, sts, service_quotas, ssm
//! ```
//!
//! Hosts get images and snapshots at a door of their own (`storage`).
//! Consoles of instances have a small door of their own (`console`), which may be a process of its own, and what is
//! counted has a listener (`metrics`).

pub mod auth;
mod bodies;
mod connection;
pub mod console;
mod credentials;
pub mod door;
mod ec2;
mod fault;
mod fences;
mod gate;
mod http;
mod iam;
mod limits;
mod metrics;
mod mounted;
mod reply;
mod rpc;
mod server;
mod service;
mod service_quotas;
mod ssm;
pub mod storage;
mod sts;
mod under_way;
mod words;

pub use door::Door;
pub use fences::{Rate, RequestLimits, Share};
pub use limits::Limits;
pub use metrics::{Render, serve_metrics};
pub use reply::{Body, Reply};
pub use server::{Gateway, Running};

#[cfg(test)]
mod tests;
