//! The column type of texts that don't print: what is sealed with the master key, and what was kept in the
//! clear before it was.

use std::fmt;

use sea_orm::DeriveValueType;

/// A text that prints as `[redacted]`.
#[derive(Clone, PartialEq, Eq, DeriveValueType)]
pub struct SecretText(String);

impl SecretText {
    /// The text. Don't let it reach a log line or an error message.
    #[inline]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        SecretText(text)
    }
}

impl From<&str> for SecretText {
    fn from(text: &str) -> Self {
        SecretText(text.to_owned())
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cumulet_domain::account::AccountId;

    use crate::entity::{
        access_key,
        columns::{Flag, Owner},
        setting,
    };

    #[test]
    fn rows_with_secrets_print_nothing_of_them() {
        let secret = || SecretText::from("canary".to_owned());
        let key = access_key::Model {
            id: "AKIA".into(),
            user_id: "AIDA".into(),
            account: Owner(AccountId(1)),
            secret: secret(),
            enabled: Flag(true),
            created_at: 0,
        };
        let setting = setting::Model {
            name: "console_key".into(),
            value: secret(),
        };
        for printed in [
            format!("{key:?}"),
            format!("{setting:#?}"),
            format!("{:?}", secret()),
        ] {
            assert!(
                printed.contains("[redacted]") && !printed.contains("canary"),
                "{printed}"
            );
        }
    }
}
