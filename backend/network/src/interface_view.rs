//! Network interfaces as they are shown, with their groups, addresses and tags.

use std::{collections::HashMap, net::Ipv4Addr};

use cumulet_domain::{
    Error, ResourceKind, Result,
    id::{InterfaceAttachmentId, NetworkInterfaceId, SecurityGroupId, SubnetId, VpcId},
    network::Mac,
    tag::Tag,
};
use cumulet_store::{
    addresses::{self, InterfaceAddresses},
    batch::load_in,
    entity::{interface, security_group},
    tags,
};
use sea_orm::ConnectionTrait;

/// Security groups of an interface at the most (VPC user guide, "Quotas").
pub const MAX_GROUPS: usize = 5;

/// A security group, by id and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRef {
    /// Which group.
    pub id: SecurityGroupId,
    /// Its name.
    pub name: String,
}

impl GroupRef {
    /// The group of a row.
    pub fn of(row: &security_group::Model) -> Self {
        GroupRef {
            id: row.id.0,
            name: row.name.clone(),
        }
    }
}

/// An interface with its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceView {
    /// The interface.
    pub row: interface::Model,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its addresses.
    pub addresses: InterfaceAddresses,
    /// Its security groups, sorted by id.
    pub groups: Vec<GroupRef>,
    /// Its tags, sorted by key.
    pub tags: Vec<Tag>,
}

impl InterfaceView {
    /// An interface with its addresses, and nothing else yet.
    pub fn of(row: interface::Model, addresses: InterfaceAddresses) -> Result<Self> {
        Ok(InterfaceView {
            mac: row.mac.0,
            row,
            addresses,
            groups: Vec::new(),
            tags: Vec::new(),
        })
    }
}

#[allow(missing_docs)] // the names say it
impl InterfaceView {
    pub fn id(&self) -> NetworkInterfaceId {
        self.row.id.0
    }

    pub fn attachment(&self) -> InterfaceAttachmentId {
        self.row.attachment.0
    }

    pub fn mac(&self) -> Mac {
        self.mac
    }

    pub fn private_ip(&self) -> Ipv4Addr {
        self.addresses.private
    }

    pub fn public_ip(&self) -> Option<Ipv4Addr> {
        self.addresses.public
    }

    pub fn subnet(&self) -> SubnetId {
        self.row.subnet.0
    }

    pub fn vpc(&self) -> VpcId {
        self.row.vpc.0
    }
}

/// The views of interfaces' rows, in their order.
///
/// # Errors
/// Those of the database; `Internal` where a row is damaged.
pub async fn interface_views(
    conn: &impl ConnectionTrait,
    rows: Vec<interface::Model>,
) -> Result<Vec<InterfaceView>> {
    let ids: Vec<i64> = rows.iter().map(|row| row.id.to_db()).collect();
    let members = load_in!(conn, interface_group, Interface, &ids);
    let mut groups: Vec<i64> = members
        .iter()
        .map(|member| member.security_group.to_db())
        .collect();
    groups.sort_unstable();
    groups.dedup();
    let groups: HashMap<i64, GroupRef> = load_in!(conn, security_group, Id, &groups)
        .iter()
        .map(|row| (row.id.to_db(), GroupRef::of(row)))
        .collect();
    let mut of: HashMap<i64, Vec<GroupRef>> = HashMap::new();
    for member in members {
        of.entry(member.interface.to_db())
            .or_default()
            .extend(groups.get(&member.security_group.to_db()).cloned());
    }
    let mut tags = tags::of(conn, ResourceKind::NetworkInterface, &ids).await?;
    let mut addresses = addresses::of(conn, &rows).await?;
    let view = |row: interface::Model| {
        let mut groups = of.remove(&row.id.to_db()).unwrap_or_default();
        groups.sort_by_key(|group| group.id);
        let tags = tags.remove(&row.id.to_db()).unwrap_or_default();
        let none = || Error::Internal("an interface was read without its addresses".into());
        let addresses = addresses.remove(&row.id.to_db()).ok_or_else(none)?;
        Ok(InterfaceView {
            groups,
            tags,
            ..InterfaceView::of(row, addresses)?
        })
    };
    rows.into_iter().map(view).collect()
}
