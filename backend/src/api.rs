//! The calls of every domain, as doors find them.

pub use cumulet_compute::{Compute, instance_types, instances, key_pairs, placement_groups};
pub use cumulet_core::{
    ClientToken, CloudConfig, Page, PageRequest, Parts, Presence, Quotas, Spent, audit_log, regions, tags,
};
pub use cumulet_domain::rng::SharedRng;
pub use cumulet_identity::accounts;
pub use cumulet_network::{network_interfaces, security_groups, vpcs};
pub use cumulet_operator::{consoles, hosts, quotas, services};
pub use cumulet_storage::{aliases, images};

pub use super::Cloud;

pub mod snapshots {
    //! Snapshots of volumes.

    pub use cumulet_storage::snapshots::{
        Copy, Digest, Grantees, Most, NewSnapshot, NewSnapshots, Part, Put, Sharing, SnapshotQuery,
        SnapshotStore, SnapshotView, Swept, UploadName, Uploads, copy, create, create_all, delete, describe,
        grantees, reset, share, sweep,
    };
}

pub mod encryption {
    //! Encryption at rest of volumes and snapshots: what accounts want, and the key that they have.

    pub use cumulet_storage::encryption::{
        AccountKey, default_key, is_by_default, modify_default_key, reset_default_key, set_by_default,
    };
}

pub mod volumes {
    //! Volumes and their attachments.

    pub use cumulet_compute::attachments::{Detach, attach, detach};
    pub use cumulet_storage::volumes::{
        AttachmentView, NewCopy, NewVolume, VolumeQuery, VolumeStatusView, VolumeView, auto_enable_io, copy,
        create, delete, describe, describe_modifications, describe_status, enable_io, modify,
        set_auto_enable_io,
    };
}
