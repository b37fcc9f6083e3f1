//! ModifyImageAttribute: one attribute at a time, named by its own parameter or by `Attribute` and what goes with it.

use async_trait::async_trait;
use cumulet_backend::api::images::{self, ImageChange, Sharing};
use cumulet_wire::{
    Done,
    ec2::images::{ModifyImageAttribute, ModifyImageAttributeRequest},
};

use super::{describe_image_attribute::PERMISSION, register_image::imds};
use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id},
        sharing::{Flat, asked},
    },
    fault::Fault,
};

#[async_trait]
impl Action for ModifyImageAttribute {
    async fn run(ctx: &Ctx, input: ModifyImageAttributeRequest) -> Result<Done, Fault> {
        let image = id(&input.image_id)?;
        let mut changes = changes(&input)?;
        let change = match (changes.pop(), changes.is_empty()) {
            (Some(change), true) => change,
            (Some(_), false) => {
                return Err(Fault::combination(
                    "Fields for multiple attribute types specified",
                ));
            }
            (None, _) => return Err(Fault::combination("No attributes specified.")),
        };
        images::modify(&ctx.cloud, &ctx.who, image, change).await?;
        Ok(Done)
    }
}

/// Every change that the request names.
fn changes(input: &ModifyImageAttributeRequest) -> Result<Vec<ImageChange>, Fault> {
    let mut changes = Vec::new();
    if let Some(given) = &input.description {
        // An empty one takes it away.
        changes.push(ImageChange::Description(given.value.clone().unwrap_or_default()));
    }
    if let Some(given) = &input.imds_support {
        imds(given.value.as_deref().unwrap_or_default())?;
        changes.push(ImageChange::ImdsV2);
    }
    let sharing = sharing(input)?;
    if sharing != Sharing::default() {
        changes.push(ImageChange::Launchers(sharing));
    }
    let value = || input.value.as_deref().ok_or_else(|| Fault::missing("Value"));
    match input.attribute.as_deref() {
        None => {}
        Some("description") => changes.push(ImageChange::Description(value()?.to_owned())),
        Some("imdsSupport") => {
            imds(value()?)?;
            changes.push(ImageChange::ImdsV2);
        }
        // What goes with it has been looked at.
        Some(PERMISSION) if !changes.is_empty() => {}
        Some(PERMISSION) => return Err(Fault::missing("LaunchPermission")),
        Some(other) => {
            let reason = "expecting description, imdsSupport or launchPermission";
            return Err(Fault::invalid("Attribute", other, reason));
        }
    }
    Ok(changes)
}

fn sharing(input: &ModifyImageAttributeRequest) -> Result<Sharing, Fault> {
    let permission = input.launch_permission.as_ref();
    let flat = Flat {
        operation: input.operation_type.as_deref(),
        users: &input.user_ids,
        groups: &input.user_groups,
    };
    asked(
        permission
            .iter()
            .flat_map(|both| &both.add)
            .map(|each| (&each.user_id, &each.group)),
        permission
            .iter()
            .flat_map(|both| &both.remove)
            .map(|each| (&each.user_id, &each.group)),
        flat,
    )
}

#[cfg(test)]
mod tests {
    use cumulet_backend::api::images::Grantees;
    use cumulet_wire::{Protocol, Query, decode};

    use super::*;

    fn of(rest: &str) -> Result<Vec<ImageChange>, String> {
        let body = format!("ImageId=ami-0123456789abcdef0&{rest}");
        let input = decode(&Query::parse(body.as_bytes(), Protocol::Ec2).unwrap()).unwrap();
        changes(&input).map_err(|fault| fault.answer().code.into_owned())
    }

    #[test]
    fn every_way_to_say_a_change_is_understood() {
        let words = |text: &str| Ok(vec![ImageChange::Description(text.into())]);
        let given = |all: bool, accounts: &[u64]| Grantees {
            all,
            accounts: accounts
                .iter()
                .map(|n| format!("{n:012}").parse().unwrap())
                .collect(),
        };
        let launchers = |add, remove| Ok(vec![ImageChange::Launchers(Sharing { add, remove })]);
        for (rest, expected) in [
            ("Description.Value=words", words("words")),
            ("Description.Value=", words("")),
            ("Attribute=description&Value=words", words("words")),
            ("Attribute=description&Value=", words("")),
            ("ImdsSupport.Value=v2.0", Ok(vec![ImageChange::ImdsV2])),
            ("Attribute=imdsSupport&Value=v2.0", Ok(vec![ImageChange::ImdsV2])),
            (
                "LaunchPermission.Add.1.UserId=123456789012&LaunchPermission.Remove.1.Group=all",
                launchers(given(false, &[123_456_789_012]), given(true, &[])),
            ),
            (
                "Attribute=launchPermission&OperationType=add&UserGroup.1=all&UserId.1=123456789012",
                launchers(given(true, &[123_456_789_012]), given(false, &[])),
            ),
            (
                "Attribute=launchPermission&OperationType=remove&UserId.1=123456789012",
                launchers(given(false, &[]), given(false, &[123_456_789_012])),
            ),
        ] {
            assert_eq!(of(rest), expected, "{rest}");
        }
    }

    #[test]
    fn what_can_not_be_is_refused() {
        for (rest, code) in [
            ("ImdsSupport.Value=v1.0", "InvalidParameterValue"),
            ("ImdsSupport.Value=", "InvalidParameterValue"),
            ("Attribute=description", "MissingParameter"),
            ("Attribute=launchPermission", "MissingParameter"),
            ("Attribute=colour&Value=x", "InvalidParameterValue"),
            ("UserId.1=123456789012", "MissingParameter"),
            ("OperationType=set&UserId.1=123456789012", "InvalidParameterValue"),
            ("OperationType=add&UserId.1=somebody", "InvalidParameterValue"),
            ("OperationType=add&UserGroup.1=some", "InvalidParameterValue"),
        ] {
            assert_eq!(of(rest).unwrap_err(), code, "{rest}");
        }
        assert_eq!(of(""), Ok(Vec::new()));
        let two = of("Description.Value=words&ImdsSupport.Value=v2.0").unwrap();
        assert_eq!(two.len(), 2);
    }
}
