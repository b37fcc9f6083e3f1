//! ModifyInstanceAttribute: one attribute at a time, named by its own parameter or by `Attribute` and
//! `Value`.

use async_trait::async_trait;
use cumulet_backend::api::instances::{self, AttributeChange, DiskChange};
use cumulet_domain::{Error, instance::ShutdownBehavior};
use cumulet_wire::{
    Done,
    ec2::instances::{
        InstanceBlockDeviceMappingSpecification, ModifyInstanceAttribute, ModifyInstanceAttributeRequest,
    },
};

use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id, ids},
        user_data,
    },
    fault::Fault,
};

#[async_trait]
impl Action for ModifyInstanceAttribute {
    async fn run(ctx: &Ctx, input: ModifyInstanceAttributeRequest) -> Result<Done, Fault> {
        let id = id(&input.instance_id)?;
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
        let done = instances::modify_attribute(&ctx.cloud, &ctx.who, id, change).await;
        done.map_err(no_such_type)?;
        Ok(Done)
    }
}

/// EC2 has other words here than at a launch.
fn no_such_type(error: Error) -> Fault {
    match error {
        Error::UnknownInstanceType { name } => {
            let message = format!("The following supplied instance types do not exist: [{name}]");
            Fault::coded("InvalidParameterValue", 400, message)
        }
        other => other.into(),
    }
}

/// Every change that the request names.
fn named(input: ModifyInstanceAttributeRequest) -> Result<Vec<AttributeChange>, Fault> {
    use AttributeChange as C;
    let mut changes = Vec::new();
    let switch =
        |value: Option<cumulet_wire::ec2::shared::AttributeBooleanValue>| value.and_then(|v| v.value);
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
        let text = data.value.unwrap_or_default();
        changes.push(C::UserData(user_data::from_base64(&text.0)?));
    }
    if !input.groups.is_empty() {
        changes.push(C::Groups(ids(&input.groups)?));
    }
    match (input.attribute, input.value) {
        (Some(name), value) => {
            let value = value.ok_or_else(|| Fault::missing("Value"))?;
            changes.push(by_name(&name, value.0)?);
        }
        // Of no attribute; an empty one is as good as none.
        (None, Some(value)) if !value.0.is_empty() => {
            let (parameter, needs) = ("Value", "Attribute");
            return Err(Error::ParameterDependency { parameter, needs }.into());
        }
        (None, _) => {}
    }
    for (n, mapping) in input.block_device_mappings.into_iter().enumerate() {
        changes.push(C::Disk(disk(n + 1, mapping)?));
    }
    Ok(changes)
}

/// What is asked of a disk; without words about its end it ends with the instance.
fn disk(n: usize, mapping: InstanceBlockDeviceMappingSpecification) -> Result<DiskChange, Fault> {
    let missing = || Fault::missing(&format!("BlockDeviceMapping.{n}.DeviceName"));
    // Its presence means yes, whatever its value.
    if mapping.no_device.is_some() {
        let message = "A mapping of a disk can't be removed.";
        return Err(Fault::coded("UnsupportedOperation", 400, message));
    }
    let ebs = mapping.ebs.unwrap_or_default();
    Ok(DiskChange {
        device: mapping.device_name.ok_or_else(missing)?,
        volume: ebs.volume_id.as_deref().map(id).transpose()?,
        delete_on_termination: ebs.delete_on_termination.unwrap_or(true),
    })
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
    use cumulet_backend::api::instances::UserData;
    use cumulet_wire::{Protocol, Query, decode};

    use super::*;

    fn changes(body: &str) -> Result<Vec<AttributeChange>, String> {
        let query = Query::parse(body.as_bytes(), Protocol::Ec2).unwrap();
        let input = decode(&query).unwrap();
        named(input).map_err(|fault| fault.answer().code.into_owned())
    }

    #[test]
    fn what_a_request_changes() {
        use AttributeChange as C;
        let hi = || UserData::new(b"hi".to_vec()).unwrap();
        let i = "InstanceId=i-0123456789abcdef0";
        let disk = |device: &str, delete_on_termination| {
            C::Disk(DiskChange {
                device: device.into(),
                volume: None,
                delete_on_termination,
            })
        };
        for (rest, expected) in [
            (
                "DisableApiTermination.Value=true",
                Ok(vec![C::DisableApiTermination(true)]),
            ),
            (
                "InstanceType.Value=t3.small",
                Ok(vec![C::InstanceType("t3.small".into())]),
            ),
            ("UserData.Value=aGk=", Ok(vec![C::UserData(hi())])),
            ("UserData.Value=aGk", Ok(vec![C::UserData(hi())])),
            ("UserData.Value=", Ok(vec![C::UserData(None)])),
            ("Attribute=userData&Value=aGk", Ok(vec![C::UserData(hi())])),
            ("Attribute=userData&Value=", Ok(vec![C::UserData(None)])),
            ("UserData.Value=!", Err("InvalidUserData.Malformed".into())),
            (
                "Attribute=userData&Value=!",
                Err("InvalidUserData.Malformed".into()),
            ),
            (
                "Attribute=disableApiStop&Value=True",
                Ok(vec![C::DisableApiStop(true)]),
            ),
            ("Attribute=nonsense&Value=1", Err("InvalidParameterValue".into())),
            ("Attribute=kernel&Value=aki-1", Err("UnsupportedOperation".into())),
            (
                "InstanceInitiatedShutdownBehavior.Value=explode",
                Err("InvalidParameterValue".into()),
            ),
            (
                "BlockDeviceMapping.1.DeviceName=/dev/xvda",
                Ok(vec![disk("/dev/xvda", true)]),
            ),
            (
                "BlockDeviceMapping.1.DeviceName=/dev/sdz&BlockDeviceMapping.1.Ebs.DeleteOnTermination=false",
                Ok(vec![disk("/dev/sdz", false)]),
            ),
            (
                "BlockDeviceMapping.1.Ebs.DeleteOnTermination=true",
                Err("MissingParameter".into()),
            ),
            (
                "BlockDeviceMapping.1.DeviceName=/dev/xvda&BlockDeviceMapping.1.Ebs.VolumeId=nonsense",
                Err("InvalidVolumeID.Malformed".into()),
            ),
            ("Attribute=userData", Err("MissingParameter".into())),
            (
                "DisableApiStop.Value=true&Value=false",
                Err("InvalidParameterDependency".into()),
            ),
            ("Attribute=userData&Value=", Ok(vec![C::UserData(None)])),
            (
                "Attribute=disableApiStop&Value=",
                Err("InvalidParameterValue".into()),
            ),
            ("GroupId.1=nonsense", Err("InvalidGroupId.Malformed".into())),
        ] {
            assert_eq!(changes(&format!("{i}&{rest}")), expected, "{rest}");
        }
    }
}
