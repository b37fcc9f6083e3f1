//! Typed resource ids: a random 64-bit number and a kind.
//!
//! EC2 prints a prefix, a dash and 17 hexadecimal digits (a zero and the number: AWS's long form);
//! the database holds the number alone. Old ids of 8 digits parse (their value is below 2^32, which
//! is never given out) and so are never found.

use std::{fmt, hash, marker::PhantomData, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What an id names. The one list of kinds and their EC2 prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum ResourceKind {
    Instance,
    Reservation,
    Image,
    Volume,
    Snapshot,
    SecurityGroup,
    SecurityGroupRule,
    Vpc,
    Subnet,
    NetworkInterface,
    InterfaceAttachment,
    KeyPair,
    RouteTable,
    InternetGateway,
    NetworkAcl,
    DhcpOptions,
    Address,
    Operation,
    PlacementGroup,
    Aggregate,
}

impl ResourceKind {
    /// Every kind, in the order of the declaration.
    pub const ALL: [ResourceKind; 20] = [
        ResourceKind::Instance,
        ResourceKind::Reservation,
        ResourceKind::Image,
        ResourceKind::Volume,
        ResourceKind::Snapshot,
        ResourceKind::SecurityGroup,
        ResourceKind::SecurityGroupRule,
        ResourceKind::Vpc,
        ResourceKind::Subnet,
        ResourceKind::NetworkInterface,
        ResourceKind::InterfaceAttachment,
        ResourceKind::KeyPair,
        ResourceKind::RouteTable,
        ResourceKind::InternetGateway,
        ResourceKind::NetworkAcl,
        ResourceKind::DhcpOptions,
        ResourceKind::Address,
        ResourceKind::Operation,
        ResourceKind::PlacementGroup,
        ResourceKind::Aggregate,
    ];

    /// The part of a printed id before the dash (EC2 user guide, "Resource IDs").
    pub const fn prefix(self) -> &'static str {
        match self {
            ResourceKind::Instance => "i",
            ResourceKind::Reservation => "r",
            ResourceKind::Image => "ami",
            ResourceKind::Volume => "vol",
            ResourceKind::Snapshot => "snap",
            ResourceKind::SecurityGroup => "sg",
            ResourceKind::SecurityGroupRule => "sgr",
            ResourceKind::Vpc => "vpc",
            ResourceKind::Subnet => "subnet",
            ResourceKind::NetworkInterface => "eni",
            ResourceKind::InterfaceAttachment => "eni-attach",
            ResourceKind::KeyPair => "key",
            ResourceKind::RouteTable => "rtb",
            ResourceKind::InternetGateway => "igw",
            ResourceKind::NetworkAcl => "acl",
            ResourceKind::DhcpOptions => "dopt",
            ResourceKind::Address => "eipalloc",
            ResourceKind::Operation => "op",
            ResourceKind::PlacementGroup => "pg",
            ResourceKind::Aggregate => "agg",
        }
    }

    /// The resource type as tag specifications and DescribeTags spell it.
    pub const fn resource_type(self) -> &'static str {
        match self {
            ResourceKind::Instance => "instance",
            ResourceKind::Reservation => "reservation",
            ResourceKind::Image => "image",
            ResourceKind::Volume => "volume",
            ResourceKind::Snapshot => "snapshot",
            ResourceKind::SecurityGroup => "security-group",
            ResourceKind::SecurityGroupRule => "security-group-rule",
            ResourceKind::Vpc => "vpc",
            ResourceKind::Subnet => "subnet",
            ResourceKind::NetworkInterface => "network-interface",
            ResourceKind::InterfaceAttachment => "network-interface-attachment",
            ResourceKind::KeyPair => "key-pair",
            ResourceKind::RouteTable => "route-table",
            ResourceKind::InternetGateway => "internet-gateway",
            ResourceKind::NetworkAcl => "network-acl",
            ResourceKind::DhcpOptions => "dhcp-options",
            ResourceKind::Address => "elastic-ip",
            ResourceKind::Operation => "operation",
            ResourceKind::PlacementGroup => "placement-group",
            ResourceKind::Aggregate => "aggregate",
        }
    }

    /// The kind whose printed ids look like `text`, by its prefix alone.
    pub fn of(text: &str) -> Option<ResourceKind> {
        let (prefix, _) = text.rsplit_once('-')?;
        ResourceKind::ALL.into_iter().find(|kind| kind.prefix() == prefix)
    }
}

/// A marker type for each [`ResourceKind`], so that a volume's id does not pass for an instance's.
pub trait Resource: 'static {
    /// The kind that the marker stands for.
    const KIND: ResourceKind;
}

/// The id of a resource of kind `R`.
pub struct Id<R: Resource>(u64, PhantomData<fn() -> R>);

impl<R: Resource> Id<R> {
    /// The id with this number.
    pub const fn new(number: u64) -> Self {
        Id(number, PhantomData)
    }

    /// A new id. Numbers below 2^32 are never given out: they belong to the old short form.
    pub fn random(rng: &mut dyn rand::Rng) -> Self {
        loop {
            let number = rng.next_u64();
            if number >= 1 << 32 {
                return Id::new(number);
            }
        }
    }

    /// The number alone.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The number as the database keeps it (the same 64 bits, signed).
    pub const fn to_db(self) -> i64 {
        self.0.cast_signed()
    }

    /// The inverse of [`Id::to_db`].
    pub const fn from_db(number: i64) -> Self {
        Id::new(number.cast_unsigned())
    }

