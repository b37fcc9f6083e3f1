//! Console tokens, which the operator asks for. The signing key is the cloud's, made when a process that opens the
//! database starts and kept sealed; consoles and hosts have its public half alone. Whoever only asks makes none.

use std::time::Duration;

use cumulet_certs::{ConsoleSigner, ConsoleVerifier};
use cumulet_core::Parts;
use cumulet_domain::{
    Error, ResourceKind, Result,
    console::{ConsoleGrant, ConsoleKind},
    id::InstanceId,
    instance::State,
    time::Timestamp,
};
use cumulet_store::{
    Invalidates,
    entity::{columns::Key, host, instance, setting},
    failed, rows, settings,
};
use rand::Rng as _;
use sea_orm::{ActiveValue::Set, EntityTrait};

use crate::boxed;

/// A token as it was made.
#[derive(Debug)]
pub struct Granted {
    /// The token. Its holder has the console.
    pub token: cumulet_certs::SecretString,
    /// The instance's host.
    pub host: String,
    /// From when on it is good for nothing.
    pub expires: Timestamp,
}

/// What an operator reads who asks before a start has made the key.
const NO_KEY: &str = "the cloud has no key for consoles yet: a start with this program makes it, of `cumulet up` or, on several \
                      machines, of one of the roles that open the database (gateway, scheduler, conductor)";

/// What verifies the cloud's tokens. Nothing is changed.
///
/// # Errors
/// Those of the database; `InvalidCombination` where no start has made the key yet; `Internal` where it can't be opened.
#[boxed]
pub async fn verifier(parts: &Parts) -> Result<ConsoleVerifier> {
    Ok(signer(parts).await?.verifier())
}

/// The same for a start, which makes the key if it is not there.
///
/// # Errors
/// Those of the database; `Internal` where the key can't be opened.
#[boxed]
pub async fn prepare(parts: &Parts) -> Result<ConsoleVerifier> {
    let sealed = match settings::get(parts.store.read(), settings::CONSOLE_KEY).await? {
        Some(sealed) => sealed,
        None => make(parts).await?,
    };
    Ok(opened(parts, &sealed)?.verifier())
}

/// A token for one connection to a console of an instance that runs.
///
/// # Errors
/// `NotFound`; `IncorrectState` for an instance that does not run; `InvalidCombination` where its host takes no
/// console connections, or the cloud has no key yet; those of the database.
#[boxed]
pub async fn grant(
    parts: &Parts,
    instance: InstanceId,
    kind: ConsoleKind,
    time: Duration,
) -> Result<Granted> {
    let conn = parts.store.read();
    let row = instance::Entity::find_by_id(Key(instance));
    let row = rows::one(row, conn).await?;
    let row = row.ok_or_else(|| Error::NotFound {
        kind: ResourceKind::Instance,
        id: instance.to_string(),
    })?;
    let host = match row.host {
        Some(host) if row.state.0 == State::Running => host,
        _ => {
            return Err(Error::IncorrectState {
                kind: ResourceKind::Instance,
                id: instance.to_string(),
                state: row.state.0.to_string(),
                expected: State::Running.name().into(),
            });
        }
    };
    let found = rows::one(host::Entity::find_by_id(&host), conn).await?;
    let told = found.as_ref().is_some_and(|row| row.console_address.is_some());
    let address = found.and_then(|row| row.confirmed_console);
    let address = address.ok_or_else(|| Error::InvalidCombination {
        reason: match told {
            true => format!(
                "the console address of the host {host} is not confirmed: `cumulet admin host confirm {host}`"
            ),
            false => format!(
                "the host {host} takes no console connections: give its process the key console.address \
                 (CUMULET_CONSOLE_ADDRESS=IP:PORT, with CUMULET_CONSOLE_PUBLIC_KEY from `cumulet admin console-key`) \
                 and start it again"
            ),
        },
    })?;
    let (now, mut nonce) = (parts.clock.now(), [0; 16]);
    parts.rng.with(|rng| rng.fill_bytes(&mut nonce));
    let expires = now.after(time);
    let token = signer(parts).await?.sign(&ConsoleGrant {
        instance,
        kind,
        address,
        issued: now,
        expires,
        nonce,
    });
    Ok(Granted {
        token: token.into(),
        host,
        expires,
    })
}

/// The cloud's key, as a start has made it.
async fn signer(parts: &Parts) -> Result<ConsoleSigner> {
    let sealed = settings::get(parts.store.read(), settings::CONSOLE_KEY).await?;
    let sealed = sealed.ok_or_else(|| Error::InvalidCombination {
        reason: NO_KEY.into(),
    })?;
    opened(parts, &sealed)
}

fn opened(parts: &Parts, sealed: &str) -> Result<ConsoleSigner> {
    ConsoleSigner::open(&parts.sealer, sealed).map_err(|error| Error::internal(&error))
}

