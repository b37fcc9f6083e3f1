//! The addresses of interfaces: a primary one of IPv4, which is what hosts are told, and others. Rows of
//! `interface_addresses` are what counts. An interface without any comes from a program of before that table, which
//! runs beside this one until an upgrade is through: it has what its own columns say, until
//! [`super::catch_up`] has written the row.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
};

use cumulet_domain::{
    Result,
    id::{
        NetworkInterfaceId, SecurityGroupId, SubnetId,
        marker::{NetworkInterface, Subnet},
    },
    network::Mac,
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, JoinType, QueryFilter, QueryOrder,
    QuerySelect, RelationDef, Select,
    sea_query::{Expr, ExprTrait as _, IntoCondition as _},
};

use super::{batch::load_in, failed, rows};
use crate::entity::{
    columns::{Address, Count, Ethernet, Ipv4, Key},
    host, instance, interface, interface_address, interface_group,
};

/// An address with the public one that is translated to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The address in the subnet.
    pub private: IpAddr,
    /// The public one.
    pub public: Option<IpAddr>,
}

/// What an interface has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceAddresses {
    /// The primary address.
    pub private: Ipv4Addr,
    /// The public one that is translated to it.
    pub public: Option<Ipv4Addr>,
    /// The others, in their order.
    pub secondary: Vec<InterfaceAddress>,
}

/// The primary address of a new interface, as a row.
pub fn primary(
    interface: &interface::Model,
    private: Ipv4Addr,
    public: Option<Ipv4Addr>,
) -> interface_address::Model {
    interface_address::Model {
        subnet: interface.subnet,
        address: private.into(),
        interface: interface.id,
        address_index: Count(0),
        account: interface.account,
        vpc: interface.vpc,
        public_address: public.map(Address::from),
    }
}

/// The addresses of interfaces, by their numbers.
///
/// # Errors
/// Those of the database; `Internal` where a row is damaged.
pub async fn of(
    conn: &impl ConnectionTrait,
    interfaces: &[interface::Model],
) -> Result<HashMap<i64, InterfaceAddresses>> {
    let ids: Vec<i64> = interfaces.iter().map(|row| row.id.to_db()).collect();
    let mut rows: HashMap<i64, Vec<interface_address::Model>> = HashMap::new();
    for row in load_in!(conn, interface_address, Interface, &ids) {
        rows.entry(row.interface.to_db()).or_default().push(row);
    }
    let mut one = |row: &interface::Model| {
        let of = match rows.remove(&row.id.to_db()) {
            Some(addresses) => gathered(row, addresses)?,
            None => of_earlier(row),
        };
        Ok((row.id.to_db(), of))
    };
    interfaces.iter().map(&mut one).collect()
}

fn gathered(
    interface: &interface::Model,
    mut rows: Vec<interface_address::Model>,
) -> Result<InterfaceAddresses> {
    rows.sort_by_key(|row| row.address_index);
    let damaged = |why| rows::damaged("interface_addresses", interface.id.0, why);
    let mut rows = rows.into_iter();
    let first = rows.next().filter(|row| row.address_index == Count(0));
    let first = first.ok_or_else(|| damaged("it has no primary address"))?;
    let v4 = |address: Address| {
        address
            .v4()
            .ok_or_else(|| damaged("its primary address is none of IPv4"))
    };
    let other = |row: interface_address::Model| InterfaceAddress {
        private: row.address.0,
        public: row.public_address.map(|address| address.0),
    };
    Ok(InterfaceAddresses {
        private: v4(first.address)?,
        public: first.public_address.map(v4).transpose()?,
        secondary: rows.map(other).collect(),
    })
}

/// What the columns of an interface say, which an earlier program goes by.
fn of_earlier(row: &interface::Model) -> InterfaceAddresses {
    InterfaceAddresses {
        private: row.private_ip.0,
        public: row.public_ip.map(|public| public.0),
        secondary: Vec::new(),
    }
}

/// An interface that is joined with its addresses, or with nothing where an earlier program has made it.
#[derive(FromQueryResult)]
struct Joined {
    private_ip: Ipv4,
    address: Option<Address>,
    confirmed_tunnel: Option<Ipv4>,
}

impl Joined {
    /// Hosts know of IPv4 alone.
    fn v4(&self) -> Option<Ipv4Addr> {
        match self.address {
            Some(address) => address.v4(),
            None => Some(self.private_ip.0),
        }
    }
}

/// The columns of a group's member: there are many rows, and each column of each costs.
#[derive(FromQueryResult)]
struct Member {
    id: Key<NetworkInterface>,
    address: Option<Address>,
}

/// Interfaces with each of their addresses.
fn joined() -> Select<interface::Entity> {
    let addresses: RelationDef = interface::Entity::belongs_to(interface_address::Entity)
        .from(interface::Column::Id)
        .to(interface_address::Column::Interface)
        .into();
    interface::Entity::find()
        .select_only()
        .columns([interface::Column::Id, interface::Column::PrivateIp])
        .column(interface_address::Column::Address)
        .join(JoinType::LeftJoin, addresses)
}

