//! The prologue and the epilogue of every action: whether it is known, permitted, made of supported members,
//! a rehearsal (DryRun), or a repetition (ClientToken); and its entry in the audit log.

use std::sync::Arc;

use cumulet_backend::{
    api::{
        ClientToken, Cloud, Presence, Spent,
        audit_log::{self, AuditLogEntry, Note},
    },
    authority::Permission,
};
use cumulet_domain::{account::Principal, error::Limit};
use cumulet_wire::{
    Codec, Known, OperationInfo,
    operation::Access,
    response::{ec2_version, invalid_action, query_version},
};

use super::{Asked, Rpc, ctx::Ctx};
use crate::{
    fault::Fault,
    reply::Body,
    service::{Admitted, Caller},
};

/// Parameters of a request that make up one unit of its cost.
const PARAMETERS_PER_UNIT: u32 = 20;

/// Rows that the database writes in a unit of cost.
const ROWS_PER_UNIT: u32 = 50;

/// The most that the number of what is asked for adds to a request's cost.
const MOST_PER: u32 = 1000;

/// What may differ between pages of one listing.
const PAGES: [&str; 2] = ["NextToken", "MaxResults"];

/// Answers one authenticated request.
pub(crate) async fn serve(
    service: &'static Rpc,
    cloud: &Arc<Cloud>,
    caller: Caller<'_>,
    asked: &Asked<'_>,
    request_id: &str,
) -> Result<Body, Fault> {
    let now = cloud.now();
    let (info, version) = match known(service, asked) {
        Ok(known) => known,
        Err(fault) => return Err(caller.refuse(fault, now)),
    };
    let rehearse = info.dry_run && is_true(asked.text("DryRun"));
    let audited = info.access == Access::Write && !rehearse;
    // Before anything else is done.
    let cost = cost(info, asked);
    let Admitted {
        who,
        presence,
        admission,
    } = match caller.admit(info.weight, cost, now) {
        Ok(admitted) => admitted,
        Err(who) => {
            let fault = Fault::Throttled;
            if audited {
                let entry = refusal(service, &fault, entry(&who, info, asked, request_id));
                let written = audit_log::throttled(cloud, &who.access_key_id, entry).await;
                note_failure(request_id, written);
            }
            return Err(fault);
        }
    };
    let note = audited.then(|| Arc::new(Note::new(cloud, entry(&who, info, asked, request_id))));
    let spent = (info.access == Access::Write).then(Spent::default);
    let cloud_used = handle(cloud, rehearse, (note.as_ref(), spent.as_ref()), &presence);
    let mut ctx = Ctx::new(cloud_used, who, (service, info), version, admission.meter());
    ctx.presence = presence;
    if may_page(service, asked) {
        ctx.listing = asked.hash(&PAGES);
    }
    ctx.token = client_token(info, asked);
    let ctx = Arc::new(ctx);
    let outcome = run(&ctx, asked, request_id).await;
    if let Some(spent) = spent {
        ctx.meter.charge(units(&spent).saturating_sub(cost), cloud.now());
    }
    let code = outcome.as_ref().err().map(|fault| (service.words)(fault).code);
    let (action, account) = (info.name, ctx.who.account);
    tracing::debug!(action, %account, user = ctx.who.user_name, rehearse, ?code, "answered");
    if rehearse {
        return outcome.and_then(|_| Err(dry_run()));
    }
    if let Some(note) = note {
        log_call(cloud, &note, &ctx, asked, &outcome).await;
    }
    outcome.map(|body| body.admitted(admission))
}

/// The operation that is asked for, and the version of the API in which.
fn known<'q>(service: &Rpc, asked: &'q Asked<'_>) -> Result<(&'static OperationInfo, &'q str), Fault> {
    let name = asked.operation()?;
    let info = match service.model.lookup(name) {
        Known::Served(info) => info,
        Known::Unserved if !service.as_if_unknown.contains(&name) => {
            return Err(Fault::Unserved(name.into()));
        }
        Known::Unserved | Known::Unknown => return Err(invalid_action(name).into()),
    };
    let given = asked.text("Version");
    let version = match service.model.codec {
        Codec::Ec2 => ec2_version(given)?,
        Codec::Query { .. } => query_version(service.model, given).map(|()| service.model.version)?,
        Codec::Json { .. } => service.model.version,
    };
    Ok((info, version))
}

