//! GetUser: the part of IAM that clients ask before their first real call.

use async_trait::async_trait;
use cumulet_backend::api::accounts;
use cumulet_domain::Error;
use cumulet_wire::{
    Timestamp,
    iam::{GetUser, GetUserRequest, GetUserResponse, User},
};

use crate::{
    fault::Fault,
    rpc::{action::Action, ctx::Ctx},
};

#[async_trait]
impl Action for GetUser {
    async fn run(ctx: &Ctx, input: GetUserRequest) -> Result<GetUserResponse, Fault> {
        let name = input.user_name.as_deref();
        let user = accounts::get_user(&ctx.cloud, &ctx.who, name).await;
        let user = user.map_err(|error| no_such_user(error, name))?;
        Ok(GetUserResponse {
            user: Some(User {
                path: Some("/".into()),
                arn: Some(format!("arn:aws:iam::{}:user/{}", user.account, user.row.name)),
                user_name: Some(user.row.name),
                user_id: Some(user.row.id),
                create_date: Some(Timestamp(user.row.created_at)),
                ..User::default()
            }),
        })
    }
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