/// The private addresses of a security group's members, wherever they are, sorted.
///
/// # Errors
/// Those of [`of`].
pub async fn of_members(conn: &impl ConnectionTrait, group: SecurityGroupId) -> Result<Vec<Ipv4Addr>> {
    let members: RelationDef = interface::Entity::belongs_to(interface_group::Entity)
        .from(interface::Column::Id)
        .to(interface_group::Column::Interface)
        .into();
    let query = joined()
        .select_only()
        .column(interface::Column::Id)
        .column(interface_address::Column::Address)
        .join(JoinType::InnerJoin, members)
        .filter(interface_group::Column::SecurityGroup.eq(group.to_db()));
    let rows: Vec<Member> = rows::selected(query, conn).await?;
    let earlier: Vec<i64> = rows
        .iter()
        .filter(|row| row.address.is_none())
        .map(|row| row.id.to_db())
        .collect();
    let earlier = load_in!(conn, interface, Id, &earlier);
    let mut found: Vec<Ipv4Addr> = earlier.iter().map(|row| row.private_ip.0).collect();
    // Hosts know of IPv4 alone.
    found.extend(rows.iter().filter_map(|row| row.address?.v4()));
    found.sort_unstable();
    Ok(found)
}

/// The private addresses of a VPC's instances that other hosts than this one have to serve, each with the address at
/// which its host's tunnels end.
///
/// # Errors
/// Those of [`of`].
pub async fn elsewhere(
    conn: &impl ConnectionTrait,
    host: &str,
    vpc: i64,
) -> Result<Vec<(Ipv4Addr, Ipv4Addr)>> {
    let instances: RelationDef = interface::Entity::belongs_to(instance::Entity)
        .from(interface::Column::Instance)
        .to(instance::Column::Id)
        .into();
    let hosts: RelationDef = instance::Entity::belongs_to(host::Entity)
        .from(instance::Column::Host)
        .to(host::Column::Id)
        .into();
    let query = joined()
        .column(host::Column::ConfirmedTunnel)
        .join(JoinType::InnerJoin, instances)
        .join(JoinType::InnerJoin, hosts)
        .filter(interface::Column::Vpc.eq(vpc))
        .filter(instance::Column::Claimed.eq(1))
        .filter(instance::Column::Host.ne(host))
        .filter(host::Column::ConfirmedTunnel.is_not_null());
    // A peer that can't be read is not reached; the rest of the policy is enforced.
    let rows = rows::sound::<_, Joined>(query, conn).await?.rows;
    let ends = rows
        .iter()
        .map(|row| row.v4().zip(row.confirmed_tunnel.map(|tunnel| tunnel.0)));
    Ok(ends.flatten().collect())
}

/// An interface that a host serves, with its primary address, as a policy has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// The interface.
    pub id: NetworkInterfaceId,
    /// Its subnet.
    pub subnet: SubnetId,
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its primary address.
    pub private: Ipv4Addr,
    /// The public one that is translated to it.
    pub public: Option<Ipv4Addr>,
}

/// The columns of [`Served`]: there are many rows, and each column of each costs.
#[derive(FromQueryResult)]
struct ServedRow {
    id: Key<NetworkInterface>,
    subnet: Key<Subnet>,
    mac: Ethernet,
    address: Option<Address>,
    public_address: Option<Address>,
}

/// The interfaces of a VPC that a host has to serve: those of instances that are placed there and not stopped. (A
/// stopped instance's interface comes back with its start.) Of an instance with interfaces in several VPCs, each
/// VPC has its own. In the order of their ids.
///
/// # Errors
/// Those of [`of`].
pub async fn served(conn: &impl ConnectionTrait, host: &str, vpc: i64) -> Result<Vec<Served>> {
    let primary: RelationDef = interface::Entity::belongs_to(interface_address::Entity)
        .from(interface::Column::Id)
        .to(interface_address::Column::Interface)
        .on_condition(|_, address| {
            let index = Expr::col((address, interface_address::Column::AddressIndex));
            index.eq(0).into_condition()
        })
        .into();
    let query = on_host(interface::Entity::find(), host, vpc)
        .select_only()
        .columns([
            interface::Column::Id,
            interface::Column::Subnet,
            interface::Column::Mac,
        ])
        .columns([
            interface_address::Column::Address,
            interface_address::Column::PublicAddress,
        ])
        .join(JoinType::LeftJoin, primary)
        .order_by_asc(interface::Column::Id);
    let rows: Vec<ServedRow> = rows::selected(query, conn).await?;
    let earlier: Vec<i64> = rows
        .iter()
        .filter(|row| row.address.is_none())
        .map(|row| row.id.to_db())
        .collect();
    let earlier = load_in!(conn, interface, Id, &earlier);
    let earlier = of(conn, &earlier).await?;
    rows.into_iter().map(|row| serve(row, &earlier)).collect()
}

