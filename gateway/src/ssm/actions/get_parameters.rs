//! GetParameters: up to ten parameters, in alphabetical order, and the names of those that are not there.

use async_trait::async_trait;
use cumulet_backend::authority::Permission;
use cumulet_wire::ssm::{GetParameters, GetParametersRequest, GetParametersResult};

use crate::{
    fault::Fault,
    rpc::{action::Action, ctx::Ctx},
    ssm::parameter::{self, Found},
};

/// Names at the most, by the model.
const MAX_NAMES: usize = 10;

#[async_trait]
impl Action for GetParameters {
    async fn run(ctx: &Ctx, input: GetParametersRequest) -> Result<GetParametersResult, Fault> {
        let mut names = input.names.unwrap_or_default();
        check(&names)?;
        names.sort_unstable();
        names.dedup();
        let found = parameter::named(ctx, Permission::GET_PARAMETERS, &names).await?;
        let mut result = GetParametersResult::default();
        for (name, found) in names.into_iter().zip(found) {
            match found {
                Found::Parameter(shown) => result.parameters.push(*shown),
                Found::OtherVersion | Found::Nothing => result.invalid_parameters.push(name),
            }
        }
        Ok(result)
    }
}

/// The model's bounds.
fn check(names: &[String]) -> Result<(), Fault> {
    let bound = match names.len() {
        0 => "greater than or equal to 1",
        count if count > MAX_NAMES => "less than or equal to 10",
        _ => {
            return names
                .iter()
                .try_for_each(|name| parameter::check_length("names", name));
        }
    };
    let shown: String = names.join(", ").chars().take(300).collect();
    let constraint = format!("Member must have length {bound}");
    Err(parameter::unsatisfied(
        "names",
        &format!("[{shown}]"),
        &constraint,
    ))
}
