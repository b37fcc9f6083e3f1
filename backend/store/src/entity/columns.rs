//! Typed columns: what a row's numbers and texts stand for. A value that stands for nothing is an error when the
//! row is read (`store::rows` says of which table and row), and never a default.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use cumulet_domain::{
    account::AccountId,
    id::{Id, Resource},
    network::Mac,
    volume::ROOT_DEVICE,
};
use sea_orm::{
    ColIdx, ColumnType, DbErr, QueryResult, TryFromU64, TryGetError, TryGetable, Value,
    sea_query::{ArrayType, Nullable, ValueType, ValueTypeErr},
};

/// How a type of a column is kept: as which other one, and what of that is none of its values.
trait Kept: Sized {
    type As: TryGetable + ValueType + Nullable;

    fn kept(self) -> Self::As;

    fn read(kept: Self::As) -> Result<Self, String>;
}

/// A kept number as the type that it is outside of the database.
fn in_range<T: TryFrom<i64>>(kept: i64) -> Result<T, String> {
    T::try_from(kept).map_err(|_| format!("{kept} is out of range"))
}

macro_rules! column {
    ([$($of:tt)*] $name:ty) => {
        impl<$($of)*> From<$name> for Value {
            fn from(column: $name) -> Value {
                column.kept().into()
            }
        }

        impl<$($of)*> TryGetable for $name {
            fn try_get_by<I: ColIdx>(row: &QueryResult, index: I) -> Result<Self, TryGetError> {
                let kept = <$name as Kept>::As::try_get_by(row, index)?;
                let damaged = |why| TryGetError::DbErr(DbErr::Type(format!("column {index:?}: {why}")));
                <$name as Kept>::read(kept).map_err(damaged)
            }
        }

        impl<$($of)*> ValueType for $name {
            fn try_from(value: Value) -> Result<Self, ValueTypeErr> {
                let kept = <<$name as Kept>::As as ValueType>::try_from(value)?;
                <$name as Kept>::read(kept).map_err(|_| ValueTypeErr)
            }

            fn type_name() -> String {
                stringify!($name).to_owned()
            }

            fn array_type() -> ArrayType {
                <$name as Kept>::As::array_type()
            }

            fn column_type() -> ColumnType {
                <$name as Kept>::As::column_type()
            }
        }

        impl<$($of)*> Nullable for $name {
            fn null() -> Value {
                <$name as Kept>::As::null()
            }
        }

        // Keys are made in the program, never by the database.
        impl<$($of)*> TryFromU64 for $name {
            fn try_from_u64(_: u64) -> Result<Self, DbErr> {
                Err(DbErr::ConvertFromU64(stringify!($name)))
            }
        }
    };
}

/// The number of a resource of one kind.
pub struct Key<R: Resource>(pub Id<R>);

// Derived ones would want the same of `R`, which has no values.
impl<R: Resource> Clone for Key<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R: Resource> Copy for Key<R> {}

impl<R: Resource> PartialEq for Key<R> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<R: Resource> Eq for Key<R> {}

impl<R: Resource> PartialOrd for Key<R> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<R: Resource> Ord for Key<R> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.to_db().cmp(&other.to_db())
    }
}

impl<R: Resource> Hash for Key<R> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl<R: Resource> From<Id<R>> for Key<R> {
    fn from(id: Id<R>) -> Self {
        Key(id)
    }
}

impl<R: Resource> fmt::Debug for Key<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<R: Resource> Key<R> {
    /// The key of a number that is not typed yet.
    #[inline]
    pub const fn from_db(number: i64) -> Self {
        Key(Id::from_db(number))
    }

    /// The number.
    #[inline]
    pub const fn to_db(self) -> i64 {
        self.0.to_db()
    }
}

impl<R: Resource> Kept for Key<R> {
    type As = i64;

    fn kept(self) -> i64 {
        self.0.to_db()
    }

    fn read(kept: i64) -> Result<Self, String> {
        Ok(Key(Id::from_db(kept)))
    }
}

/// The account that a row belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(pub AccountId);

impl Kept for Owner {
    type As = i64;

    fn kept(self) -> i64 {
        self.0.to_db()
    }

