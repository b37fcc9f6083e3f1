//! The prologue and the epilogue of every action: whether it is known, permitted, made of supported members,
//! a rehearsal (DryRun), or a repetition (ClientToken); and its entry in the audit log.

use std::sync::Arc;

use cumulet_backend::{
    api::{
        ClientToken, Cloud, Presence, Spent,
        audit_log::{self, AuditLogEntry, Note},
    },
    authority,
};
use cumulet_domain::{ResourceKind, account::Principal};
use cumulet_wire::{Known, OperationInfo, Query, ec2::operations, operation::Access, response::ec2_version};

use super::{ctx::Ctx, hash};
use crate::{
    ec2::table,
    fault::{Fault, served},
    fences::Fences,
    reply::Body,
};

/// Operations of the model that answer as if they were unknown, because a client takes that, and only
/// that, for "not there" (Terraform's `aws_eip` reads the sentence).
const AS_IF_UNKNOWN: [&str; 1] = ["DescribeAddressesAttribute"];

/// Ids of a request that the audit log names at the most.
const AUDITED_IDS: usize = 20;

/// Parameters of a request that make up one unit of its cost.
const PARAMETERS_PER_UNIT: u32 = 20;

/// Rows that the database writes in a unit of cost.
const ROWS_PER_UNIT: u32 = 50;

/// The most that the number of what is asked for adds to a request's cost.
const MOST_PER: u32 = 1000;

/// Who asks, and by what they are limited.
pub(crate) struct Caller<'a> {
    /// Proven.
    pub(crate) who: Principal,
    /// What every account may use.
    pub(crate) fences: &'a Fences,
    /// Whether they still wait for the answer.
    pub(crate) presence: Presence,
}

/// Answers one authenticated request.
pub(crate) async fn serve(
    cloud: &Cloud,
    caller: Caller<'_>,
    query: &Query<'_>,
    request_id: &str,
) -> Result<Body, Fault> {
    let Caller {
        who,
        fences,
        presence,
    } = caller;
    let action = query.action()?;
    let known = match operations::lookup(action) {
        Known::Unserved if AS_IF_UNKNOWN.contains(&action) => Known::Unknown,
        known => known,
    };
    let info = served(action, known)?;
    let version = ec2_version(query.get("Version"))?;
    let rehearse = info.dry_run && is_true(query.get("DryRun"));
    let audited = info.access == Access::Write && !rehearse;
    // Before anything else is done.
    let admission = match fences.admit(&who, info.weight, cost(info, query), cloud.now()) {
        Ok(admission) => admission,
        Err(fault) => {
            if audited {
                let entry = refusal(&fault, entry(&who, info, query, request_id));
                let written = audit_log::throttled(cloud, &who.access_key_id, entry).await;
                note_failure(request_id, written);
            }
            return Err(fault);
        }
    };
    let note = audited.then(|| Arc::new(Note::new(cloud, entry(&who, info, query, request_id))));
    let spent = (info.access == Access::Write).then(Spent::default);
    let cloud_used = handle(cloud, rehearse, note.as_ref(), spent.as_ref()).for_client(presence);
    let mut ctx = Ctx::new(cloud_used, who, info, version, admission.meter());
    ctx.listing = hash::request(query, &["NextToken", "MaxResults"]);
    ctx.token = client_token(info, query);
    let ctx = Arc::new(ctx);
    let outcome = run(&ctx, query, request_id).await;
    if let Some(spent) = spent {
        let more = units(&spent).saturating_sub(cost(info, query));
        ctx.meter.charge(more, cloud.now());
    }
    let code = outcome.as_ref().err().map(|fault| fault.answer().code);
    tracing::debug!(action, account = %ctx.who.account, user = ctx.who.user_name, rehearse, ?code, "answered");
    if rehearse {
        return outcome.and_then(|_| Err(dry_run()));
    }
    if let Some(note) = note {
        log_call(cloud, &note, &ctx, query, &outcome).await;
    }
    outcome.map(|body| body.admitted(admission))
}

