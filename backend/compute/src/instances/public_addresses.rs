//! Public addresses of a launch: as many as the account's quota and the cloud's pool leave. A launch that asks
//! for them makes as many instances as there are addresses; one that would only have been given them goes on
//! without, and its instances say why.

use std::net::Ipv4Addr;

use cumulet_core::{RequestContext, quota};
use cumulet_domain::{Error, Result, account::AccountId, error::Limit, instance::StateReason};
use cumulet_store::{
    batch,
    entity::{account, columns::Amount, instance, interface_address},
    failed, first, lock,
    networks::{self, Wanted},
};
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QuerySelect, sea_query::Expr};

use crate::instances::{
    LaunchSpec,
    launch_plan::{LaunchPlan, subnet_id},
};

/// What there are too few addresses for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shortage {
    /// The account has as many as it may.
    Quota { max: u64 },
    /// Of those that were wanted, so many are free.
    Pool { free: u64, wanted: u64 },
}

impl Shortage {
    /// The refusal of a launch that needs more.
    pub(super) fn error(self) -> Error {
        match self {
            Shortage::Quota { max } => Error::LimitExceeded {
                limit: Limit::PublicAddresses,
                max,
            },
            Shortage::Pool { free, wanted } => Error::InsufficientPublicAddresses { free, wanted },
        }
    }

    /// What an instance says that goes on without one.
    fn reason(self) -> StateReason {
        match self {
            Shortage::Quota { max } => StateReason::new(
                StateReason::ADDRESS_QUOTA,
                format!(
                    "The instance has no public address: the account has its {max} public addresses in use."
                ),
            ),
            Shortage::Pool { .. } => StateReason::new(
                StateReason::NO_ADDRESS,
                "The instance has no public address: none is free in the cx's pool.",
            ),
        }
    }
}

/// Addresses for the first of the instances, and why there are none for the others.
#[derive(Debug)]
pub(super) struct Draw {
    pub(super) addresses: Vec<Ipv4Addr>,
    pub(super) shortage: Option<Shortage>,
}

/// How many addresses may be drawn of those that are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Allowance {
    wanted: usize,
    allowed: usize,
    /// The account's quota.
    max: u64,
}

impl Allowance {
    /// What to draw of the cloud's pool.
    pub(super) fn of(self, cx: &RequestContext) -> Wanted {
        Wanted {
            block: cx.config.public_pool,
            count: self.allowed,
        }
    }

    /// What comes of it, with the addresses that were drawn.
    pub(super) fn draw(self, addresses: Vec<Ipv4Addr>) -> Draw {
        let Allowance { wanted, allowed, max } = self;
        let shortage = if addresses.len() < allowed {
            Some(Shortage::Pool {
                free: addresses.len() as u64,
                wanted: wanted as u64,
            })
        } else {
            (allowed < wanted).then_some(Shortage::Quota { max })
        };
        Draw { addresses, shortage }
    }
}

/// How many addresses the account's quota allows. The account's row is this transaction's, so that nobody else draws
/// for it. An account with `few` instances is known to be nowhere near its quota: an instance has one address at
/// the most.
pub(super) async fn allowance(
    txn: &DatabaseTransaction,
    cx: &RequestContext,
    account: AccountId,
    wanted: usize,
    few: bool,
) -> Result<Allowance> {
    let max = cx.config.public_address_quota();
    let left = if few {
        wanted as u64
    } else {
        left(txn, account, max, wanted as u64).await?
    };
    Ok(Allowance {
        wanted,
        allowed: usize::try_from(left).unwrap_or(wanted),
        max,
    })
}

/// How many of the wanted addresses the account's quota leaves. They are counted only where it can matter: an
/// instance has one at the most, so an account of few instances is nowhere near.
async fn left(txn: &DatabaseTransaction, account: AccountId, max: u64, wanted: u64) -> Result<u64> {
    use interface_address::Column as A;
    let row = quota::load(txn, account).await?;
    if row.instances_used.max(0).cast_unsigned().saturating_add(wanted) <= max {
        return Ok(wanted);
    }
    let count = interface_address::Entity::find()
        .select_only()
        .column_as(A::PublicAddress.count(), "used")
        .filter(A::Account.eq(account.to_db()))
        .filter(A::PublicAddress.is_not_null());
    let used: Option<Amount> = first(count, txn).await?;
    let used = used.unwrap_or_default().0;
    Ok(max.saturating_sub(used).min(wanted))
}

/// How many instances a launch may make that asks for public addresses: at least `spec.min`, as everywhere.
///
/// # Errors
/// `LimitExceeded`, `InsufficientPublicAddresses`.
pub(super) async fn limit(
    txn: &DatabaseTransaction,
    cx: &RequestContext,
    account: AccountId,
    plan: &LaunchPlan,
    spec: &LaunchSpec,
    fitting: i64,
) -> Result<i64> {
    if !plan.public || !is_asked_for(spec) {
        return Ok(fitting);
    }
    lock::rows::<account::Entity>(txn, account::Column::Id, &[account.to_db()]).await?;
    let wanted = usize::try_from(fitting).unwrap_or(0);
    let allowance = allowance(txn, cx, account, wanted, false).await?;
    let none = Wanted {
        block: plan.cidr,
        count: 0,
    };
    let subnet = (subnet_id(plan), none);
    let (_, addresses) = networks::free(txn, &cx.rng, subnet, allowance.of(cx)).await?;
    let draw = allowance.draw(addresses);
    let found = i64::try_from(draw.addresses.len()).unwrap_or(fitting);
    match draw.shortage {
        Some(shortage) if found < i64::from(spec.min) => Err(shortage.error()),
        _ => Ok(found),
    }
}

/// Whether the launch itself asks for public addresses, and not its subnet.
pub(super) fn is_asked_for(spec: &LaunchSpec) -> bool {
    spec.associate_public_ip == Some(true)
}

/// Lets the instances after the first `with` say why they have none.
pub(super) async fn explain(
    txn: &DatabaseTransaction,
    instances: &mut [instance::Model],
    with: usize,
    shortage: Shortage,
) -> Result<()> {
    let reason = shortage.reason();
    let without = instances.get_mut(with..).unwrap_or_default();
    let mut ids = Vec::with_capacity(without.len());
    for row in without {
        row.reason_code = Some(reason.code.clone());
        row.reason_message = Some(reason.message.clone());
        ids.push(row.id.to_db());
    }
    for ids in batch::chunks(&ids) {
        let update = instance::Entity::update_many()
            .col_expr(instance::Column::ReasonCode, Expr::value(reason.code.as_str()))
            .col_expr(
                instance::Column::ReasonMessage,
                Expr::value(reason.message.as_str()),
            )
            .filter(instance::Column::Id.is_in(ids.iter().copied()));
        update.exec(txn).await.map_err(failed)?;
    }
    Ok(())
}
