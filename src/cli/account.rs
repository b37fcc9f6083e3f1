//! `cumulet account`, `cumulet user`, `cumulet access-key`: the cloud's accounts, users and keys.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use cumulet_backend::{
    api::{
        Parts,
        accounts::{self, CredentialCache},
    },
    store::settings,
};
use cumulet_domain::account::{AccountId, Role};

use super::{CloudArgs, operator};
use crate::{telemetry::say, wiring};

/// `cumulet account`.
#[derive(Debug, Subcommand)]
pub(crate) enum Account {
    /// Make an account with a default network; prints its number.
    Create(CreateAccount),
    /// List the accounts.
    List(CloudArgs),
}

/// `cumulet account create`.
#[derive(Args, Debug)]
pub(crate) struct CreateAccount {
    #[command(flatten)]
    cloud: CloudArgs,
    /// The account's name, unique in the cloud.
    name: String,
}

/// `cumulet user`.
#[derive(Debug, Subcommand)]
pub(crate) enum User {
    /// Make a user in an account.
    Create(CreateUser),
    /// List an account's users.
    List(OfAccount),
}

/// `cumulet user create`.
#[derive(Args, Debug)]
pub(crate) struct CreateUser {
    #[command(flatten)]
    of: OfAccount,
    /// The user's name, unique in the account.
    name: String,
    /// May only read.
    #[arg(long)]
    read_only: bool,
}

/// The account that a command is about.
#[derive(Args, Clone, Debug)]
pub(crate) struct OfAccount {
    #[command(flatten)]
    cloud: CloudArgs,
    /// The account's 12 digits.
    #[arg(long)]
    account: AccountId,
}

/// `cumulet access-key`.
#[derive(Debug, Subcommand)]
pub(crate) enum AccessKey {
    /// Make an access key for a user; prints its id and its secret, once.
    Create(CreateKey),
    /// List an account's access keys.
    List(OfAccount),
    /// Refuse requests signed with a key from now on.
    Disable(OneKey),
    /// Take requests signed with a key again.
    Enable(OneKey),
    /// Delete a key.
    Delete(OneKey),
}

/// `cumulet access-key create`.
#[derive(Args, Debug)]
pub(crate) struct CreateKey {
    #[command(flatten)]
    of: OfAccount,
    /// The user's name.
    #[arg(long, default_value = "admin")]
    user: String,
}

/// One access key.
#[derive(Args, Clone, Debug)]
pub(crate) struct OneKey {
    #[command(flatten)]
    cloud: CloudArgs,
    /// The key's id, `AKIA…`.
    id: String,
}

impl Account {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            Account::Create(create) => operator::run(&create.cloud.clone(), |_, parts| async move {
                let row = accounts::create_account(&parts, &create.name, &zones(&parts).await?).await?;
                say(row.id.0);
                Ok(())
            }),
            Account::List(cloud) => operator::run(&cloud, |_, parts| async move {
                for row in accounts::list_accounts(&parts).await? {
                    say(format_args!("{}  {}", row.id.0, row.name));
                }
                Ok(())
            }),
        }
    }
}

async fn zones(parts: &Parts) -> Result<Vec<String>> {
    let zone = settings::get(parts.store.read(), wiring::ZONE).await?;
    Ok(vec![zone.context(
        "the cloud has not been started yet; `cumulet up` first",
    )?])
}

impl User {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            User::Create(create) => operator::run(&create.of.cloud.clone(), |_, parts| async move {
                let role = if create.read_only {
                    Role::ReadOnly
                } else {
                    Role::Administrator
                };
                say(
                    accounts::create_user(&parts, create.of.account, &create.name, role)
                        .await?
                        .id,
                );
                Ok(())
            }),
            User::List(of) => operator::run(&of.cloud.clone(), |_, parts| async move {
                for row in accounts::list_users(&parts, of.account).await? {
                    say(format_args!("{}  {:14}  {}", row.id, row.role, row.name));
                }
                Ok(())
            }),
        }
    }
}

impl AccessKey {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self {
            AccessKey::Create(create) => operator::run(&create.of.cloud.clone(), |_, parts| async move {
                let key = accounts::create_access_key(&parts, create.of.account, &create.user).await?;
                say(format_args!("{} {}", key.id, key.secret.expose()));
                Ok(())
            }),
            AccessKey::List(of) => operator::run(&of.cloud.clone(), |_, parts| async move {
                for key in accounts::list_access_keys(&parts, of.account).await? {
                    let state = if key.enabled { "enabled" } else { "disabled" };
                    say(format_args!("{}  {state:8}  {}", key.id, key.user_name));
                }
                Ok(())
            }),
            AccessKey::Disable(key) => set_enabled(&key, false),
            AccessKey::Enable(key) => set_enabled(&key, true),
            AccessKey::Delete(key) => operator::run(&key.cloud.clone(), |_, parts| async move {
                Ok(accounts::delete_access_key(&parts, &CredentialCache::default(), &key.id).await?)
            }),
        }
    }
}

fn set_enabled(key: &OneKey, enabled: bool) -> Result<ExitCode> {
    operator::run(&key.cloud, |_, parts| async move {
        Ok(accounts::set_access_key_enabled(&parts, &CredentialCache::default(), &key.id, enabled).await?)
    })
}
