//! ModifyImageAttribute: one attribute at a time, named by its own parameter or by `Attribute` and what goes with it.

use async_trait::async_trait;
use cumulet_backend::api::images::{self, ImageChange, Sharing};
use cumulet_domain::Error;
use cumulet_wire::{
    Done,
    ec2::images::{ModifyImageAttribute, ModifyImageAttributeRequest},
};

use super::register_image::imds;
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
    let launchers = sharing != Sharing::default();
    if launchers {
        changes.push(ImageChange::Launchers(sharing));
    }
    changes.extend(named(input, launchers)?);
    Ok(changes)
}

/// The change that `Attribute` names, whatever the case (Ansible's is `Description`). What an attribute's own parameter
/// says needs no `Value` besides, and a `Value` of no attribute is refused; an empty one is as good as none.
fn named(input: &ModifyImageAttributeRequest, launchers: bool) -> Result<Option<ImageChange>, Fault> {
    let stray = input.value.as_ref().is_some_and(|value| !value.is_empty());
    let Some(attribute) = input.attribute.as_deref() else {
        let (parameter, needs) = ("Value", "Attribute");
        return match stray {
            true => Err(Error::ParameterDependency { parameter, needs }.into()),
            false => Ok(None),
        };
    };
    let value = |said_already: bool| match input.value.as_deref() {
        None if said_already => Ok(None),
        value => value.map(Some).ok_or_else(|| Fault::missing("Value")),
    };
    match attribute.to_ascii_lowercase().as_str() {
        "description" => {
            let words = value(input.description.is_some())?;
            Ok(words.map(|words| ImageChange::Description(words.to_owned())))
        }
        "imdssupport" => {
            let version = value(input.imds_support.is_some())?;
            version
                .map(|version| imds(version).map(|()| ImageChange::ImdsV2))
                .transpose()
        }
        "launchpermission" if stray => Err(Fault::combination(
            "The parameter Value does not go with the attribute launchPermission",
        )),
        // What goes with it has been looked at.
        "launchpermission" if launchers => Ok(None),
        "launchpermission" => Err(Fault::missing("LaunchPermission")),
        _ => {
            let reason = "expecting description, imdsSupport or launchPermission";
            Err(Fault::invalid("Attribute", attribute, reason))
        }
    }
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
            ("Attribute=Description&Description.Value=words", words("words")),
            ("ImdsSupport.Value=v2.0", Ok(vec![ImageChange::ImdsV2])),
            ("Attribute=imdsSupport&Value=v2.0", Ok(vec![ImageChange::ImdsV2])),
            (
                "Attribute=imdsSupport&ImdsSupport.Value=v2.0",
                Ok(vec![ImageChange::ImdsV2]),
            ),
            (
                "LaunchPermission.Add.1.UserId=123456789012&LaunchPermission.Remove.1.Group=all",
                launchers(given(false, &[123_456_789_012]), given(true, &[])),
            ),
            (
                "Attribute=launchPermission&OperationType=add&UserGroup.1=all&UserId.1=123456789012",
                launchers(given(true, &[123_456_789_012]), given(false, &[])),
            ),
            (
                "Attribute=LaunchPermission&LaunchPermission.Add.1.Group=all",
                launchers(given(true, &[]), given(false, &[])),
            ),
            (
                "OperationType=add&LaunchPermission.Add.1.Group=all",
                launchers(given(true, &[]), given(false, &[])),
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
            ("Attribute=description&ImdsSupport.Value=v2.0", "MissingParameter"),
            ("Attribute=launchPermission", "MissingParameter"),
            ("Attribute=colour&Value=x", "InvalidParameterValue"),
            ("UserId.1=123456789012", "MissingParameter"),
            ("OperationType=set&UserId.1=123456789012", "InvalidParameterValue"),
            ("OperationType=add&UserId.1=somebody", "InvalidParameterValue"),
            ("OperationType=add&UserGroup.1=some", "InvalidParameterValue"),
            // Nothing is done beside what is left aside.
            ("Value=words", "InvalidParameterDependency"),
            (
                "Description.Value=words&Value=others",
                "InvalidParameterDependency",
            ),
            (
                "Attribute=launchPermission&Description.Value=words",
                "MissingParameter",
            ),
            (
                "Attribute=launchPermission&LaunchPermission.Add.1.Group=all&Value=words",
                "InvalidParameterCombination",
            ),
            ("Description.Value=words&OperationType=add", "MissingParameter"),
            (
                "OperationType=remove&LaunchPermission.Add.1.Group=all",
                "InvalidParameterCombination",
            ),
        ] {
            assert_eq!(of(rest).unwrap_err(), code, "{rest}");
        }
        assert_eq!(of(""), Ok(Vec::new()));
        for rest in [
            "Description.Value=words&ImdsSupport.Value=v2.0",
            "Attribute=description&Value=words&Description.Value=others",
        ] {
            assert_eq!(of(rest).map(|both| both.len()), Ok(2), "{rest}");
        }
    }
}
