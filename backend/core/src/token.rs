//! Client tokens: a request that is sent twice is done once. The token, the hash of the request and what it
//! made are one row, written in the transaction that makes it. The calls that take a ClientToken go through
//! it.

use cumulet_domain::{Error, Result, account::AccountId, time::Timestamp};
use sea_orm::{ActiveValue::Set, ConnectionTrait, EntityTrait};

use cumulet_store::{
    entity::{client_token, columns::Owner},
    failed,
};

/// What a client sent to recognise its request by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientToken {
    /// 1 to 64 printable ASCII characters.
    pub token: String,
    /// A hash of all else in the request, made by the door.
    pub request_hash: String,
}

impl ClientToken {
    /// Checks the token's form.
    pub fn validate(&self) -> Result<()> {
        let printable = self.token.bytes().all(|b| (0x20..0x7f).contains(&b));
        if self.token.is_empty() || self.token.len() > 64 || !printable {
            let reason = "a client token has 1 to 64 ASCII characters";
            return Err(Error::invalid("ClientToken", &self.token, reason));
        }
        Ok(())
    }

    /// What the token made before, if it was used.
    pub async fn find(
        &self,
        conn: &impl ConnectionTrait,
        account: AccountId,
        operation: &str,
    ) -> Result<Option<String>> {
        let key = (Owner(account), operation.to_owned(), self.token.clone());
        let row = client_token::Entity::find_by_id(key)
            .one(conn)
            .await
            .map_err(failed)?;
        match row {
            None => Ok(None),
            Some(row) if row.request_hash == self.request_hash => Ok(Some(row.result)),
            Some(_) => Err(Error::IdempotentParameterMismatch {
                token: self.token.clone(),
            }),
        }
    }

    /// Remembers what the token made.
    pub async fn keep(
        &self,
        conn: &impl ConnectionTrait,
        account: AccountId,
        operation: &str,
        result: String,
        now: Timestamp,
    ) -> Result<()> {
        let row = client_token::ActiveModel {
            account: Set(Owner(account)),
            operation: Set(operation.to_owned()),
            token: Set(self.token.clone()),
            request_hash: Set(self.request_hash.clone()),
            result: Set(result),
            created_at: Set(now.0),
        };
        let insert = client_token::Entity::insert(row)
            .exec_without_returning(conn)
            .await;
        insert.map(drop).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_short_printable_ascii() {
        for (text, ok) in [
            ("a", true),
            (&*"x".repeat(64), true),
            ("", false),
            (&*"x".repeat(65), false),
            ("naïve", false),
            ("tab\there", false),
        ] {
            let token = ClientToken {
                token: text.into(),
                request_hash: String::new(),
            };
            assert_eq!(token.validate().is_ok(), ok, "{text:?}");
        }
    }
}