fn serve(row: ServedRow, earlier: &HashMap<i64, InterfaceAddresses>) -> Result<Served> {
    let damaged = |why| rows::damaged("interfaces", row.id.0, why);
    let v4 = |address: Address| {
        address
            .v4()
            .ok_or_else(|| damaged("its primary address is none of IPv4"))
    };
    let (private, public) = match (row.address, earlier.get(&row.id.to_db())) {
        (Some(address), _) => (v4(address)?, row.public_address.map(v4).transpose()?),
        (None, Some(addresses)) => (addresses.private, addresses.public),
        (None, None) => return Err(damaged("it has no address")),
    };
    Ok(Served {
        id: row.id.0,
        subnet: row.subnet.0,
        mac: row.mac.0,
        private,
        public,
    })
}

/// The numbers of the interfaces that [`served`] has and of their security groups, a pair for each membership.
///
/// # Errors
/// Those of the database.
pub async fn served_groups(conn: &impl ConnectionTrait, host: &str, vpc: i64) -> Result<Vec<(i64, i64)>> {
    #[derive(FromQueryResult)]
    struct Member {
        interface: i64,
        security_group: i64,
    }
    let groups: RelationDef = interface::Entity::belongs_to(interface_group::Entity)
        .from(interface::Column::Id)
        .to(interface_group::Column::Interface)
        .into();
    let query = on_host(interface::Entity::find(), host, vpc)
        .select_only()
        .columns([
            interface_group::Column::Interface,
            interface_group::Column::SecurityGroup,
        ])
        .join(JoinType::InnerJoin, groups);
    let rows: Vec<Member> = rows::selected(query, conn).await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.interface, row.security_group))
        .collect())
}

fn on_host(query: Select<interface::Entity>, host: &str, vpc: i64) -> Select<interface::Entity> {
    let instances: RelationDef = interface::Entity::belongs_to(instance::Entity)
        .from(interface::Column::Instance)
        .to(instance::Column::Id)
        .into();
    query
        .join(JoinType::InnerJoin, instances)
        .filter(interface::Column::Vpc.eq(vpc))
        .filter(instance::Column::Host.eq(host))
        .filter(instance::Column::Claimed.eq(1))
}

/// Adds the addresses of new interfaces; the error is the database's, which says whether one is taken.
///
/// # Errors
/// Those of the database.
pub async fn insert(
    txn: &impl ConnectionTrait,
    rows: &[interface_address::Model],
) -> std::result::Result<(), sea_orm::DbErr> {
    for rows in rows.chunks(1000) {
        let rows = rows.iter().cloned().map(interface_address::ActiveModel::from);
        interface_address::Entity::insert_many(rows)
            .exec_without_returning(txn)
            .await?;
    }
    Ok(())
}

/// Gives back all addresses of interfaces.
///
/// # Errors
/// Those of the database.
pub async fn release(conn: &impl ConnectionTrait, interfaces: &[i64]) -> Result<()> {
    interface_address::Entity::delete_many()
        .filter(interface_address::Column::Interface.is_in(interfaces.iter().copied()))
        .exec(conn)
        .await
        .map_err(failed)
        .map(drop)
}

#[cfg(test)]
mod tests {
    use cumulet_domain::account::AccountId;

    use super::*;
    use crate::entity::columns::Owner;

    fn interface() -> interface::Model {
        interface::Model {
            id: Key::from_db(1 << 40),
            account: Owner(AccountId(1)),
            instance: Key::from_db(1),
            device_index: Count(0),
            attachment: Key::from_db(1),
            vpc: Key::from_db(1),
            subnet: Key::from_db(1),
            mac: Ethernet(Mac([2, 0, 0, 0, 0, 2])),
            private_ip: Ipv4([10, 0, 0, 9].into()),
            public_ip: None,
            description: String::new(),
            created_at: 0,
        }
    }

    #[test]
    fn the_primary_address_is_the_one_of_index_zero() {
        let row = interface();
        let address = |index, text: &str| interface_address::Model {
            address: Address(text.parse().unwrap()),
            address_index: Count(index),
            ..primary(&row, Ipv4Addr::LOCALHOST, None)
        };
        let rows = vec![
            address(2, "2001:db8::1"),
            address(0, "10.0.0.9"),
            address(1, "10.0.0.10"),
        ];
        let of = gathered(&row, rows).unwrap();
        assert_eq!(of.private, Ipv4Addr::new(10, 0, 0, 9));
        let others: Vec<String> = of.secondary.iter().map(|one| one.private.to_string()).collect();
        assert_eq!(others, ["10.0.0.10", "2001:db8::1"]);
        for damaged in [vec![address(1, "10.0.0.9")], vec![address(0, "2001:db8::1")]] {
            let error = gathered(&row, damaged).unwrap_err().to_string();
            assert!(
                error.contains("interface_addresses") && error.contains("eni-"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_an_earlier_program_has_made_has_its_own_addresses() {
        let mut row = interface();
        row.public_ip = Some(Ipv4([198, 18, 0, 7].into()));
        let of = of_earlier(&row);
        assert_eq!(
            (of.private.to_string(), of.public),
            ("10.0.0.9".into(), Some([198, 18, 0, 7].into()))
        );
    }
}
