//! The codecs of AWS (EC2's, `query`, awsJson) and the shapes that they carry.
//!
//! A request's bytes become a [`query::Query`], which [`codec::decode`] turns into a generated type;
//! a result becomes XML by [`response::ec2_response`]; services of JSON have [`json`]. The shapes and the table of operations are
//! generated from the official models in `models/` by `cargo xtask codegen`, so no name on the wire
//! is typed by hand. Nothing here knows of HTTP, of accounts, or of the cloud behind.

pub mod codec;
pub mod ec2;
pub mod error;
#[rustfmt::skip]
pub mod iam;
pub mod json;
pub mod listing;
pub mod operation;
pub mod query;
pub mod response;
pub mod service;
#[rustfmt::skip]
pub mod service_quotas;
mod shape;
#[rustfmt::skip]
pub mod ssm;
#[rustfmt::skip]
pub mod sts;
pub mod types;
pub mod xml;

pub use codec::{Done, FromQuery, Operation, ToXml, XmlBody, decode};
pub use error::{WireError, WireErrorKind};
pub use json::JsonShape;
pub use operation::{Known, OperationInfo};
pub use query::{Protocol, Query};
pub use service::{Codec, ServiceModel};
pub use types::{Blob, Sensitive, Timestamp};
