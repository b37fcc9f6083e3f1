//! DescribeVpcs.

use async_trait::async_trait;
use cumulet_backend::api::{
    Page, PageRequest,
    vpcs::{self, VpcQuery, VpcView},
};
use cumulet_wire::ec2::vpcs::{
    DescribeVpcs, DescribeVpcsRequest, Vpc, VpcCidrBlockAssociation, VpcCidrBlockState,
};

use crate::{
    ec2::{
        ctx::{Ctx, ids, tags_if_any},
        describe::Describe,
        filter::{Filters, Keyed},
    },
    fault::Fault,
};

type Row = Keyed<i64, Vpc>;

#[async_trait]
impl Describe for DescribeVpcs {
    type Row = Row;

    async fn load(
        ctx: &Ctx,
        input: &DescribeVpcsRequest,
        _: &Filters<Row>,
        page: PageRequest,
    ) -> Result<Page<Row>, Fault> {
        let query = VpcQuery {
            ids: ids(&input.vpc_ids)?,
        };
        let page = vpcs::describe_vpcs(&ctx.cloud, &ctx.who, &query, page).await?;
        Ok(page.map(|view| Row::new(view.row.id.to_db(), vpc(&view))))
    }
}

fn vpc(view: &VpcView) -> Vpc {
    let id = view.row.id.0;
    Vpc {
        owner_id: Some(view.row.account.0.to_string()),
        instance_tenancy: Some("default".into()),
        cidr_block_association_set: vec![VpcCidrBlockAssociation {
            // The association of the one block has the VPC's number.
            association_id: Some(format!("vpc-cidr-assoc-{:017x}", id.number())),
            cidr_block: Some(view.row.cidr.to_string()),
            cidr_block_state: Some(VpcCidrBlockState {
                state: Some("associated".into()),
                ..Default::default()
            }),
        }],
        is_default: Some(view.is_default()),
        tags: tags_if_any(&view.tags),
        vpc_id: Some(id.to_string()),
        state: Some("available".into()),
        cidr_block: Some(view.row.cidr.to_string()),
        dhcp_options_id: Some("default".into()),
        ..Default::default()
    }
}