    /// A name of at most 13 characters for places too narrow for the printed form, such as a network
    /// device's: the number in lower-case base 32 (Crockford's alphabet).
    pub fn short(self) -> String {
        const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        (0..13)
            .rev()
            .map(|i| char::from(DIGITS[((self.0 >> (5 * i)) & 31) as usize]))
            .collect()
    }
}

/// A text that is not an id of the wanted kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an id of the form {prefix}-0123456789abcdef0", prefix = kind.prefix())]
pub struct Malformed {
    /// The wanted kind.
    pub kind: ResourceKind,
    /// What was given.
    pub text: String,
}

impl<R: Resource> FromStr for Id<R> {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let malformed = || Malformed {
            kind: R::KIND,
            text: text.chars().take(64).collect(),
        };
        let digits = text
            .strip_prefix(R::KIND.prefix())
            .and_then(|rest| rest.strip_prefix('-'))
            .filter(|digits| digits.len() == 8 || (digits.len() == 17 && digits.starts_with('0')))
            .filter(|digits| {
                digits
                    .bytes()
                    .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
            })
            .ok_or_else(malformed)?;
        u64::from_str_radix(digits, 16)
            .map(Id::new)
            .map_err(|_| malformed())
    }
}

impl<R: Resource> fmt::Display for Id<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:017x}", R::KIND.prefix(), self.0)
    }
}

impl<R: Resource> fmt::Debug for Id<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<R: Resource> Clone for Id<R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R: Resource> Copy for Id<R> {}
impl<R: Resource> PartialEq for Id<R> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<R: Resource> Eq for Id<R> {}
impl<R: Resource> PartialOrd for Id<R> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<R: Resource> Ord for Id<R> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}
impl<R: Resource> hash::Hash for Id<R> {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}
impl<R: Resource> Serialize for Id<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de, R: Resource> Deserialize<'de> for Id<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

macro_rules! kinds {
    ($($kind:ident => $alias:ident),* $(,)?) => {
        /// One empty marker type for each kind of resource.
        pub mod marker {
            $(
                #[doc = concat!("Marks ids of kind `", stringify!($kind), "`.")]
                #[derive(Clone, Copy, Debug)]
                pub enum $kind {}
                impl super::Resource for $kind {
                    const KIND: super::ResourceKind = super::ResourceKind::$kind;
                }
            )*
        }
        $(
            #[doc = concat!("The id of a resource of kind `", stringify!($kind), "`.")]
            pub type $alias = Id<marker::$kind>;
        )*
    };
}

kinds! {
    Instance => InstanceId,
    Reservation => ReservationId,
    Image => ImageId,
    Volume => VolumeId,
    Snapshot => SnapshotId,
    SecurityGroup => SecurityGroupId,
    SecurityGroupRule => SecurityGroupRuleId,
    Vpc => VpcId,
    Subnet => SubnetId,
    NetworkInterface => NetworkInterfaceId,
    InterfaceAttachment => InterfaceAttachmentId,
    KeyPair => KeyPairId,
    RouteTable => RouteTableId,
    InternetGateway => InternetGatewayId,
    NetworkAcl => NetworkAclId,
    DhcpOptions => DhcpOptionsId,
    Address => AddressId,
    Operation => OperationId,
    PlacementGroup => PlacementGroupId,
    Aggregate => AggregateId,
}

/// The name of a host (a compute worker), unique in the cloud: letters, digits, `.`, `-`, `_`; at most 64.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostId(pub String);

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_the_long_form_and_parses_it_back() {
        let id = InstanceId::new(0x1234_5678_9abc_def0);
        assert_eq!(id.to_string(), "i-0123456789abcdef0");
        assert_eq!("i-0123456789abcdef0".parse::<InstanceId>(), Ok(id));
        assert_eq!(InstanceId::from_db(id.to_db()), id);
        let top = InstanceId::new(u64::MAX);
        assert_eq!(InstanceId::from_db(top.to_db()), top);
    }

    #[test]
    fn old_short_ids_parse_and_are_never_given_out() {
        assert_eq!(
            "i-1a2b3c4d".parse::<InstanceId>(),
            Ok(InstanceId::new(0x1a2b_3c4d))
        );
    }

    #[test]
    fn refuses_what_is_not_an_id_of_the_kind() {
        for text in [
            "",
            "i",
            "i-",
            "i-123",
            "vol-0123456789abcdef0",
            "i-0123456789ABCDEF0",
            "i-0123456789abcdef",
            "i-1123456789abcdef0",
            "i-0123456789abcdefg",
            "i-0123456789abcdef01",
            "i -0123456789abcde",
            "i-0123\n56789abcdef0",
        ] {
            assert!(text.parse::<InstanceId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn prefixes_are_unique_and_lead_back_to_the_kind() {
        for kind in ResourceKind::ALL {
            assert_eq!(
                ResourceKind::of(&format!("{}-0123456789abcdef0", kind.prefix())),
                Some(kind)
            );
        }
        assert_eq!(ResourceKind::of("nothing"), None);
    }

    #[test]
    fn short_names_fit_a_device_name_and_differ() {
        assert_eq!(InstanceId::new(0).short(), "0000000000000");
        assert_eq!(InstanceId::new(u64::MAX).short(), "fzzzzzzzzzzzz");
        assert_ne!(InstanceId::new(1).short(), InstanceId::new(2).short());
    }
}