async fn make(parts: &Parts) -> Result<String> {
    let sealed = parts
        .rng
        .with(|rng| ConsoleSigner::generate(rng).seal(&parts.sealer, rng))
        .map_err(|error| Error::internal(&error))?;
    let value = sealed.clone();
    let write = parts.store.write_with(Invalidates::Nothing, move |txn| {
        let row = setting::ActiveModel {
            name: Set(settings::CONSOLE_KEY.into()),
            value: Set(value.clone().into()),
        };
        Box::pin(async move {
            let insert = setting::Entity::insert(row).exec_without_returning(txn);
            insert.await.map(drop).map_err(failed)
        })
    });
    match write.await {
        Ok(()) => Ok(sealed),
        // Another process made one at the same time: the first one is the cloud's.
        Err(error) => {
            let made = settings::get(parts.store.read(), settings::CONSOLE_KEY).await?;
            made.ok_or(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cumulet_backend::{
        api::instances,
        test_support::{self, Rig},
    };
    use cumulet_domain::console::ConsoleRefusal;
    use sea_orm::{ColumnTrait, QueryFilter, sea_query::Expr};

    const TIME: Duration = Duration::from_secs(600);

    async fn on_host(rig: &Rig, id: InstanceId, console: Option<&str>) {
        let console = console.map(str::to_owned);
        let write = rig.cloud.store.write(move |txn| {
            let console = console.clone();
            Box::pin(async move {
                let host = host::Entity::update_many()
                    .col_expr(host::Column::ConfirmedConsole, Expr::value(console));
                host.exec(txn).await.map_err(failed)?;
                let placed = instance::Entity::update_many()
                    .col_expr(instance::Column::Host, Expr::value("host-1"))
                    .filter(instance::Column::Id.eq(id.to_db()));
                placed.exec(txn).await.map(drop).map_err(failed)
            })
        });
        write.await.unwrap();
    }

    #[tokio::test]
    async fn a_token_is_for_an_instance_that_runs_where_consoles_are() {
        let rig = test_support::cloud().await;
        let launched = instances::launch(&rig.cloud, &rig.who, rig.spec()).await.unwrap();
        let id = InstanceId::from_db(launched.instances[0].row.id.to_db());
        let parts = rig.cloud.parts();
        let ask = |id| grant(&parts, id, ConsoleKind::Serial, TIME);
        let error = ask(InstanceId::new(1 << 40)).await.unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }), "{error}");
        let error = ask(id).await.unwrap_err();
        assert!(matches!(error, Error::IncorrectState { .. }), "{error}");
        rig.settle(id, State::Running).await;
        on_host(&rig, id, None).await;
        let error = ask(id).await.unwrap_err();
        let told = error.to_string();
        assert!(
            told.starts_with("the host ") && told.contains("CUMULET_CONSOLE_ADDRESS=IP:PORT"),
            "{told}"
        );
        on_host(&rig, id, Some("10.0.0.9:6081")).await;
        let told = ask(id).await.unwrap_err().to_string();
        assert_eq!(told, NO_KEY);
        prepare(&parts).await.unwrap();
        let made = ask(id).await.unwrap();
        let (key, now) = (verifier(&parts).await.unwrap(), rig.cloud.now());
        let read = key.verify(made.token.expose(), now).unwrap();
        assert_eq!((read.instance, read.kind), (id, ConsoleKind::Serial));
        assert_eq!(
            (read.address.as_str(), made.host.as_str()),
            ("10.0.0.9:6081", "host-1")
        );
        assert_eq!((read.issued, read.expires), (now, made.expires));
        let late = key.verify(made.token.expose(), now.after(TIME));
        assert_eq!(late, Err(ConsoleRefusal::Expired));
        assert_ne!(ask(id).await.unwrap().token.expose(), made.token.expose());
    }

    #[tokio::test]
    async fn a_start_makes_the_key_and_whoever_asks_for_it_makes_none() {
        let (_database, parts, _) = test_support::parts().await;
        let kept = async || {
            settings::get(parts.store.read(), settings::CONSOLE_KEY)
                .await
                .unwrap()
        };
        let error = verifier(&parts).await.unwrap_err();
        assert_eq!(error.to_string(), NO_KEY);
        assert_eq!(kept().await, None);
        let made = prepare(&parts).await.unwrap();
        let first = kept().await;
        assert!(first.is_some());
        assert_eq!(prepare(&parts).await.unwrap(), made);
        assert_eq!(verifier(&parts).await.unwrap(), made);
        assert_eq!(kept().await, first);
    }

    #[tokio::test]
    async fn there_is_one_key_and_it_is_sealed() {
        let (_database, parts, _) = test_support::parts().await;
        let both = tokio::join!(make(&parts), make(&parts));
        assert_eq!(both.0.unwrap(), both.1.unwrap());
        let first = verifier(&parts).await.unwrap();
        assert_eq!(verifier(&parts).await.unwrap(), first);
        let kept = settings::get(parts.store.read(), settings::CONSOLE_KEY)
            .await
            .unwrap();
        assert!(ConsoleSigner::open(&parts.sealer, &kept.unwrap()).is_ok());
    }
}
