//! The rows of the database as types, one table a file. Only `store` and the API's transactions use them.

pub mod access_key;
pub mod account;
pub mod aggregate;
pub mod aggregate_host;
pub mod aggregate_metadata;
pub mod audit_event;
pub mod client_token;
pub mod columns;
pub mod host;
pub mod host_network;
pub mod image;
pub mod image_alias;
pub mod image_mapping;
pub mod image_permission;
pub mod instance;
pub mod instance_type;
pub mod instance_type_spec;
pub mod interface;
pub mod interface_address;
pub mod interface_group;
pub mod key_pair;
pub mod metadata_push;
pub mod operation;
pub mod operation_hold;
pub mod placement_group;
pub mod placement_group_host;
pub mod reservation;
pub mod secret_text;
pub mod security_group;
pub mod security_group_rule;
pub mod service;
pub mod setting;
pub mod snapshot;
pub mod snapshot_permission;
pub mod subnet;
pub mod tag;
pub mod user;
pub mod volume;
pub mod volume_attachment;
pub mod volume_modification;
pub mod vpc;

use cumulet_domain::ResourceKind;

use crate::resource::Declared;

/// What is a resource of an account, and so can be tagged: each is declared beside its columns.
pub const RESOURCES: &[Declared] = &[
    Declared::of::<image::Entity>(),
    Declared::of::<instance::Entity>(),
    Declared::of::<interface::Entity>(),
    Declared::of::<key_pair::Entity>(),
    Declared::of::<placement_group::Entity>(),
    Declared::of::<security_group::Entity>(),
    Declared::of::<security_group_rule::Entity>(),
    Declared::of::<snapshot::Entity>(),
    Declared::of::<subnet::Entity>(),
    Declared::of::<volume::Entity>(),
    Declared::of::<vpc::Entity>(),
];

/// The declaration of a kind, if there is one.
pub fn declared(kind: ResourceKind) -> Option<Declared> {
    RESOURCES.iter().copied().find(|declared| declared.kind == kind)
}
