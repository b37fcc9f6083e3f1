//! Revoking of security group rules. What a rule here can't be is as little there as any other rule that the
//! group does not have.

use cumulet_core::RequestContext;
use cumulet_domain::{
    Error, ResourceKind, Result,
    account::Principal,
    id::SecurityGroupRuleId,
    network::{Direction, Peer, Rule, Traffic},
};
use cumulet_store::{
    authority::{Grant, Permission},
    entity::{security_group, security_group_rule, vpc},
    failed, groups, resource, rows, tags,
};
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter};

use crate::{
    boxed,
    security_groups::{
        GroupName, PeerSpec, RuleView,
        authorize::{existing, missing},
        group, rules,
    },
};

/// Which rules to take away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revoke {
    /// By their ids.
    Ids(Vec<SecurityGroupRuleId>),
    /// By what they say.
    Rules(Vec<(Traffic, PeerSpec)>),
}

/// What was taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revoked {
    /// The rules.
    pub rules: Vec<RuleView>,
    /// The places, in the request, of the rules that the group does not have: in the default VPC these are
    /// told and no error.
    pub unknown: Vec<usize>,
}

/// Takes rules from a group.
///
/// # Errors
/// `NotFound` for a group, or the id of a rule, that is not there; `RuleNotFound` for a rule that the group
/// does not have, outside the default VPC; then nothing has changed.
#[boxed]
pub async fn revoke(
    cx: &RequestContext,
    who: &Principal,
    which: &GroupName,
    direction: Direction,
    what: Revoke,
) -> Result<Revoked> {
    let grant = cx.authorise(
        who,
        match direction {
            Direction::Ingress => Permission::REVOKE_SECURITY_GROUP_INGRESS,
            Direction::Egress => Permission::REVOKE_SECURITY_GROUP_EGRESS,
        },
    )?;
    if matches!(&what, Revoke::Ids(ids) if ids.is_empty())
        || matches!(&what, Revoke::Rules(r) if r.is_empty())
    {
        return Err(missing());
    }
    let (which, call) = (which.clone(), cx.clone());
    let write = cx.store.write(move |txn| {
        Box::pin(async move {
            let group = group::changing(txn, &grant, &which).await?;
            let (rows, unknown) = chosen(txn, &grant, &group, direction, &what).await?;
            resource::show::<security_group_rule::Entity>(txn, &grant, &rows).await?;
            let views = rules::views(txn, rows).await?;
            views.iter().for_each(|rule| call.made(&rule.id));
            let ids: Vec<i64> = views.iter().map(|rule| rule.id.to_db()).collect();
            let delete = security_group_rule::Entity::delete_many()
                .filter(security_group_rule::Column::Id.is_in(ids.clone()));
            delete.exec(txn).await.map_err(failed)?;
            tags::remove(txn, ResourceKind::SecurityGroupRule, &ids).await?;
            let rules = views;
            Ok(Revoked { rules, unknown })
        })
    });
    let revoked = write.await?;
    cx.wake.hosts();
    Ok(revoked)
}

/// The group's rules that are meant, each once, and the places of those that it does not have.
async fn chosen(
    txn: &DatabaseTransaction,
    grant: &Grant,
    group: &security_group::Model,
    direction: Direction,
    what: &Revoke,
) -> Result<(Vec<security_group_rule::Model>, Vec<usize>)> {
    let mut rows = Vec::new();
    for row in existing(txn, group.id.to_db()).await? {
        let rule = groups::rule_of(&row)?;
        if rule.direction == direction {
            rows.push((row, rule));
        }
    }
    let mut places: Vec<usize> = Vec::new();
    let mut unknown = Vec::new();
    match what {
        Revoke::Ids(ids) => {
            for id in ids {
                places.push(place(&rows, *id)?);
            }
        }
        Revoke::Rules(specs) => {
            for (n, (traffic, peer)) in specs.iter().enumerate() {
                let peer = known_peer(txn, grant, group, peer).await?;
                let same = |rule: &Rule| rule.traffic == *traffic && Some(rule.peer) == peer;
                match rows.iter().position(|(_, rule)| same(rule)) {
                    Some(place) => places.push(place),
                    None => unknown.push(n),
                }
            }
        }
    }
    if let Some(first) = unknown.first()
        && !in_default_vpc(txn, group).await?
    {
        let rule = format!("number {} of the request", first + 1);
        return Err(Error::RuleNotFound { rule });
    }
    places.sort_unstable();
    places.dedup();
    let rows = places.into_iter().map(|place| rows[place].0.clone());
    Ok((rows.collect(), unknown))
}

fn place(rows: &[(security_group_rule::Model, Rule)], id: SecurityGroupRuleId) -> Result<usize> {
    let found = rows.iter().position(|(row, _)| row.id.0 == id);
    found.ok_or_else(|| Error::NotFound {
        kind: ResourceKind::SecurityGroupRule,
        id: id.to_string(),
    })
}

/// The other side of a rule that may be there.
async fn known_peer(
    txn: &DatabaseTransaction,
    grant: &Grant,
    group: &security_group::Model,
    peer: &PeerSpec,
) -> Result<Option<Peer>> {
    let rows = match peer {
        PeerSpec::Cidr(cidr) => return Ok(Some(Peer::Cidr(*cidr))),
        PeerSpec::Foreign(_) => return Ok(None),
        PeerSpec::Group(id) => resource::list_all::<security_group::Entity>(txn, grant, &[*id]).await?,
        PeerSpec::GroupName(name) => {
            let vpc = group.vpc.0;
            groups::by_names(txn, grant, vpc, std::slice::from_ref(name)).await?
        }
    };
    let id = rows.first().map(|row| row.id.0);
    Ok(id.map(Peer::Group))
}

async fn in_default_vpc(txn: &DatabaseTransaction, group: &security_group::Model) -> Result<bool> {
    let row = rows::one(vpc::Entity::find_by_id(group.vpc), txn).await?;
    Ok(row.is_some_and(|row| row.is_default.0))
}
