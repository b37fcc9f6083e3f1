//! DescribeAccountAttributes: old clients read here that only VPCs are supported, and which is the
//! default one.

use async_trait::async_trait;
use cumulet_backend::api::{accounts, vpcs};
use cumulet_wire::ec2::regions::{
    AccountAttribute, AccountAttributeValue, DescribeAccountAttributes, DescribeAccountAttributesRequest,
    DescribeAccountAttributesResult,
};

use crate::{
    ec2::{action::Action, ctx::Ctx, describe::all_known},
    fault::Fault,
};

/// Security groups that an interface may have.
const GROUPS_PER_INTERFACE: &str = "5";

#[async_trait]
impl Action for DescribeAccountAttributes {
    async fn run(
        ctx: &Ctx,
        input: DescribeAccountAttributesRequest,
    ) -> Result<DescribeAccountAttributesResult, Fault> {
        let limits = accounts::limits(&ctx.cloud, &ctx.who).await?;
        let default = vpcs::default_vpc(&ctx.cloud, &ctx.who).await?;
        let all = [
            ("supported-platforms", "VPC".to_owned()),
            (
                "default-vpc",
                default.map_or_else(|| "none".into(), |vpc| vpc.to_string()),
            ),
            ("max-instances", limits.instances_max.to_string()),
            (
                "vpc-max-security-groups-per-interface",
                GROUPS_PER_INTERFACE.into(),
            ),
            // Elastic addresses are not served, so there can be none.
            ("max-elastic-ips", "0".into()),
            ("vpc-max-elastic-ips", "0".into()),
        ];
        let names = &input.attribute_names;
        let missing = "there is no such attribute";
        all_known("AttributeName", names, &all, |(name, _)| name, missing)?;
        let wanted = all
            .into_iter()
            .filter(|(name, _)| names.is_empty() || names.iter().any(|n| n == name));
        let attribute = |(name, value): (&str, String)| AccountAttribute {
            attribute_name: Some(name.into()),
            attribute_values: vec![AccountAttributeValue {
                attribute_value: Some(value),
            }],
        };
        Ok(DescribeAccountAttributesResult {
            account_attributes: wanted.map(attribute).collect(),
        })
    }
}
