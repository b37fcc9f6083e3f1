//! The rows of the database as types, one table a file. Only `store` and the API's transactions use them.

pub mod access_key;
pub mod account;
pub mod audit_event;
pub mod client_token;
pub mod host;
pub mod host_network;
pub mod image;
pub mod instance;
pub mod instance_type;
pub mod interface;
pub mod interface_group;
pub mod key_pair;
pub mod metadata_push;
pub mod operation;
pub mod reservation;
pub mod security_group;
pub mod security_group_rule;
pub mod setting;
pub mod subnet;
pub mod tag;
pub mod user;
pub mod vpc;
