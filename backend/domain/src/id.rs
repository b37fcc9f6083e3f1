//! Typed resource ids: a random 64-bit number and a kind.
//!
//! EC2 prints a prefix, a dash and 17 hexadecimal digits (a zero and the number: AWS's long form);
//! the database holds the number alone. What else is well-formed, ids of 8 digits and those of 17 whose
//! first is not a zero, parses too, is printed as it came, and is never found: no row has its number.

use std::{fmt, hash, marker::PhantomData, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

impl ResourceKind {
    /// The kind of the resource that `text` is an id of: a prefix and well-formed digits, some thirty
    /// characters at the most. Nothing else that a client sends passes for one.
    pub fn of(text: &str) -> Option<ResourceKind> {
        let (_, digits) = text.rsplit_once('-')?;
        digits.parse::<Digits>().ok()?;
        ResourceKind::of_prefix(text)
    }

    /// The kind whose ids begin as `text` does, whatever follows: what somebody meant who got an id wrong.
    pub fn of_prefix(text: &str) -> Option<ResourceKind> {
        let (prefix, _) = text.rsplit_once('-')?;
        ResourceKind::ALL.into_iter().find(|kind| kind.prefix() == prefix)
    }
}

/// A marker type for each [`ResourceKind`], so that a volume's id does not pass for an instance's.
pub trait Resource: 'static {
    /// The kind that the marker stands for.
    const KIND: ResourceKind;
}

/// The part of a printed id after the dash, whatever its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digits {
    number: u64,
    form: Form,
}

/// How digits are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Form {
    /// A zero and the number in 16 digits: what this cloud gives out.
    Own,
    /// 8 digits, as ids were before 2016.
    Short,
    /// 17 digits that begin with this one, which is not a zero.
    Foreign(u8),
}

impl Digits {
    /// What this cloud prints for a number.
    pub const fn new(number: u64) -> Self {
        let form = Form::Own;
        Digits { number, form }
    }

    /// The number as the database keeps it (the same 64 bits, signed). Digits of another form than this
    /// cloud's have one that no row has: those below 2^32 are never given out.
    pub const fn to_db(self) -> i64 {
        match self.form {
            Form::Own | Form::Short => self.number.cast_signed(),
            Form::Foreign(_) => 0,
        }
    }
}

impl FromStr for Digits {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if !text.bytes().all(lower_hex) {
            return Err(());
        }
        let (first, form) = match (text.len(), text.as_bytes().first()) {
            (8, _) => (0, Form::Short),
            (17, Some(b'0')) => (1, Form::Own),
            (17, Some(first)) => (1, Form::Foreign(*first)),
            _ => return Err(()),
        };
        let number = u64::from_str_radix(&text[first..], 16).map_err(drop)?;
        Ok(Digits { number, form })
    }
}

impl fmt::Display for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.form {
            Form::Own => write!(f, "{:017x}", self.number),
            Form::Short => write!(f, "{:08x}", self.number),
            Form::Foreign(first) => write!(f, "{}{:016x}", char::from(first), self.number),
        }
    }
}

/// The id of a resource of kind `R`.
pub struct Id<R: Resource>(Digits, PhantomData<fn() -> R>);

impl<R: Resource> Id<R> {
    /// The id with this number.
    pub const fn new(number: u64) -> Self {
        Id(Digits::new(number), PhantomData)
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
        self.to_db().cast_unsigned()
    }

    /// The id without its kind.
    pub const fn digits(self) -> Digits {
        self.0
    }

    /// The number as the database keeps it: [`Digits::to_db`].
    pub const fn to_db(self) -> i64 {
        self.0.to_db()
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
            .map(|i| char::from(DIGITS[((self.number() >> (5 * i)) & 31) as usize]))
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
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(malformed)?;
        Ok(Id(digits, PhantomData))
    }
}

impl<R: Resource> fmt::Display for Id<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", R::KIND.prefix(), self.0)
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
    ($($kind:ident => $alias:ident, $prefix:literal, $resource_type:literal;)*) => {
        /// What an id names.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs)]
        pub enum ResourceKind {
            $($kind,)*
        }

        impl ResourceKind {
            /// Every kind, in the order of the declaration.
            pub const ALL: [ResourceKind; [$($prefix),*].len()] = [$(ResourceKind::$kind),*];

            /// The part of a printed id before the dash (EC2 user guide, "Resource IDs").
            pub const fn prefix(self) -> &'static str {
                match self {
                    $(ResourceKind::$kind => $prefix,)*
                }
            }

            /// The resource type as tag specifications and DescribeTags spell it.
            pub const fn resource_type(self) -> &'static str {
                match self {
                    $(ResourceKind::$kind => $resource_type,)*
                }
            }
        }

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

