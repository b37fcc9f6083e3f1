//! DescribeInstanceAttribute: one attribute, always with a value where Terraform expects one.

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use cumulet_backend::api::instances::{self, InstanceView};
use cumulet_domain::instance::ShutdownBehavior;
use cumulet_wire::ec2::{
    instances::{
        DescribeInstanceAttribute, DescribeInstanceAttributeRequest, EnclaveOptions, InstanceAttribute,
    },
    shared::{AttributeBooleanValue, AttributeValue},
};

use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id},
        render,
    },
    fault::Fault,
};

#[async_trait]
impl Action for DescribeInstanceAttribute {
    async fn run(ctx: &Ctx, input: DescribeInstanceAttributeRequest) -> Result<InstanceAttribute, Fault> {
        let id = id(&input.instance_id)?;
        let name = input.attribute;
        if !KNOWN.contains(&name.as_str()) {
            return Err(Fault::invalid("Attribute", &name, "there is no such attribute"));
        }
        let view = instances::get(&ctx.cloud, &ctx.who, id).await?;
        if name == "userData" {
            return user_data(ctx, &view);
        }
        Ok(attribute(&view, &name))
    }
}

/// The attributes of the model.
const KNOWN: [&str; 16] = [
    "blockDeviceMapping",
    "disableApiStop",
    "disableApiTermination",
    "ebsOptimized",
    "enaSupport",
    "enclaveOptions",
    "groupSet",
    "instanceInitiatedShutdownBehavior",
    "instanceType",
    "kernel",
    "productCodes",
    "ramdisk",
    "rootDeviceName",
    "sourceDestCheck",
    "sriovNetSupport",
    "userData",
];

fn attribute(view: &InstanceView, name: &str) -> InstanceAttribute {
    let text = |value: &str| {
        Some(AttributeValue {
            value: Some(value.to_owned()),
        })
    };
    let switch = |on: bool| Some(AttributeBooleanValue { value: Some(on) });
    let none = || Some(AttributeValue { value: None });
    let mut shown = InstanceAttribute {
        instance_id: Some(view.id().to_string()),
        ..Default::default()
    };
    match name {
        "blockDeviceMapping" => {
            shown.block_device_mappings = Some(view.disks.iter().map(render::instance::disk).collect());
        }
        "disableApiStop" => shown.disable_api_stop = switch(view.is_stop_disabled()),
        "disableApiTermination" => shown.disable_api_termination = switch(view.is_termination_disabled()),
        "ebsOptimized" => shown.ebs_optimized = switch(false),
        "enaSupport" => shown.ena_support = switch(true),
        "enclaveOptions" => shown.enclave_options = Some(EnclaveOptions { enabled: Some(false) }),
        "groupSet" => shown.groups = Some(view.primary().map(render::instance::groups).unwrap_or_default()),
        "instanceInitiatedShutdownBehavior" => {
            shown.instance_initiated_shutdown_behavior = text(match view.shutdown_behavior() {
                ShutdownBehavior::Stop => "stop",
                ShutdownBehavior::Terminate => "terminate",
            });
        }
        "instanceType" => shown.instance_type = text(&view.row.instance_type),
        "kernel" => shown.kernel_id = none(),
        "productCodes" => shown.product_codes = Some(Vec::new()),
        "ramdisk" => shown.ramdisk_id = none(),
        "rootDeviceName" => shown.root_device_name = text(view.root_device()),
        "sourceDestCheck" => shown.source_dest_check = switch(true),
        "sriovNetSupport" => shown.sriov_net_support = none(),
        // The user data, which is opened for those who ask for it alone.
        _ => {}
    }
    shown
}

fn user_data(ctx: &Ctx, view: &InstanceView) -> Result<InstanceAttribute, Fault> {
    let data = instances::user_data(&ctx.cloud, &ctx.who, view)?;
    Ok(InstanceAttribute {
        instance_id: Some(view.id().to_string()),
        user_data: Some(AttributeValue {
            value: data.map(|data| STANDARD.encode(data.expose())),
        }),
        ..Default::default()
    })
}
