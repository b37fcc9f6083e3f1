//! Tunnel addresses of hosts: whether a host has one that counts, where it needs one.

use cumulet_domain::{
    Result,
    host::{NotReady, SIMULATED},
    id::HostId,
};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect};

use crate::{
    entity::{columns::Ipv4, host},
    first,
};

/// What is the matter with a host whose tunnels would end elsewhere than where others send to: it takes no launches.
pub fn unconfirmed(id: &HostId, told: Option<Ipv4>, confirmed: Option<Ipv4>) -> Option<NotReady> {
    let reason = match (told, confirmed) {
        _ if told == confirmed => return None,
        (None, _) => "it tells no tunnel address, and has a confirmed one",
        (Some(_), None) => "its tunnel address is not confirmed",
        (Some(_), Some(_)) => "its tunnel address is not the confirmed one",
    };
    Some(NotReady {
        reason: reason.into(),
        cure: Some(format!(
            "compare the addresses in `cumulet admin host show {id}` with the host's own, then \
             `cumulet admin host confirm {id}`"
        )),
    })
}

/// What is the matter with a host that has no tunnel address in a cloud that has other hosts: its instances would not
/// reach those of their VPC elsewhere. The cloud's first host needs none before another one has: it goes on alone until
/// then.
pub fn untunnelled(id: &HostId) -> NotReady {
    NotReady {
        reason: "it has no tunnel address, and the cloud has other hosts".into(),
        cure: Some(format!(
            "set `network.tunnel_address` there to an address that the other hosts reach, then \
             `cumulet admin host confirm {id}`"
        )),
    }
}

/// Whether the cloud has hosts to which this one, known since then, would need tunnels.
///
/// # Errors
/// Those of the database.
pub async fn has_others(conn: &impl ConnectionTrait, id: &HostId, since: Option<i64>) -> Result<bool> {
    use host::Column as C;
    let mut needing = Condition::any().add(C::ConfirmedTunnel.is_not_null());
    needing = match since {
        None => needing.add(C::CreatedAt.is_not_null()),
        // Of two that have come at once the names decide.
        Some(since) => needing.add(C::CreatedAt.lt(since)).add(
            Condition::all()
                .add(C::CreatedAt.eq(since))
                .add(C::Id.lt(id.0.as_str())),
        ),
    };
    let query = host::Entity::find()
        .select_only()
        .column(C::CreatedAt)
        .filter(C::Id.ne(id.0.as_str()))
        .filter(C::Hypervisor.ne(SIMULATED))
        .filter(needing)
        .limit(1);
    Ok(first::<_, i64>(query, conn).await?.is_some())
}