// The one list of kinds: the type of their ids, the prefix of these, and the resource type.
kinds! {
    Instance => InstanceId, "i", "instance";
    Reservation => ReservationId, "r", "reservation";
    Image => ImageId, "ami", "image";
    Volume => VolumeId, "vol", "volume";
    Snapshot => SnapshotId, "snap", "snapshot";
    SecurityGroup => SecurityGroupId, "sg", "security-group";
    SecurityGroupRule => SecurityGroupRuleId, "sgr", "security-group-rule";
    Vpc => VpcId, "vpc", "vpc";
    Subnet => SubnetId, "subnet", "subnet";
    NetworkInterface => NetworkInterfaceId, "eni", "network-interface";
    InterfaceAttachment => InterfaceAttachmentId, "eni-attach", "network-interface-attachment";
    KeyPair => KeyPairId, "key", "key-pair";
    RouteTable => RouteTableId, "rtb", "route-table";
    InternetGateway => InternetGatewayId, "igw", "internet-gateway";
    NetworkAcl => NetworkAclId, "acl", "network-acl";
    DhcpOptions => DhcpOptionsId, "dopt", "dhcp-options";
    Address => AddressId, "eipalloc", "elastic-ip";
    Operation => OperationId, "op", "operation";
    PlacementGroup => PlacementGroupId, "pg", "placement-group";
    Aggregate => AggregateId, "agg", "aggregate";
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
        let old: InstanceId = "i-1a2b3c4d".parse().unwrap();
        assert_eq!(
            (old.to_db(), old.to_string().as_str()),
            (0x1a2b_3c4d, "i-1a2b3c4d")
        );
    }

    #[test]
    fn ids_of_other_clouds_are_well_formed_print_as_they_came_and_name_no_row() {
        for first in "123456789abcdef".chars() {
            let text = format!("i-{first}234567890abcdef0");
            let id: InstanceId = text.parse().unwrap();
            assert_eq!((id.to_string(), id.to_db()), (text, 0));
            assert_ne!(id, InstanceId::new(0x2345_6789_0abc_def0));
        }
        let [one, two] =
            ["i-1234567890abcdef0", "i-2234567890abcdef0"].map(|text| text.parse::<InstanceId>());
        assert_ne!(one, two);
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
        let (digits, foreign, short) = ("0123456789abcdef0", "f123456789abcdef0", "1a2b3c4d");
        let (long, name) = ("a".repeat(1 << 20), "<script>alert(1)</script>");
        let none = [
            "",
            "xyz",
            "0123456789abcdef",
            "0123456789ABCDEF0",
            "0123456789abcdef01",
            "0123456789abcdef0 ",
            "0123456789abcdef\n",
            "0123456789abcdef0,i",
            "+123456789abcdef0",
            name,
            &long,
        ];
        for kind in ResourceKind::ALL {
            let id = |digits: &str| format!("{}-{digits}", kind.prefix());
            for digits in [digits, foreign, short] {
                assert_eq!(ResourceKind::of(&id(digits)), Some(kind));
            }
            for wrong in none {
                assert_eq!(ResourceKind::of(&id(wrong)), None, "{kind:?} {wrong:.40}");
                assert_eq!(
                    ResourceKind::of_prefix(&id(wrong)),
                    Some(kind),
                    "{kind:?} {wrong:.40}"
                );
            }
        }
        for text in ["nothing", "zz-0123456789abcdef0", "I-0123456789abcdef0", ""] {
            assert_eq!(
                (ResourceKind::of(text), ResourceKind::of_prefix(text)),
                (None, None),
                "{text}"
            );
        }
    }

    #[test]
    fn short_names_fit_a_device_name_and_differ() {
        assert_eq!(InstanceId::new(0).short(), "0000000000000");
        assert_eq!(InstanceId::new(u64::MAX).short(), "fzzzzzzzzzzzz");
        assert_ne!(InstanceId::new(1).short(), InstanceId::new(2).short());
    }
}