/// The handle that an action is given.
fn handle(
    cloud: &Arc<Cloud>,
    rehearse: bool,
    (note, spent): (Option<&Arc<Note>>, Option<&Spent>),
    presence: &Presence,
) -> Arc<Cloud> {
    let used = match note {
        _ if rehearse => cloud.rehearsal(),
        Some(note) => cloud.noting(note.clone()),
        // A call that changes nothing has no need of one of its own.
        None if spent.is_none() => return cloud.clone(),
        None => Cloud::clone(cloud),
    };
    let used = match spent {
        Some(spent) => used.counting(spent.clone()),
        None => used,
    };
    Arc::new(used.for_client(presence.clone()))
}

/// Whether the answer may be a page, whose token is good for what is asked: EC2's only where the request says so.
fn may_page(service: &Rpc, asked: &Asked<'_>) -> bool {
    let is_given = |name: &&str| asked.text(name).is_some();
    !matches!(service.model.codec, Codec::Ec2) || PAGES.iter().any(is_given)
}

/// The units of cost in what a request's changes have taken of the database: a tenth of a millisecond each.
fn units(spent: &Spent) -> u32 {
    u32::try_from(spent.time().as_micros() / 100).unwrap_or(u32::MAX)
}

/// What a request costs: its operation's weight, what it asks for so many times, and its length.
fn cost(info: &OperationInfo, asked: &Asked<'_>) -> u32 {
    let number = |name| asked.number(name);
    let times = info.weight_per.and_then(number).unwrap_or(0).min(MOST_PER);
    let length = u32::try_from(asked.len()).unwrap_or(u32::MAX) / PARAMETERS_PER_UNIT;
    let rows = (rows(info, asked) / ROWS_PER_UNIT).min(MOST_PER);
    [times, length, rows]
        .iter()
        .fold(info.weight, |sum, more| sum.saturating_add(*more))
}

/// The rows that a request writes, where its lists say how many.
fn rows(info: &OperationInfo, asked: &Asked<'_>) -> u32 {
    let lengths = info
        .weight_rows
        .iter()
        .map(|list| asked.length(list).unwrap_or(0));
    lengths.reduce(u32::saturating_mul).unwrap_or(0)
}

async fn run(ctx: &Arc<Ctx>, asked: &Asked<'_>, request_id: &str) -> Result<Body, Fault> {
    let info = ctx.info;
    if !info.anyone {
        // The domain asks for the same where it does the thing. This one comes before a parameter is looked at, so that
        // whoever may not learns nothing of a request but that; a test has the two lists the same.
        let permission = Permission::new(info.permission, info.access == Access::Write);
        ctx.cloud.authorise(&ctx.who, permission)?;
    }
    asked.check(info)?;
    let entry = ctx.service.entry(info.name).ok_or_else(|| {
        cumulet_domain::Error::Internal(format!("{} is served and has no action", info.name))
    })?;
    let outcome = (entry.run)(ctx, asked, request_id).await;
    if let Err(Fault::Domain(cumulet_domain::Error::LimitExceeded { limit, .. })) = &outcome {
        debug_assert!(
            is_named(info, *limit),
            "{} came to a limit that the manifest does not name: {limit:?}",
            info.name
        );
    }
    outcome
}

/// Whether a limit is one of those that the manifest has of an operation.
fn is_named(info: &OperationInfo, limit: Limit) -> bool {
    let name = format!("{limit:?}");
    info.limits.iter().any(|known| *known == name)
}

fn is_true(value: Option<&str>) -> bool {
    value.is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true"))
}

fn dry_run() -> Fault {
    let message = "Request would have succeeded, but DryRun flag is set.";
    Fault::coded("DryRunOperation", 412, message)
}

fn client_token(info: &OperationInfo, asked: &Asked<'_>) -> Option<ClientToken> {
    let name = info.client_token?;
    let token = asked.text(name).filter(|token| !token.is_empty())?;
    Some(ClientToken {
        token: token.to_owned(),
        request_hash: hex::encode(asked.hash(&[name])),
    })
}

/// The audit log's entry of a call that ends well.
fn entry(who: &Principal, info: &OperationInfo, asked: &Asked<'_>, request_id: &str) -> AuditLogEntry {
    AuditLogEntry {
        account: who.account,
        user_name: who.user_name.clone(),
        action: info.permission.to_owned(),
        resource: asked.resources(),
        outcome: "ok".to_owned(),
        request_id: request_id.to_owned(),
        detail: None,
    }
}

