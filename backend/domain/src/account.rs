//! Accounts and principals: who a request speaks for.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::named;

/// An account's number: 12 decimal digits, the first not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccountId(pub u64);

impl AccountId {
    /// A new account number.
    pub fn random(rng: &mut dyn rand::Rng) -> Self {
        AccountId(100_000_000_000 + rng.next_u64() % 900_000_000_000)
    }

    /// The number as the database keeps it.
    pub const fn to_db(self) -> i64 {
        self.0.cast_signed()
    }

    /// The inverse of [`AccountId::to_db`].
    pub const fn from_db(number: i64) -> Self {
        AccountId(number.cast_unsigned())
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012}", self.0)
    }
}

impl FromStr for AccountId {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ok = text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit());
        ok.then(|| text.parse().ok())
            .flatten()
            .map(AccountId)
            .ok_or_else(|| crate::Error::InvalidParameter {
                name: "AccountId".into(),
                value: text.chars().take(64).collect(),
                reason: "an account id has 12 digits".into(),
            })
    }
}

named! {
    /// What a user may do.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    Role {
        /// Everything in the account.
        Administrator = "administrator",
        /// Reads only: every operation of kind read.
        ReadOnly = "read-only",
    }
}

/// Who makes a request: proven by a signature, carried to every decision.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal {
    /// The account whose resources are in reach.
    pub account: AccountId,
    /// The user's unique id, `AIDA…`.
    pub user_id: String,
    /// The user's name in the account.
    pub user_name: String,
    /// The access key that signed.
    pub access_key_id: String,
    /// What the user may do.
    pub role: Role,
}

impl Principal {
    /// The user's Amazon resource name.
    pub fn arn(&self) -> String {
        format!("arn:aws:iam::{}:user/{}", self.account, self.user_name)
    }
}
