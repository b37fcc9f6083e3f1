//! ModifyInstanceAttribute: one attribute at a time, named by its own parameter or by `Attribute` and
//! `Value`.

use async_trait::async_trait;
use cumulet_backend::api::instances::{self, AttributeChange, UserData};
use cumulet_domain::instance::ShutdownBehavior;
use cumulet_wire::{
    Done,
    ec2::instances::{ModifyInstanceAttribute, ModifyInstanceAttributeRequest},
};

use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, ids, required_id},
        user_data,
    },
    fault::Fault,
};

#[async_trait]
impl Action for ModifyInstanceAttribute {
    async fn run(ctx: &Ctx, input: ModifyInstanceAttributeRequest) -> Result<Done, Fault> {
        let id = required_id(input.instance_id.as_deref(), "InstanceId")?;
        let mut changes = named(input)?;
        let change = match (changes.pop(), changes.is_empty()) {
            (Some(change), true) => change,
            (Some(_), false) => {
                return Err(Fault::combination(
                    "Fields for multiple attribute types specified",
                ));
            }
            (None, _) => return Err(Fault::combination("No attributes specified.")),
        };
        let Some(change) = change else { return Ok(Done) };
        instances::modify_attribute(&ctx.cloud, &ctx.who, id, change).await?;
        Ok(Done)
    }
}

/// Every change that the request names; `None` for one that is already as asked.
fn named(input: ModifyInstanceAttributeRequest) -> Result<Vec<Option<AttributeChange>>, Fault> {
    use AttributeChange as C;
    let mut changes = Vec::new();
    let switch =
        |value: Option<cumulet_wire::ec2::instances::AttributeBooleanValue>| value.and_then(|v| v.value);
    changes.extend(switch(input.source_dest_check).map(C::SourceDestCheck));
    changes.extend(switch(input.disable_api_stop).map(C::DisableApiStop));
    changes.extend(switch(input.disable_api_termination).map(C::DisableApiTermination));
    changes.extend(switch(input.ebs_optimized).map(C::EbsOptimized));
    changes.extend(switch(input.ena_support).map(C::EnaSupport));
    changes.extend(input.instance_type.and_then(|v| v.value).map(C::InstanceType));
    if let Some(text) = input.instance_initiated_shutdown_behavior.and_then(|v| v.value) {
        changes.push(C::ShutdownBehavior(behavior(&text)?));
    }
    if let Some(data) = input.user_data {
        changes.push(C::UserData(UserData::new(data.value.unwrap_or_default().0)?));
    }
    if !input.groups.is_empty() {
        changes.push(C::Groups(ids(&input.groups)?));
    }
    if let Some(name) = input.attribute {
        changes.push(by_name(
            &name,
            input.value.map(|value| value.0).unwrap_or_default(),
        )?);
    }
    let mut changes: Vec<Option<C>> = changes.into_iter().map(Some).collect();
    for mapping in input.block_device_mappings {
        if mapping.ebs.and_then(|ebs| ebs.delete_on_termination) == Some(false) {
            let message = "The root disk can't outlive its instance: volumes are not supported yet.";
            return Err(Fault::coded("UnsupportedOperation", 400, message));
        }
        changes.push(None);
    }
    Ok(changes)
}

fn behavior(text: &str) -> Result<ShutdownBehavior, Fault> {
    match text {
        "stop" => Ok(ShutdownBehavior::Stop),
        "terminate" => Ok(ShutdownBehavior::Terminate),
        other => Err(Fault::invalid(
            "InstanceInitiatedShutdownBehavior",
            other,
            "expecting stop or terminate",
        )),
    }
}

fn by_name(name: &str, value: String) -> Result<AttributeChange, Fault> {
    use AttributeChange as C;
    let switch = || match value.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(Fault::invalid("Value", &value, "expecting true or false")),
    };
    match name {
        "instanceType" => Ok(C::InstanceType(value)),
        "userData" => user_data::from_base64(&value).map(C::UserData),
        "disableApiTermination" => switch().map(C::DisableApiTermination),
        "disableApiStop" => switch().map(C::DisableApiStop),
        "sourceDestCheck" => switch().map(C::SourceDestCheck),
        "ebsOptimized" => switch().map(C::EbsOptimized),
        "enaSupport" => switch().map(C::EnaSupport),
        "instanceInitiatedShutdownBehavior" => behavior(&value).map(C::ShutdownBehavior),
        "groupSet" => Ok(C::Groups(vec![crate::ec2::ctx::id(&value)?])),
        "kernel" | "ramdisk" | "blockDeviceMapping" | "sriovNetSupport" | "enclaveOptions" => {
            Err(Fault::coded(
                "UnsupportedOperation",
                400,
                format!("The attribute {name} can't be changed this way."),
            ))
        }
        other => Err(Fault::invalid("Attribute", other, "there is no such attribute")),
    }
}

#[cfg(test)]
mod tests {
    use cumulet_wire::{Protocol, Query, decode};

    use super::*;

    fn changes(body: &str) -> Result<Vec<Option<AttributeChange>>, String> {
        let query = Query::parse(body.as_bytes(), Protocol::Ec2).unwrap();
        let input = decode(&query).unwrap();
        named(input).map_err(|fault| fault.answer().code.into_owned())
    }

    #[test]
    fn what_a_request_changes() {
        use AttributeChange as C;
        let hi = || UserData::new(b"hi".to_vec()).unwrap();
        let i = "InstanceId=i-0123456789abcdef0";
        for (rest, expected) in [
            (
                "DisableApiTermination.Value=true",
                Ok(vec![Some(C::DisableApiTermination(true))]),
            ),
            (
                "InstanceType.Value=t3.small",
                Ok(vec![Some(C::InstanceType("t3.small".into()))]),
            ),
            ("UserData.Value=aGk=", Ok(vec![Some(C::UserData(hi()))])),
            ("UserData.Value=aGk", Ok(vec![Some(C::UserData(hi()))])),
            ("UserData.Value=", Ok(vec![Some(C::UserData(None))])),
            ("Attribute=userData&Value=aGk", Ok(vec![Some(C::UserData(hi()))])),
            ("Attribute=userData&Value=", Ok(vec![Some(C::UserData(None))])),
            (
                "Attribute=userData&Value=!",
                Err("InvalidUserData.Malformed".into()),
            ),
            (
                "Attribute=disableApiStop&Value=True",
                Ok(vec![Some(C::DisableApiStop(true))]),
            ),
            ("Attribute=nonsense&Value=1", Err("InvalidParameterValue".into())),
            ("Attribute=kernel&Value=aki-1", Err("UnsupportedOperation".into())),
            (
                "InstanceInitiatedShutdownBehavior.Value=explode",
                Err("InvalidParameterValue".into()),
            ),
            (
                "BlockDeviceMapping.1.Ebs.DeleteOnTermination=true",
                Ok(vec![None]),
            ),
            (
                "BlockDeviceMapping.1.Ebs.DeleteOnTermination=false",
                Err("UnsupportedOperation".into()),
            ),
            ("GroupId.1=nonsense", Err("InvalidGroupId.Malformed".into())),
        ] {
            assert_eq!(changes(&format!("{i}&{rest}")), expected, "{rest}");
        }
    }
}