/// A row for every mutating call, accepted or refused. A change has taken its entry along; here it is
/// written for a call that changed nothing or was refused, whose outcome does not depend on it: a failure
/// to log it is itself logged.
async fn log_call(cloud: &Cloud, note: &Note, ctx: &Ctx, asked: &Asked<'_>, outcome: &Result<Body, Fault>) {
    let left = note.left();
    let written = match outcome {
        Ok(_) => match left {
            Some(left) => audit_log::record(cloud, left).await,
            None => return,
        },
        Err(fault) => {
            // Made anew: what the note names besides was undone. Where the change was kept and something
            // failed after it, this is a second row of the same request.
            let entry = entry(&ctx.who, ctx.info, asked, note.request_id());
            let entry = refusal(ctx.service, fault, entry);
            audit_log::refused(cloud, &ctx.who.access_key_id, entry).await
        }
    };
    note_failure(note.request_id(), written);
}

/// The entry of a call that is refused.
fn refusal(service: &Rpc, fault: &Fault, entry: AuditLogEntry) -> AuditLogEntry {
    let answer = (service.words)(fault);
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
    use std::collections::HashSet;

    use cumulet_wire::{Protocol, Query};

    use super::*;
    use crate::{ec2::EC2, iam::IAM, service_quotas::SERVICE_QUOTAS, ssm::SSM, sts::STS};

    const SERVICES: [&Rpc; 5] = [&EC2, &IAM, &STS, &SERVICE_QUOTAS, &SSM];

    /// That those which are data are members of the shape is codegen's to see to.
    #[test]
    fn every_served_operation_has_an_action_and_its_documented_filters() {
        let mut count = 0;
        for service in SERVICES {
            for info in service.model.operations {
                let row = service.entry(info.name);
                let row = row.unwrap_or_else(|| panic!("{} has no action", info.name));
                assert_eq!(row.name, info.name);
                assert_eq!(row.filters.is_some(), info.filters.is_some(), "{}", info.name);
                let (Some(filters), Some(looked)) = (info.filters, &row.filters) else {
                    continue;
                };
                for name in filters.names {
                    let name = if *name == "tag:<key>" { "tag:Name" } else { name };
                    assert!((looked.has)(name), "{} lacks the filter {name}", info.name);
                    count += 1;
                }
                let (named, mut computed) = (looked.computed)();
                computed.sort_unstable();
                assert_eq!(named, computed, "{}: named as computed, and computed", info.name);
            }
            assert_eq!(service.by_name.len(), service.model.operations.len());
        }
        assert!(count > 400, "{count}");
    }

    /// What the prologue asks for by the manifest is what the domain asks for by its list.
    #[test]
    fn permissions_of_the_manifest_are_the_domains() {
        let operations = SERVICES.iter().flat_map(|service| service.model.operations);
        let asked = operations.filter(|info| !info.anyone).map(|info| {
            let writes = info.access == Access::Write;
            Permission::new(info.permission, writes)
        });
        let asked: HashSet<Permission> = asked.collect();
        let known: HashSet<Permission> = Permission::ALL.iter().copied().collect();
        let missing: Vec<_> = asked.difference(&known).collect();
        assert!(missing.is_empty(), "not in the domain's list: {missing:?}");
        let unused: Vec<_> = known.difference(&asked).collect();
        assert!(unused.is_empty(), "not in the manifest: {unused:?}");
    }

    /// That operations which make something have one is codegen's to see to; that they come to them, `examples/limits.rs`'s.
    #[test]
    fn limits_of_the_manifest_are_the_domains() {
        let known = Limit::ALL.map(|limit| format!("{limit:?}"));
        for info in SERVICES.iter().flat_map(|service| service.model.operations) {
            for limit in info.limits {
                assert!(known.contains(&(*limit).to_owned()), "{}: {limit}", info.name);
            }
        }
    }

    #[test]
    fn requests_cost_what_they_ask_for() {
        let cost = |body: &str| {
            let asked = Asked::Form(Query::parse(body.as_bytes(), Protocol::Ec2).unwrap());
            let (info, _) = known(&EC2, &asked).unwrap_or_else(|_| panic!("{body}"));
            super::cost(info, &asked)
        };
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
            assert_eq!(cost(body), expected, "{body}");
        }
        let ids: String = (1..=1000).map(|n| format!("&InstanceId.{n}=i-{n}")).collect();
        assert_eq!(cost(&format!("Action=DescribeInstances{ids}")), 51);
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
