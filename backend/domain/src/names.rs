//! Enums whose values have names, which a door shows and the database keeps: one declaration makes the list of
//! values, the name of each, `Display` and `FromStr`.

use std::fmt;

/// Declares such an enum: `named! { /** what it is */ Name { Value = "name", } }`. Attributes before a value and
/// before the enum are kept, derives among them.
#[macro_export]
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $value:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs)]
        pub enum $name {
            $($(#[$about])* $value,)*
        }

        impl $name {
            /// Every one.
            pub const ALL: [$name; [$($text),*].len()] = [$($name::$value,)*];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self {
                    $($name::$value => $text,)*
                }
            }

            /// The one with this name.
            pub fn from_name(name: &str) -> Option<$name> {
                match name {
                    $($text => Some($name::$value),)*
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::names::Unknown;

            fn from_str(text: &str) -> Result<Self, $crate::names::Unknown> {
                $name::from_name(text).ok_or($crate::names::Unknown(&[$($text),*]))
            }
        }
    };
}

/// A text that is the name of no value: prints as what it might be, "expecting raw or qcow2".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown(
    /// The names that there are.
    pub &'static [&'static str],
);

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [first @ .., last] if !first.is_empty() => write!(f, "expecting {} or {last}", first.join(", ")),
            names => write!(f, "expecting {}", names.join(", ")),
        }
    }
}

impl std::error::Error for Unknown {}

#[cfg(test)]
mod tests {
    use crate::{
        account::Role,
        image::{DiskFormat, ImageState},
        instance::{Intent, ShutdownBehavior, State},
        placement::{SpreadLevel, Strategy},
        volume::{AttachmentState, VolumeState, VolumeType},
    };

    macro_rules! lead_back {
        ($($name:ident),*) => {
            $(for one in $name::ALL {
                assert_eq!(one.to_string().parse(), Ok(one));
                assert_eq!($name::from_name(one.name()), Some(one));
            }
            for unknown in ["", " ", "Running", "available "] {
                assert_eq!($name::from_name(unknown), None, "{unknown:?}");
            })*
        };
    }

    #[test]
    fn names_lead_back() {
        lead_back!(
            AttachmentState,
            DiskFormat,
            ImageState,
            Intent,
            Role,
            ShutdownBehavior
        );
        assert_eq!(
            "iso".parse::<DiskFormat>().unwrap_err().to_string(),
            "expecting raw or qcow2"
        );
        assert_eq!(
            "rack".parse::<SpreadLevel>().unwrap_err().to_string(),
            "expecting host"
        );
        let wrong = "none".parse::<Strategy>().unwrap_err().to_string();
        assert_eq!(wrong, "expecting cluster, spread or partition");
        lead_back!(SpreadLevel, State, Strategy, VolumeState, VolumeType);
    }
}
