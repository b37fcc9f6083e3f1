//! Parameters as Parameter Store shows them, and how requests name them.

use cumulet_backend::{api::aliases, authority::Permission, entity::image_alias};
use cumulet_domain::parameter::{Reference, Selector};
use cumulet_wire::{Sensitive, Timestamp, ssm::Parameter};

use crate::{fault::Fault, rpc::ctx::Ctx};

/// Characters of a name or an ARN in a request at the most, by the model.
const MAX_TEXT: usize = 2048;

/// What there is under a name of a request.
#[derive(Debug)]
pub(super) enum Found {
    /// The parameter.
    Parameter(Box<Parameter>),
    /// It is there, and not in this version or under this label.
    OtherVersion,
    /// Nothing.
    Nothing,
}

/// What is under each of these names, in their order.
///
/// # Errors
/// Those of the domain.
pub(super) async fn named(ctx: &Ctx, permission: Permission, texts: &[String]) -> Result<Vec<Found>, Fault> {
    let asked: Vec<Reference<'_>> = texts
        .iter()
        .map(|text| Reference::parse(text, ctx.region()))
        .collect();
    let names: Vec<&str> = asked.iter().map(|asked| asked.name).collect();
    let rows = aliases::named(&ctx.cloud, &ctx.who, permission, &names).await?;
    let found = asked.into_iter().map(|asked| {
        let Some(row) = rows.iter().find(|row| row.name == asked.name) else {
            return Found::Nothing;
        };
        let selector = match asked.selector {
            None => None,
            Some(Selector::Version(version)) if version == row.version.0 => Some(format!(":{version}")),
            Some(_) => return Found::OtherVersion,
        };
        Found::Parameter(Box::new(Parameter {
            selector,
            ..show(ctx, row)
        }))
    });
    Ok(found.collect())
}

/// A parameter. Its data type is the one that launches resolve.
pub(super) fn show(ctx: &Ctx, row: &image_alias::Model) -> Parameter {
    Parameter {
        name: Some(row.name.clone()),
        r#type: Some("String".into()),
        value: Some(Sensitive(row.image.to_string())),
        version: Some(row.version.to_db()),
        last_modified_date: Some(Timestamp(row.modified_at)),
        arn: Some(format!("arn:aws:ssm:{}::parameter{}", ctx.region(), row.name)),
        data_type: Some("aws:ec2:image".into()),
        ..Parameter::default()
    }
}

/// The model's bounds of a name. `member` is as AWS writes it, in small letters.
///
/// # Errors
/// `ValidationException`.
pub(super) fn check_length(member: &str, text: &str) -> Result<(), Fault> {
    let bound = match text.chars().count() {
        0 => "greater than or equal to 1",
        length if length > MAX_TEXT => "less than or equal to 2048",
        _ => return Ok(()),
    };
    let shown: String = text.chars().take(128).collect();
    Err(unsatisfied(
        member,
        &shown,
        &format!("Member must have length {bound}"),
    ))
}

/// A constraint of the model that a value does not keep.
pub(super) fn unsatisfied(member: &str, shown: &str, constraint: &str) -> Fault {
    let message = format!(
        "1 validation error detected: Value '{shown}' at '{member}' failed to satisfy constraint: {constraint}"
    );
    Fault::coded("ValidationException", 400, message)
}
