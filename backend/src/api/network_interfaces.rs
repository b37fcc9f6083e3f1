//! Network interfaces: those that exist are their instances', from the launch to the end. A listing of them is
//! what clients ask before they delete a security group.

use std::collections::HashMap;

use cumulet_domain::{
    Result,
    account::Principal,
    id::{InstanceId, NetworkInterfaceId, SecurityGroupId, SubnetId, VpcId},
};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect, QueryTrait};

use super::{
    Cloud, Page, PageRequest,
    instances::{InterfaceView, interface_views},
};
use crate::{
    authority::Permission,
    boxed,
    entity::{interface, interface_group},
    store::{batch::load_in, resource},
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
        InstanceId::from_db(self.interface.row.instance)
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
    cloud: &Cloud,
    who: &Principal,
    query: &InterfaceQuery,
    page: PageRequest,
) -> Result<Page<NetworkInterfaceView>> {
    let grant = cloud.authorise(who, Permission::DESCRIBE_NETWORK_INTERFACES)?;
    let conn = cloud.store.read();
    let found = resource::list::<interface::Entity>(conn, &grant, &query.ids, query.condition(), &page);
    let Page { rows, next } = found.await?;
    let zones = zones(conn, &rows).await?;
    let view = |interface: InterfaceView| NetworkInterfaceView {
        availability_zone: zones.get(&interface.row.subnet).cloned().unwrap_or_default(),
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
    let mut subnets: Vec<i64> = rows.iter().map(|row| row.subnet).collect();
    subnets.sort_unstable();
    subnets.dedup();
    let rows = load_in!(conn, subnet, Id, &subnets);
    Ok(rows
        .into_iter()
        .map(|row| (row.id, row.availability_zone))
        .collect())
}

#[cfg(test)]
mod tests {
    use cumulet_domain::Error;

    use super::*;
    use crate::{
        api::instances::launch,
        test_support::{ZONE, cloud},
    };

    #[tokio::test]
    async fn interfaces_are_found_by_what_they_belong_to_and_by_their_account_alone() {
        let rig = cloud().await;
        let mut spec = rig.spec();
        spec.max = 3;
        let launched = launch(&rig.cloud, &rig.who, spec).await.unwrap().instances;
        let first = launched[0].interfaces[0].clone();
        let found = async |query: &InterfaceQuery| {
            describe(&rig.cloud, &rig.who, query, PageRequest::default())
                .await
                .map(|page| page.rows)
        };
        let everything = found(&InterfaceQuery::default()).await.unwrap();
        assert_eq!(everything.len(), 3);
        assert!(everything.iter().all(|view| view.availability_zone == ZONE));
        assert!(
            everything
                .windows(2)
                .all(|two| two[0].interface.row.id < two[1].interface.row.id)
        );
        for (query, count) in [
            (
                InterfaceQuery {
                    ids: vec![first.id(), first.id()],
                    ..Default::default()
                },
                1,
            ),
            (
                InterfaceQuery {
                    instances: vec![launched[1].id()],
                    ..Default::default()
                },
                1,
            ),
            (
                InterfaceQuery {
                    instances: vec![InstanceId::new(9)],
                    ..Default::default()
                },
                0,
            ),
            (
                InterfaceQuery {
                    groups: vec![first.groups[0].id],
                    ..Default::default()
                },
                3,
            ),
            (
                InterfaceQuery {
                    groups: vec![SecurityGroupId::new(9)],
                    ..Default::default()
                },
                0,
            ),
            (
                InterfaceQuery {
                    vpcs: vec![first.vpc()],
                    ..Default::default()
                },
                3,
            ),
            (
                InterfaceQuery {
                    subnets: vec![first.subnet()],
                    ..Default::default()
                },
                3,
            ),
            (
                InterfaceQuery {
                    subnets: vec![SubnetId::new(9)],
                    ..Default::default()
                },
                0,
            ),
        ] {
            assert_eq!(found(&query).await.unwrap().len(), count, "{query:?}");
        }
        let of_first = InterfaceQuery {
            ids: vec![first.id()],
            ..Default::default()
        };
        assert_eq!(found(&of_first).await.unwrap()[0].interface, first);
        assert_eq!(found(&of_first).await.unwrap()[0].instance(), launched[0].id());

        let any = InterfaceQuery::default();
        let others = describe(&rig.cloud, &rig.stranger, &any, PageRequest::default()).await;
        assert!(others.unwrap().rows.is_empty());
        let theirs = describe(&rig.cloud, &rig.stranger, &of_first, PageRequest::default()).await;
        assert!(matches!(theirs, Err(Error::NotFound { .. })), "{theirs:?}");

        let unknown = [NetworkInterfaceId::new(7), NetworkInterfaceId::new(8)];
        let ids = vec![unknown[0], first.id(), unknown[1]];
        let missing = found(&InterfaceQuery {
            ids,
            ..Default::default()
        })
        .await;
        let Err(Error::NotFound { id, .. }) = missing else {
            panic!("{missing:?}")
        };
        assert_eq!(id, format!("{}, {}", unknown[0], unknown[1]));
    }
}
