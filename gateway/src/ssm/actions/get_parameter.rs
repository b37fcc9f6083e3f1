//! GetParameter: one parameter, by its name or its ARN.

use async_trait::async_trait;
use cumulet_backend::authority::Permission;
use cumulet_domain::parameter::{Reference, Selector};
use cumulet_wire::ssm::{GetParameter, GetParameterRequest, GetParameterResult};

use crate::{
    fault::Fault,
    rpc::{action::Action, ctx::Ctx},
    ssm::parameter::{self, Found},
};

#[async_trait]
impl Action for GetParameter {
    async fn run(ctx: &Ctx, input: GetParameterRequest) -> Result<GetParameterResult, Fault> {
        let name = input.name.unwrap_or_default();
        parameter::check_length("name", &name)?;
        let one = std::slice::from_ref(&name);
        let mut found = parameter::named(ctx, Permission::GET_PARAMETER, one).await?;
        match found.pop() {
            Some(Found::Parameter(shown)) => Ok(GetParameterResult {
                parameter: Some(*shown),
            }),
            Some(Found::OtherVersion) => Err(other_version(&Reference::parse(&name, ctx.region()))),
            Some(Found::Nothing) | None => {
                // AWS says nothing but the code; the name helps.
                let shown: String = name.chars().take(300).collect();
                let message = format!("Parameter {shown} not found.");
                Err(Fault::coded("ParameterNotFound", 400, message))
            }
        }
    }
}

fn other_version(asked: &Reference<'_>) -> Fault {
    let (what, shown) = match asked.selector {
        Some(Selector::Version(version)) => ("version", version.to_string()),
        Some(Selector::Label(label)) => ("label", label.chars().take(128).collect()),
        None => ("version", String::new()),
    };
    let message = format!(
        "Systems Manager could not find {what} {shown} of {}. Verify the {what} and try again.",
        asked.name
    );
    Fault::coded("ParameterVersionNotFound", 400, message)
}