    fn read(kept: i64) -> Result<Self, String> {
        Ok(Owner(AccountId::from_db(kept)))
    }
}

/// Yes or no, kept as 1 and 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flag(pub bool);

impl Kept for Flag {
    type As = i64;

    fn kept(self) -> i64 {
        i64::from(self.0)
    }

    fn read(kept: i64) -> Result<Self, String> {
        match kept {
            0 | 1 => Ok(Flag(kept == 1)),
            other => Err(format!("{other} is neither 0 nor 1")),
        }
    }
}

/// A number that is never below zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Count(pub u32);

impl Kept for Count {
    type As = i64;

    fn kept(self) -> i64 {
        self.0.into()
    }

    fn read(kept: i64) -> Result<Self, String> {
        in_range(kept).map(Count)
    }
}

/// A number from 0 to 255.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Small(pub u8);

impl Kept for Small {
    type As = i64;

    fn kept(self) -> i64 {
        self.0.into()
    }

    fn read(kept: i64) -> Result<Self, String> {
        in_range(kept).map(Small)
    }
}

/// A number that is never below zero and may be large: bytes, a quota, a generation. 63 bits of it are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(pub u64);

impl Amount {
    /// The number as the database has it; the largest that it can have where this one is larger.
    #[inline]
    pub const fn to_db(self) -> i64 {
        if self.0 > i64::MAX.cast_unsigned() {
            i64::MAX
        } else {
            self.0.cast_signed()
        }
    }
}

impl Amount {
    /// The number after it: the next generation.
    #[inline]
    #[must_use]
    pub const fn next(self) -> Self {
        Amount(self.0.saturating_add(1))
    }
}

impl Kept for Amount {
    type As = i64;

    fn kept(self) -> i64 {
        self.to_db()
    }

    fn read(kept: i64) -> Result<Self, String> {
        in_range(kept).map(Amount)
    }
}

/// An Ethernet address, kept as a number of 48 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ethernet(pub Mac);

impl Kept for Ethernet {
    type As = i64;

    fn kept(self) -> i64 {
        let bytes = self.0.0.iter();
        bytes.fold(0, |number, byte| (number << 8) | i64::from(*byte))
    }

    fn read(kept: i64) -> Result<Self, String> {
        match kept.to_be_bytes() {
            [0, 0, bytes @ ..] => Ok(Ethernet(Mac(bytes))),
            _ => Err(format!("{kept} is no Ethernet address")),
        }
    }
}

/// An IPv4 address, kept as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ipv4(pub Ipv4Addr);

impl Kept for Ipv4 {
    type As = i64;

    fn kept(self) -> i64 {
        self.0.to_bits().into()
    }

    fn read(kept: i64) -> Result<Self, String> {
        in_range(kept).map(|bits| Ipv4(Ipv4Addr::from_bits(bits)))
    }
}

/// A value that is kept by its name: a state, a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Named<T>(pub T);

impl<T: FromStr + fmt::Display> Kept for Named<T> {
    type As = String;

    fn kept(self) -> String {
        self.0.to_string()
    }

    fn read(kept: String) -> Result<Self, String> {
        let unknown = || format!("{:?} is none", kept.chars().take(40).collect::<String>());
        kept.parse().map(Named).map_err(|_| unknown())
    }
}

/// The name of a disk at its instance, in EC2's words. Programs of before m0022 name a root after the guest's bus; what
/// one of them writes beside this one reads as it is going to be renamed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device(pub String);

impl Kept for Device {
    type As = String;

    fn kept(self) -> String {
        self.0
    }

    fn read(kept: String) -> Result<Self, String> {
        Ok(Device(match kept.as_str() {
            "/dev/vda" => ROOT_DEVICE.to_owned(),
            _ => kept,
        }))
    }
}

/// An address, kept as the 32 hexadecimal digits of an IPv6 one, so that texts sort as addresses do. An IPv4 address
/// is mapped (`::ffff:a.b.c.d`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub IpAddr);

impl Address {
    /// The address where it is one of IPv4.
    #[inline]
    pub const fn v4(self) -> Option<Ipv4Addr> {
        match self.0 {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }
    }
}

