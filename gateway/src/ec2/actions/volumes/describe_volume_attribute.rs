//! DescribeVolumeAttribute: the attribute that is named, and no other.

use async_trait::async_trait;
use cumulet_backend::api::volumes;
use cumulet_wire::ec2::{
    shared::AttributeBooleanValue,
    volumes::{DescribeVolumeAttribute, DescribeVolumeAttributeRequest, DescribeVolumeAttributeResult},
};

use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id},
    },
    fault::Fault,
};

#[async_trait]
impl Action for DescribeVolumeAttribute {
    async fn run(
        ctx: &Ctx,
        input: DescribeVolumeAttributeRequest,
    ) -> Result<DescribeVolumeAttributeResult, Fault> {
        let id = id(&input.volume_id)?;
        let name = input.attribute.as_str();
        if !matches!(name, "autoEnableIO" | "productCodes") {
            let reason = "expecting autoEnableIO or productCodes";
            return Err(Fault::invalid("Attribute", name, reason));
        }
        let enabled = volumes::auto_enable_io(&ctx.cloud, &ctx.who, id).await?;
        let mut shown = DescribeVolumeAttributeResult {
            volume_id: Some(id.to_string()),
            ..Default::default()
        };
        match name {
            "autoEnableIO" => shown.auto_enable_io = Some(AttributeBooleanValue { value: Some(enabled) }),
            // There is no market.
            _ => shown.product_codes = Some(Vec::new()),
        }
        Ok(shown)
    }
}
