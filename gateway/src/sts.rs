//! The security token service: GetCallerIdentity.

use cumulet_domain::account::Principal;
use cumulet_wire::{
    Query, decode,
    response::{self, STS},
    sts::{self, GetCallerIdentityRequest, GetCallerIdentityResponse},
};

use crate::fault::{Fault, served};

/// Answers a request to STS. `GetCallerIdentity` needs no permission, as on AWS.
pub(crate) fn serve(who: &Principal, query: &Query<'_>, request_id: &str) -> Result<String, Fault> {
    let action = query.action()?;
    let info = served(action, sts::lookup(action))?;
    response::query_version(STS, query.get("Version"))?;
    info.check_members(query)?;
    decode::<GetCallerIdentityRequest>(query)?;
    let result = GetCallerIdentityResponse {
        user_id: Some(who.user_id.clone()),
        account: Some(who.account.to_string()),
        arn: Some(who.arn()),
    };
    Ok(response::query_response(
        STS,
        info.name,
        request_id,
        Some(&result),
    ))
}

#[cfg(test)]
mod tests {
    use cumulet_domain::account::{AccountId, Role};
    use cumulet_wire::Protocol;

    use super::*;

    #[test]
    fn says_who_asks() {
        let who = Principal {
            account: AccountId(123_456_789_012),
            user_id: "AIDAX".into(),
            user_name: "admin".into(),
            access_key_id: "AKIAX".into(),
            role: Role::ReadOnly,
        };
        let ask = |body: &str| {
            let query = Query::parse(body.as_bytes(), Protocol::Query).unwrap();
            serve(&who, &query, "r").map_err(|fault| fault.answer().code.into_owned())
        };
        let xml = ask("Action=GetCallerIdentity&Version=2011-06-15").unwrap();
        assert!(
            xml.contains("<Arn>arn:aws:iam::123456789012:user/admin</Arn>"),
            "{xml}"
        );
        assert!(xml.contains("<Account>123456789012</Account>"), "{xml}");
        assert_eq!(ask("Action=Nonsense"), Err("InvalidAction".into()));
        assert_eq!(ask("Action=AssumeRole"), Err("UnsupportedOperation".into()));
        assert_eq!(
            ask("Action=GetCallerIdentity&X=1"),
            Err("UnknownParameter".into())
        );
    }
}