/// The handle that an action is given.
fn handle(cloud: &Cloud, rehearse: bool, note: Option<&Arc<Note>>, spent: Option<&Spent>) -> Cloud {
    let cloud = match note {
        _ if rehearse => cloud.rehearsal(),
        Some(note) => cloud.noting(note.clone()),
        None => cloud.clone(),
    };
    match spent {
        Some(spent) => cloud.counting(spent.clone()),
        None => cloud,
    }
}

/// The units of cost in what a request's changes have taken of the database: a tenth of a millisecond each.
fn units(spent: &Spent) -> u32 {
    u32::try_from(spent.time().as_micros() / 100).unwrap_or(u32::MAX)
}

/// What a request costs: its operation's weight, what it asks for so many times, and its length.
fn cost(info: &OperationInfo, query: &Query<'_>) -> u32 {
    let number = |name| query.get(name)?.parse::<u32>().ok();
    let times = info.weight_per.and_then(number).unwrap_or(0).min(MOST_PER);
    let length = u32::try_from(query.len()).unwrap_or(u32::MAX) / PARAMETERS_PER_UNIT;
    let rows = (rows(info, query) / ROWS_PER_UNIT).min(MOST_PER);
    [times, length, rows]
        .iter()
        .fold(info.weight, |sum, more| sum.saturating_add(*more))
}

/// The rows that a request writes, where its lists say how many.
fn rows(info: &OperationInfo, query: &Query<'_>) -> u32 {
    let length = |list: &&str| {
        let mut members = query.root().members().ok()?;
        let (_, node) = members.find(|(name, _)| name == list)?;
        u32::try_from(node.members().ok()?.count()).ok()
    };
    let lengths = info.weight_rows.iter().map(|list| length(list).unwrap_or(0));
    lengths.reduce(u32::saturating_mul).unwrap_or(0)
}

async fn run(ctx: &Arc<Ctx>, query: &Query<'_>, request_id: &str) -> Result<Body, Fault> {
    authority::authorise(&ctx.who, ctx.info.permission, ctx.info.access == Access::Write)?;
    ctx.info.check_members(query)?;
    let row = table::find(ctx.info.name).ok_or_else(|| {
        cumulet_domain::Error::Internal(format!("{} is served and has no action", ctx.info.name))
    })?;
    (row.run)(ctx, query, request_id).await
}

fn is_true(value: Option<&str>) -> bool {
    value.is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true"))
}

fn dry_run() -> Fault {
    let message = "Request would have succeeded, but DryRun flag is set.";
    Fault::coded("DryRunOperation", 412, message)
}

fn client_token(info: &OperationInfo, query: &Query<'_>) -> Option<ClientToken> {
    let name = info.client_token?;
    let token = query.get(name).filter(|token| !token.is_empty())?;
    Some(ClientToken {
        token: token.to_owned(),
        request_hash: hex::encode(hash::request(query, &[name])),
    })
}

/// The audit log's entry of a call that ends well.
fn entry(who: &Principal, info: &OperationInfo, query: &Query<'_>, request_id: &str) -> AuditLogEntry {
    let named: Vec<&str> = query
        .iter()
        .map(|(_, value)| value)
        .filter(|value| ResourceKind::of(value).is_some())
        .take(AUDITED_IDS)
        .collect();
    AuditLogEntry {
        account: who.account,
        user_name: who.user_name.clone(),
        action: info.permission.to_owned(),
        resource: (!named.is_empty()).then(|| named.join(",")),
        outcome: "ok".to_owned(),
        request_id: request_id.to_owned(),
        detail: None,
    }
}

