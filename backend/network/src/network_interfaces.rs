//! Network interfaces: those that exist are their instances', from the launch to the end. A listing of them is
//! what clients ask before they delete a security group.

use std::collections::HashMap;

use cumulet_core::{Page, PageRequest, RequestContext};
use cumulet_domain::{
    Result,
    account::Principal,
    id::{InstanceId, NetworkInterfaceId, SecurityGroupId, SubnetId, VpcId},
};
use cumulet_store::{
    authority::Permission,
    batch::load_in,
    entity::{interface, interface_group},
    resource,
};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect, QueryTrait};

use crate::{
    boxed,
    interface_view::{InterfaceView, interface_views},
};

/// Which interfaces are wanted. Empty lists mean any; the given ids must all exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct InterfaceQuery {
    pub ids: Vec<NetworkInterfaceId>,
    pub instances: Vec<InstanceId>,
    pub groups: Vec<SecurityGroupId>,
    pub vpcs: Vec<VpcId>,
    pub subnets: Vec<SubnetId>,
}

/// An interface with where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkInterfaceView {
    /// The interface with its groups and tags.
    pub interface: InterfaceView,
    /// The zone of its subnet.
    pub availability_zone: String,
}

impl NetworkInterfaceView {
    /// The instance that it is attached to.
    pub fn instance(&self) -> InstanceId {
        self.interface.row.instance.0
    }
}

impl InterfaceQuery {
    /// What else than the ids has to be true.
    fn condition(&self) -> Condition {
        use interface::Column as C;
        let mut all = Condition::all();
        if !self.instances.is_empty() {
            all = all.add(C::Instance.is_in(self.instances.iter().map(|id| id.to_db())));
        }
        if !self.vpcs.is_empty() {
            all = all.add(C::Vpc.is_in(self.vpcs.iter().map(|id| id.to_db())));
        }
        if !self.subnets.is_empty() {
            all = all.add(C::Subnet.is_in(self.subnets.iter().map(|id| id.to_db())));
        }
        if !self.groups.is_empty() {
            let members = interface_group::Entity::find()
                .select_only()
                .column(interface_group::Column::Interface)
                .filter(interface_group::Column::SecurityGroup.is_in(self.groups.iter().map(|id| id.to_db())))
                .into_query();
            all = all.add(C::Id.in_subquery(members));
        }
        all
    }
}

/// Interfaces in the order of their ids.
///
/// # Errors
/// `NotFound`, naming every id that is not there.
#[boxed]
pub async fn describe(
    cx: &RequestContext,
    who: &Principal,
    query: &InterfaceQuery,
    page: PageRequest,
) -> Result<Page<NetworkInterfaceView>> {
    let grant = cx.authorise(who, Permission::DESCRIBE_NETWORK_INTERFACES)?;
    let conn = cx.store.read();
    let found = resource::list::<interface::Entity>(conn, &grant, &query.ids, query.condition(), &page);
    let Page { rows, next } = found.await?;
    let zones = zones(conn, &rows).await?;
    let view = |interface: InterfaceView| NetworkInterfaceView {
        availability_zone: zones
            .get(&interface.row.subnet.to_db())
            .cloned()
            .unwrap_or_default(),
        interface,
    };
    let rows = interface_views(conn, rows).await?;
    Ok(Page {
        rows: rows.into_iter().map(view).collect(),
        next,
    })
}

/// The zones of the interfaces' subnets.
async fn zones(conn: &impl ConnectionTrait, rows: &[interface::Model]) -> Result<HashMap<i64, String>> {
    let mut subnets: Vec<i64> = rows.iter().map(|row| row.subnet.to_db()).collect();
    subnets.sort_unstable();
    subnets.dedup();
    let rows = load_in!(conn, subnet, Id, &subnets);
    Ok(rows
        .into_iter()
        .map(|row| (row.id.to_db(), row.availability_zone))
        .collect())
}
