//! Authorising of security group rules: all of a request or none.

use cumulet_core::{RequestContext, tag_room::room as tag_room};
use cumulet_domain::{
    Error, ResourceKind, Result,
    account::Principal,
    error::Limit,
    network::{Direction, Peer, Rule, Traffic},
    tag::Tag,
};
use cumulet_store::{
    authority::{Grant, Permission},
    entity::{security_group, security_group_rule},
    groups, resource, rows, tags,
};
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter};

use crate::{
    boxed,
    security_groups::{GroupName, MAX_RULES, NewRule, PeerSpec, RuleView, group, rules},
};

/// Adds rules to a group.
///
/// # Errors
/// `NotFound` (the group, or a group that a rule names), `DuplicateRule`, `RepeatedRule`, `LimitExceeded`,
/// `MissingParameter`, `InvalidParameter`, `Unsupported`; then nothing has changed.
#[boxed]
pub async fn authorize(
    cx: &RequestContext,
    who: &Principal,
    which: &GroupName,
    direction: Direction,
    new: Vec<NewRule>,
    new_tags: Vec<Tag>,
) -> Result<Vec<RuleView>> {
    let grant = cx.authorise(
        who,
        match direction {
            Direction::Ingress => Permission::AUTHORIZE_SECURITY_GROUP_INGRESS,
            Direction::Egress => Permission::AUTHORIZE_SECURITY_GROUP_EGRESS,
        },
    )?;
    tags::validate(&new_tags)?;
    if new.is_empty() {
        return Err(missing());
    }
    for rule in &new {
        check(rule)?;
    }
    let room = tag_room(cx, who.account, new.len() * new_tags.len());
    let (account, which, cx_of) = (who.account, which.clone(), cx.clone());
    let store = cx.store.writing(new.len() * (1 + new_tags.len()));
    let write = store.write(move |txn| {
        Box::pin(async move {
            let group = group::changing(txn, &grant, &which).await?;
            let rows = add(txn, &cx_of, &grant, &group, direction, &new).await?;
            for row in &rows {
                resource::show_new::<security_group_rule::Entity>(&grant, row, &new_tags)?;
            }
            let ids: Vec<i64> = rows.iter().map(|row| row.id.to_db()).collect();
            tags::insert(txn, account, ResourceKind::SecurityGroupRule, &ids, &new_tags).await?;
            room.check(txn).await?;
            let views = rules::views(txn, rows).await?;
            views.iter().for_each(|rule| cx_of.made(&rule.id));
            Ok(views)
        })
    });
    let views = write.await?;
    cx.wake.hosts();
    Ok(views)
}

pub(super) fn missing() -> Error {
    Error::MissingParameter {
        name: "IpPermissions".into(),
    }
}

fn check(rule: &NewRule) -> Result<()> {
    if !rule.description.is_empty() {
        group::check_text("Description", &rule.description)?;
    }
    match rule.traffic {
        Traffic::Tcp { from, to } | Traffic::Udp { from, to } if from > to => {
            let reason = "the first port is above the last one";
            Err(Error::invalid("FromPort", &from.to_string(), reason))
        }
        Traffic::Icmp {
            kind: None,
            code: Some(code),
        } => {
            let reason = "an ICMP code needs a type";
            Err(Error::invalid("ToPort", &code.to_string(), reason))
        }
        // Without ports it would mean all of them.
        Traffic::Protocol(number @ (1 | 6 | 17)) => {
            let reason = "TCP, UDP and ICMP are named, with their ports or types";
            Err(Error::invalid("IpProtocol", &number.to_string(), reason))
        }
        Traffic::Protocol(58) => Err(Error::Unsupported { what: "IPv6".into() }),
        _ => Ok(()),
    }
}

/// A request's rule as it is kept.
async fn resolve(
    txn: &DatabaseTransaction,
    grant: &Grant,
    group: &security_group::Model,
    direction: Direction,
    traffic: Traffic,
    peer: &PeerSpec,
) -> Result<Rule> {
    let vpc = group.vpc.0;
    let peer = match peer {
        PeerSpec::Cidr(cidr) => Peer::Cidr(*cidr),
        PeerSpec::Group(id) => {
            let rows = resource::list_all::<security_group::Entity>(txn, grant, &[*id]).await?;
            if rows.iter().any(|row| row.vpc != group.vpc) {
                let reason = format!("the security group {id} does not belong to {vpc}");
                return Err(Error::InvalidCombination { reason });
            }
            Peer::Group(*id)
        }
        PeerSpec::GroupName(name) => {
            let rows = groups::by_names(txn, grant, vpc, std::slice::from_ref(name)).await?;
            let row = rows
                .first()
                .ok_or_else(|| Error::Internal("a row that was there is gone".into()))?;
            Peer::Group(row.id.0)
        }
        PeerSpec::Foreign(what) => return Err(Error::Unsupported { what: what.clone() }),
    };
    Ok(Rule {
        direction,
        traffic,
        peer,
    })
}

async fn add(
    txn: &DatabaseTransaction,
    cx: &RequestContext,
    grant: &Grant,
    group: &security_group::Model,
    direction: Direction,
    new: &[NewRule],
) -> Result<Vec<security_group_rule::Model>> {
    let id = group.id.0;
    let mut rules = Vec::with_capacity(new.len());
    for spec in new {
        let rule = resolve(txn, grant, group, direction, spec.traffic, &spec.peer).await?;
        if rules.contains(&rule) {
            return Err(Error::RepeatedRule);
        }
        rules.push(rule);
    }
    let mut known = Vec::new();
    for row in existing(txn, group.id.to_db()).await? {
        known.push(groups::rule_of(&row)?);
    }
    let mut rows = Vec::with_capacity(new.len());
    for (rule, spec) in rules.into_iter().zip(new) {
        if known.contains(&rule) {
            return Err(Error::DuplicateRule { rule: text(&rule) });
        }
        known.push(rule);
        rows.push(groups::rule_row(
            &cx.rng,
            cx.now(),
            grant.account(),
            id,
            rule,
            &spec.description,
        )?);
    }
    let count = known.iter().filter(|rule| rule.direction == direction).count();
    if count as u64 > MAX_RULES {
        return Err(Error::LimitExceeded {
            limit: Limit::RulesPerSecurityGroup,
            max: MAX_RULES,
        });
    }
    groups::insert_rules(txn, rows.clone()).await?;
    Ok(rows)
}

/// The rules of a group.
pub(super) async fn existing(
    txn: &DatabaseTransaction,
    group: i64,
) -> Result<Vec<security_group_rule::Model>> {
    let query =
        security_group_rule::Entity::find().filter(security_group_rule::Column::SecurityGroup.eq(group));
    rows::all(query, txn).await
}

/// A rule in words, as EC2's messages have them.
fn text(rule: &Rule) -> String {
    let peer = match rule.peer {
        Peer::Cidr(cidr) => cidr.to_string(),
        Peer::Group(id) => id.to_string(),
    };
    let any = |n: Option<u8>| n.map_or("ALL".to_owned(), |n| n.to_string());
    let traffic = match rule.traffic {
        Traffic::All => "ALL".into(),
        Traffic::Tcp { from, to } => format!("TCP, from port: {from}, to port: {to}"),
        Traffic::Udp { from, to } => format!("UDP, from port: {from}, to port: {to}"),
        Traffic::Icmp { kind, code } => format!("ICMP, type: {}, code: {}", any(kind), any(code)),
        Traffic::Protocol(number) => number.to_string(),
    };
    format!("peer: {peer}, {traffic}, ALLOW")
}
