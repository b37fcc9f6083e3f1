//! The key that an account has by name: EBS's own, which data keys are protected with where no other is named. Here it is
//! a name alone, since every data key is sealed with the cloud's master key; other keys than it there are none.

use cumulet_domain::{Error, Result, account::AccountId, volume::EncryptionAsked};
use sha2::{Digest as _, Sha256};

/// Its alias in every account.
const ALIAS: &str = "alias/aws/ebs";

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountKey {
    region: String,
    account: AccountId,
}

impl AccountKey {
    /// An account's in a region.
    pub fn new(region: &str, account: AccountId) -> Self {
        AccountKey {
            region: region.to_owned(),
            account,
        }
    }

    /// Its id, a UUID. It follows from the region and the account's number: nothing has to be kept, opened or asked for
    /// to show it, and it stays when the master key is another, so that no client sees its volumes change. (It is no
    /// secret, and nothing is.)
    pub fn id(&self) -> String {
        let mut digest = Sha256::new();
        digest.update(format!("{ALIAS} {} {}", self.region, self.account));
        let digest = digest.finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        // RFC 9562, version 8: made in a way of one's own.
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let hex = hex::encode(bytes);
        let (a, rest) = hex.split_at(8);
        let (b, rest) = rest.split_at(4);
        let (c, rest) = rest.split_at(4);
        let (d, e) = rest.split_at(4);
        format!("{a}-{b}-{c}-{d}-{e}")
    }

    /// Its name everywhere.
    pub fn arn(&self) -> String {
        self.named(&format!("key/{}", self.id()))
    }

    fn named(&self, resource: &str) -> String {
        format!("arn:aws:kms:{}:{}:{resource}", self.region, self.account)
    }

    /// Whether a text names it: by its id or its alias, or by the ARN of one of them.
    fn is(&self, text: &str) -> bool {
        text == ALIAS || text == self.id() || text == self.arn() || text == self.named(ALIAS)
    }

    /// Refuses every other key. `name` is the parameter's.
    ///
    /// # Errors
    /// `InvalidParameter`.
    pub fn check(&self, name: &str, text: &str) -> Result<()> {
        if self.is(text) {
            return Ok(());
        }
        let reason = format!("the account's only key is {ALIAS}, which is {}", self.arn());
        Err(Error::invalid(name, text, reason))
    }

    /// Refuses every other key in what a request says of encryption, and one without encryption.
    ///
    /// # Errors
    /// `ParameterDependency`; `InvalidParameter`.
    pub fn check_asked(&self, name: &str, asked: &EncryptionAsked) -> Result<()> {
        let Some(text) = &asked.key else { return Ok(()) };
        if asked.encrypted != Some(true) {
            return Err(Error::ParameterDependency {
                parameter: "KmsKeyId",
                needs: "Encrypted",
            });
        }
        self.check(name, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> AccountKey {
        AccountKey::new("us-east-1", AccountId(123_456_789_012))
    }

    #[test]
    fn each_of_its_spellings_names_it_and_nothing_else_does() {
        let id = key().id();
        for (text, right) in [
            ("alias/aws/ebs".to_owned(), true),
            (
                "arn:aws:kms:us-east-1:123456789012:alias/aws/ebs".to_owned(),
                true,
            ),
            (id.clone(), true),
            (format!("arn:aws:kms:us-east-1:123456789012:key/{id}"), true),
            (format!("arn:aws:kms:eu-west-1:123456789012:key/{id}"), false),
            (format!("arn:aws:kms:us-east-1:210987654321:key/{id}"), false),
            (id.to_uppercase(), false),
            ("alias/mine".to_owned(), false),
            ("aws/ebs".to_owned(), false),
            (String::new(), false),
        ] {
            let found = key().check("KmsKeyId", &text);
            assert_eq!(found.is_ok(), right, "{text}: {found:?}");
        }
    }

    #[test]
    fn its_id_is_a_uuid_of_its_own_and_stays() {
        let id = key().id();
        assert_eq!(id, key().id());
        assert_eq!(id.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert_eq!(&id[14..15], "8");
        assert!("89ab".contains(&id[19..20]), "{id}");
        assert_ne!(id, AccountKey::new("us-east-1", AccountId(123_456_789_013)).id());
        assert_ne!(id, AccountKey::new("us-east-2", AccountId(123_456_789_012)).id());
    }

    #[test]
    fn a_key_wants_encryption() {
        let asked = |encrypted, key: Option<&str>| EncryptionAsked {
            encrypted,
            key: key.map(str::to_owned),
        };
        let needs = Err(Error::ParameterDependency {
            parameter: "KmsKeyId",
            needs: "Encrypted",
        });
        for (asked, expected) in [
            (asked(None, None), Ok(())),
            (asked(Some(false), None), Ok(())),
            (asked(Some(true), Some(ALIAS)), Ok(())),
            (asked(Some(false), Some(ALIAS)), needs.clone()),
            (asked(None, Some("alias/mine")), needs),
        ] {
            assert_eq!(key().check_asked("KmsKeyId", &asked), expected, "{asked:?}");
        }
    }
}