impl From<Ipv4Addr> for Address {
    fn from(address: Ipv4Addr) -> Self {
        Address(address.into())
    }
}

impl Kept for Address {
    type As = String;

    fn kept(self) -> String {
        let bits = match self.0 {
            IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
            IpAddr::V6(address) => address.to_bits(),
        };
        format!("{bits:032x}")
    }

    fn read(kept: String) -> Result<Self, String> {
        let digits = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let whole = kept.len() == 32 && kept.bytes().all(digits);
        let bits = u128::from_str_radix(&kept, 16).ok().filter(|_| whole);
        let damaged = || format!("{:?} is no address", kept.chars().take(40).collect::<String>());
        let address = bits.map(Ipv6Addr::from_bits).ok_or_else(damaged)?;
        Ok(Address(address.to_canonical()))
    }
}

/// Columns print as what they stand for.
macro_rules! printed {
    ($([$($of:tt)*] $name:ty),*) => {
        $(impl<$($of)*> fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        })*
    };
}
printed!(
    [R: Resource] Key<R>, [] Owner, [] Count, [] Amount, [T: fmt::Display] Named<T>, [] Device, [] Ipv4,
    [] Ethernet
);

column!([R: Resource] Key<R>);
column!([] Owner);
column!([] Flag);
column!([] Count);
column!([] Small);
column!([] Amount);
column!([] Ethernet);
column!([] Ipv4);
column!([T: FromStr + fmt::Display] Named<T>);
column!([] Device);
column!([] Address);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lead_back_and_sort_as_they_are() {
        let all = [
            "0.0.0.0",
            "10.0.0.9",
            "10.0.0.10",
            "255.255.255.255",
            "2001:db8::1",
            "fe80::",
        ];
        let kept: Vec<String> = all.map(|text| Address(text.parse().unwrap()).kept()).into();
        assert!(kept.is_sorted(), "{kept:?}");
        assert_eq!(kept[1], "00000000000000000000ffff0a000009");
        for (text, kept) in all.iter().zip(&kept) {
            assert_eq!(Address::read(kept.clone()), Ok(Address(text.parse().unwrap())));
        }
    }

    #[test]
    fn what_stands_for_nothing_is_refused() {
        for bad in [
            "",
            "0",
            "10.0.0.9",
            "00000000000000000000FFFF0A000009",
            "0x000000000000000000ffff0a000009",
        ] {
            assert!(Address::read(bad.into()).is_err(), "{bad:?}");
        }
        assert!(Flag::read(2).is_err() && Flag::read(-1).is_err());
        assert_eq!((Flag::read(0), Flag::read(1)), (Ok(Flag(false)), Ok(Flag(true))));
        assert!(Count::read(-1).is_err() && Count::read(1 << 32).is_err());
        assert!(Small::read(-1).is_err() && Small::read(256).is_err());
        assert!(Amount::read(-1).is_err());
        assert_eq!(
            (Amount::read(7), Amount(u64::MAX).kept()),
            (Ok(Amount(7)), i64::MAX)
        );
        assert!(Ethernet::read(-1).is_err() && Ethernet::read(1 << 48).is_err());
        assert_eq!(
            Ethernet::read(0x0200_0a00_0001),
            Ok(Ethernet(Mac([2, 0, 10, 0, 0, 1])))
        );
        assert_eq!(Ethernet(Mac([2, 0, 10, 0, 0, 1])).kept(), 0x0200_0a00_0001);
        assert!(Ipv4::read(-1).is_err() && Ipv4::read(1 << 32).is_err());
        assert_eq!(Ipv4::read(0x0a00_0001), Ok(Ipv4(Ipv4Addr::new(10, 0, 0, 1))));
        for (kept, device) in [
            ("/dev/vda", "/dev/xvda"),
            ("/dev/sda1", "/dev/sda1"),
            ("/dev/vdab", "/dev/vdab"),
        ] {
            assert_eq!(Device::read(kept.into()), Ok(Device(device.into())));
        }
        let named = Named::<cumulet_domain::volume::VolumeState>::read("lost".into());
        assert_eq!(named, Err("\"lost\" is none".to_owned()));
    }
}
