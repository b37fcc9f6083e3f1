//! Identity and access management: the part that clients ask before their first real call.

use cumulet_backend::{
    api::{Cloud, accounts},
    authority,
};
use cumulet_domain::{Error, account::Principal};
use cumulet_wire::{
    Query, Timestamp, decode,
    iam::{self, GetUserRequest, GetUserResponse, User},
    response::{self, IAM},
};

use crate::fault::{Fault, served};

/// Answers a request to IAM.
pub(crate) async fn serve(
    cloud: &Cloud,
    who: &Principal,
    query: &Query<'_>,
    request_id: &str,
) -> Result<String, Fault> {
    let action = query.action()?;
    let info = served(action, iam::lookup(action))?;
    response::query_version(IAM, query.get("Version"))?;
    info.check_members(query)?;
    authority::authorise(who, info.name, false)?;
    let input: GetUserRequest = decode(query)?;
    let user = accounts::get_user(cloud, who, input.user_name.as_deref()).await;
    let user = user.map_err(|error| no_such_user(error, input.user_name.as_deref()))?;
    let result = GetUserResponse {
        user: Some(User {
            path: Some("/".into()),
            arn: Some(format!("arn:aws:iam::{}:user/{}", user.account, user.row.name)),
            user_name: Some(user.row.name),
            user_id: Some(user.row.id),
            create_date: Some(Timestamp(user.row.created_at)),
            ..User::default()
        }),
    };
    Ok(response::query_response(
        IAM,
        info.name,
        request_id,
        Some(&result),
    ))
}

/// IAM's word for a user that is not there.
fn no_such_user(error: Error, name: Option<&str>) -> Fault {
    match (error, name) {
        (Error::InvalidParameter { .. } | Error::NotFound { .. }, Some(name)) => {
            let shown: String = name.chars().take(128).collect();
            let message = format!("The user with name {shown} cannot be found.");
            Fault::coded("NoSuchEntity", 404, message)
        }
        (error, _) => error.into(),
    }
}