/// A row for every mutating call, accepted or refused. A change has taken its entry along; here it is
/// written for a call that changed nothing or was refused, whose outcome does not depend on it: a failure
/// to log it is itself logged.
async fn log_call(cloud: &Cloud, note: &Note, ctx: &Ctx, query: &Query<'_>, outcome: &Result<Body, Fault>) {
    let left = note.left();
    let written = match outcome {
        Ok(_) => match left {
            Some(left) => audit_log::record(cloud, left).await,
            None => return,
        },
        Err(fault) => {
            // Made anew: what the note names besides was undone. Where the change was kept and something
            // failed after it, this is a second row of the same request.
            let entry = refusal(fault, entry(&ctx.who, ctx.info, query, note.request_id()));
            audit_log::refused(cloud, &ctx.who.access_key_id, entry).await
        }
    };
    note_failure(note.request_id(), written);
}

/// The entry of a call that is refused.
fn refusal(fault: &Fault, entry: AuditLogEntry) -> AuditLogEntry {
    let answer = fault.answer();
    AuditLogEntry {
        outcome: answer.code.into_owned(),
        detail: Some(answer.message),
        ..entry
    }
}

fn note_failure(request_id: &str, written: cumulet_domain::Result<()>) {
    if let Err(error) = written {
        tracing::error!(request_id, %error, "the audit log could not be written");
    }
}

#[cfg(test)]
mod tests {
    use cumulet_domain::error::Limit;
    use cumulet_wire::Protocol;

    use super::*;

    #[test]
    fn every_served_operation_has_an_action_and_its_documented_filters() {
        for info in operations::OPERATIONS {
            let row = table::find(info.name).unwrap_or_else(|| panic!("{} has no action", info.name));
            assert_eq!(row.name, info.name);
            for name in info.filters.map_or(&[][..], |filters| filters.names) {
                let name = if *name == "tag:<key>" { "tag:Name" } else { name };
                assert!((row.has_filter)(name), "{} lacks the filter {name}", info.name);
            }
        }
        assert_eq!(table::ENTRIES.len(), operations::OPERATIONS.len());
    }

    /// That operations which make something have one is codegen's to see to.
    #[test]
    fn limits_of_the_manifest_are_the_domains() {
        let known = Limit::ALL.map(|limit| format!("{limit:?}"));
        for info in operations::OPERATIONS {
            for limit in info.limits {
                assert!(known.contains(&(*limit).to_owned()), "{}: {limit}", info.name);
            }
        }
    }

    #[test]
    fn requests_cost_what_they_ask_for() {
        for (body, expected) in [
            ("Action=DescribeRegions", 1),
            ("Action=CreateTags", 5),
            ("Action=CreateTags&ResourceId.1=i-1&Tag.1.Key=a", 5),
            ("Action=RunInstances&MinCount=1&MaxCount=1", 11),
            ("Action=RunInstances&DryRun=true&MaxCount=1000", 1010),
            ("Action=RunInstances&MaxCount=4000000000", 1010),
            ("Action=RunInstances&MaxCount=x", 10),
            ("Action=CreateKeyPair&DryRun=true", 100),
        ] {
            let query = Query::parse(body.as_bytes(), Protocol::Ec2).unwrap();
            let Known::Served(info) = operations::lookup(query.action().unwrap()) else {
                panic!("{body}");
            };
            assert_eq!(cost(info, &query), expected, "{body}");
        }
        let ids: String = (1..=1000).map(|n| format!("&InstanceId.{n}=i-{n}")).collect();
        let query = format!("Action=DescribeInstances{ids}");
        let query = Query::parse(query.as_bytes(), Protocol::Ec2).unwrap();
        let Known::Served(info) = operations::lookup("DescribeInstances") else {
            panic!("it is not served");
        };
        assert_eq!(cost(info, &query), 51);
    }

    #[test]
    fn dry_run_is_read_as_booleans_are() {
        for (value, expected) in [
            (None, false),
            (Some("true"), true),
            (Some("True"), true),
            (Some("1"), true),
            (Some("false"), false),
        ] {
            assert_eq!(is_true(value), expected, "{value:?}");
        }
    }
}
