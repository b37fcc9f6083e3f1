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
    account::AccountId,
    id::{NetworkInterfaceId, SecurityGroupId},
    network::Mac,
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, JoinType, QueryFilter, QuerySelect,
    RelationDef, Select, sea_query::Expr,
};

use super::{batch::load_in, failed, rows};
use crate::entity::{
    columns::{Address, Count, Key, Owner},
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
        subnet: Key::from_db(interface.subnet),
        address: private.into(),
        interface: Key::from_db(interface.id),
        address_index: Count(0),
        account: Owner(AccountId::from_db(interface.account)),
        vpc: Key::from_db(interface.vpc),
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
    let ids: Vec<i64> = interfaces.iter().map(|row| row.id).collect();
    let mut rows: HashMap<i64, Vec<interface_address::Model>> = HashMap::new();
    for row in load_in!(conn, interface_address, Interface, &ids) {
        rows.entry(row.interface.to_db()).or_default().push(row);
    }
    let mut one = |row: &interface::Model| {
        let of = match rows.remove(&row.id) {
            Some(addresses) => gathered(row, addresses)?,
            None => of_earlier(row)?,
        };
        Ok((row.id, of))
    };
    interfaces.iter().map(&mut one).collect()
}

fn gathered(
    interface: &interface::Model,
    mut rows: Vec<interface_address::Model>,
) -> Result<InterfaceAddresses> {
    rows.sort_by_key(|row| row.address_index);
    let damaged = |why| rows::damaged("interface_addresses", interface_id(interface), why);
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

fn interface_id(row: &interface::Model) -> NetworkInterfaceId {
    NetworkInterfaceId::from_db(row.id)
}

/// What the columns of an interface say, which an earlier program goes by.
fn of_earlier(row: &interface::Model) -> Result<InterfaceAddresses> {
    Ok(InterfaceAddresses {
        private: number(row.id, row.private_ip)?,
        public: row.public_ip.map(|public| number(row.id, public)).transpose()?,
        secondary: Vec::new(),
    })
}

/// An Ethernet address as the database keeps it: 48 bits.
#[inline]
pub fn mac_number(mac: Mac) -> i64 {
    mac.0
        .iter()
        .fold(0, |number, byte| (number << 8) | i64::from(*byte))
}

/// The inverse of [`mac_number`].
///
/// # Errors
/// `Internal` where the row is damaged.
#[inline]
pub fn mac(row: &interface::Model) -> Result<Mac> {
    match row.mac.to_be_bytes() {
        [0, 0, bytes @ ..] => Ok(Mac(bytes)),
        _ => Err(rows::damaged(
            "interfaces",
            interface_id(row),
            format_args!("mac is {}", row.mac),
        )),
    }
}

fn number(interface: i64, address: i64) -> Result<Ipv4Addr> {
    let id = NetworkInterfaceId::from_db(interface);
    rows::fit("interfaces", id, "an address", address).map(|number: u32| number.into())
}

/// An interface that is joined with its addresses, or with nothing where an earlier program has made it.
#[derive(FromQueryResult)]
struct Joined {
    id: i64,
    private_ip: i64,
    address: Option<Address>,
    confirmed_tunnel: Option<i64>,
}

impl Joined {
    /// Hosts know of IPv4 alone.
    fn v4(&self) -> Result<Option<Ipv4Addr>> {
        match self.address {
            Some(address) => Ok(address.v4()),
            None => number(self.id, self.private_ip).map(Some),
        }
    }
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
        .expr_as(Expr::value(Option::<i64>::None), "confirmed_tunnel")
        .join(JoinType::InnerJoin, members)
        .filter(interface_group::Column::SecurityGroup.eq(group.to_db()));
    let rows: Vec<Joined> = rows::selected(query, conn).await?;
    let found = rows.iter().map(Joined::v4).collect::<Result<Vec<_>>>()?;
    let mut found: Vec<Ipv4Addr> = found.into_iter().flatten().collect();
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
    let rows: Vec<Joined> = rows::selected(query, conn).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let (ip, tunnel) = (row.v4()?, row.confirmed_tunnel);
        let of = format_args!("that has {}", NetworkInterfaceId::from_db(row.id)).to_string();
        let tunnel = tunnel.map(|number| rows::fit("hosts", of, "confirmed_tunnel", number));
        found.extend(ip.zip(tunnel.transpose()?.map(Ipv4Addr::from_bits)));
    }
    Ok(found)
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
    use super::*;

    fn interface(mac: i64) -> interface::Model {
        interface::Model {
            id: 1 << 40,
            account: 1,
            instance: 1,
            device_index: 0,
            attachment: 1,
            vpc: 1,
            subnet: 1,
            mac,
            private_ip: 0x0a00_0009,
            public_ip: None,
            description: String::new(),
            created_at: 0,
        }
    }

    #[test]
    fn ethernet_addresses_lead_back() {
        let of: Mac = "02:16:ff:02:03:04".parse().unwrap();
        assert_eq!(mac_number(of), 0x0216_ff02_0304);
        assert_eq!(mac(&interface(mac_number(of))), Ok(of));
        for damaged in [-1, 1 << 48] {
            assert!(mac(&interface(damaged)).is_err(), "{damaged}");
        }
    }

    #[test]
    fn the_primary_address_is_the_one_of_index_zero() {
        let row = interface(2);
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
        let mut row = interface(2);
        row.public_ip = Some(0xc612_0007);
        let of = of_earlier(&row).unwrap();
        assert_eq!(
            (of.private.to_string(), of.public),
            ("10.0.0.9".into(), Some([198, 18, 0, 7].into()))
        );
        row.private_ip = 1 << 32;
        let error = of_earlier(&row).unwrap_err().to_string();
        assert!(
            error.contains("interfaces") && error.contains("4294967296"),
            "{error}"
        );
    }
}
