//! The prologue and the epilogue of every action: whether it is known, permitted, made of supported members,
//! a rehearsal (DryRun), or a repetition (ClientToken); and its entry in the audit log.

use std::sync::Arc;

use cumulet_backend::{
    api::{
        ClientToken, Cloud,
        audit_log::{self, AuditLogEntry, Note},
    },
    authority,
};
use cumulet_domain::{ResourceKind, account::Principal};
use cumulet_wire::{Known, OperationInfo, Query, ec2::operations, operation::Access, response::ec2_version};

use super::{ctx::Ctx, hash, table};
use crate::fault::{Fault, served};

/// Operations of the model that answer as if they were unknown, because a client takes that, and only
/// that, for "not there" (Terraform's `aws_eip` reads the sentence).
const AS_IF_UNKNOWN: [&str; 1] = ["DescribeAddressesAttribute"];

/// Ids of a request that the audit log names at the most.
const AUDITED_IDS: usize = 20;

/// Answers one authenticated request.
pub(crate) async fn serve(
    cloud: &Cloud,
    who: Principal,
    query: &Query<'_>,
    request_id: &str,
) -> Result<String, Fault> {
    let action = query.action()?;
    let known = match operations::lookup(action) {
        Known::Unserved if AS_IF_UNKNOWN.contains(&action) => Known::Unknown,
        known => known,
    };
    let info = served(action, known)?;
    let version = ec2_version(query.get("Version"))?;
    let rehearse = info.dry_run && is_true(query.get("DryRun"));
    let note = (info.access == Access::Write && !rehearse)
        .then(|| Arc::new(Note::new(cloud, entry(&who, info, query, request_id))));
    let cloud_used = match &note {
        _ if rehearse => cloud.rehearsal(),
        Some(note) => cloud.noting(note.clone()),
        None => cloud.clone(),
    };
    let mut ctx = Ctx::new(cloud_used, who, info, version);
    ctx.listing = hash::request(query, &["NextToken", "MaxResults"]);
    ctx.token = client_token(info, query);
    let outcome = run(&ctx, query, request_id).await;
    let code = outcome.as_ref().err().map(|fault| fault.answer().code);
    tracing::debug!(action, account = %ctx.who.account, user = ctx.who.user_name, rehearse, ?code, "answered");
    if rehearse {
        return outcome.and_then(|_| Err(dry_run()));
    }
    if let Some(note) = note {
        log_call(cloud, &note, &ctx, query, &outcome).await;
    }
    outcome
}

async fn run(ctx: &Ctx, query: &Query<'_>, request_id: &str) -> Result<String, Fault> {
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
        .filter(|value| value.len() < 64 && ResourceKind::of(value).is_some())
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
async fn log_call(cloud: &Cloud, note: &Note, ctx: &Ctx, query: &Query<'_>, outcome: &Result<String, Fault>) {
    let left = note.left();
    let left = match outcome {
        Ok(_) => left,
        Err(fault) => {
            let answer = fault.answer();
            // Made anew: what the note names besides was undone. Where the change was kept and something
            // failed after it, this is a second row of the same request.
            Some(AuditLogEntry {
                outcome: answer.code.into_owned(),
                detail: Some(answer.message),
                ..entry(&ctx.who, ctx.info, query, note.request_id())
            })
        }
    };
    let Some(left) = left else { return };
    if let Err(error) = audit_log::record(cloud, left).await {
        tracing::error!(request_id = note.request_id(), %error, "the audit log could not be written");
    }
}

#[cfg(test)]
mod tests {
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
