//! DescribeVpcs.

use async_trait::async_trait;
use cumulet_backend::api::{
    Page, PageRequest,
    vpcs::{self, VpcQuery, VpcView},
};
use cumulet_domain::{account::AccountId, id::VpcId};
use cumulet_wire::ec2::vpcs::{
    DescribeVpcs, DescribeVpcsRequest, DescribeVpcsResult, Vpc, VpcCidrBlockAssociation, VpcCidrBlockState,
};

use crate::{
    ec2::{
        ctx::{Ctx, ids, tags_if_any},
        describe::{Describe, paged},
        filter::{Filters, Table, never, on, shown},
    },
    fault::Fault,
};

fn id(row: &VpcView) -> VpcId {
    VpcId::from_db(row.row.id)
}

/// The association of the one block has the VPC's number.
fn association(row: &VpcView) -> String {
    format!("vpc-cidr-assoc-{:017x}", id(row).number())
}

#[async_trait]
impl Describe for DescribeVpcs {
    type Row = VpcView;
    type Key = i64;
    const FILTERS: Table<VpcView> = Table {
        defs: &[
            on(
                &[
                    "cidr",
                    "cidr-block",
                    "cidrBlock",
                    "cidr-block-association.cidr-block",
                ],
                |row: &VpcView, sink| sink(&row.row.cidr),
            ),
            on(&["cidr-block-association.association-id"], |row, sink| {
                shown(association(row), sink)
            }),
            on(&["cidr-block-association.state"], |_, sink| sink("associated")),
            on(&["dhcp-options-id", "dhcpOptionsId"], |_, sink| sink("default")),
            // Ansible asks for `isDefault`, undocumented and answered by EC2.
            on(&["is-default", "isDefault"], |row, sink| {
                shown(row.is_default(), sink)
            }),
            on(&["owner-id"], |row, sink| {
                shown(AccountId::from_db(row.row.account), sink)
            }),
            on(&["state"], |_, sink| sink("available")),
            on(&["vpc-id"], |row, sink| shown(id(row), sink)),
            never(&[
                "ipv6-cidr-block-association.association-id",
                "ipv6-cidr-block-association.ipv6-cidr-block",
                "ipv6-cidr-block-association.ipv6-pool",
                "ipv6-cidr-block-association.state",
            ]),
        ],
        tags: Some(|row| &row.tags),
    };

    paged!(vpc_ids);

    async fn load(
        ctx: &Ctx,
        input: &DescribeVpcsRequest,
        _: &Filters<VpcView>,
        page: PageRequest,
    ) -> Result<Page<VpcView>, Fault> {
        let query = VpcQuery {
            ids: ids(&input.vpc_ids)?,
        };
        Ok(vpcs::describe_vpcs(&ctx.cloud, &ctx.who, &query, page).await?)
    }

    fn key(row: &VpcView) -> i64 {
        row.row.id
    }

    fn render(
        _: &Ctx,
        _: &DescribeVpcsRequest,
        rows: Vec<VpcView>,
        next: Option<String>,
    ) -> DescribeVpcsResult {
        DescribeVpcsResult {
            next_token: next,
            vpcs: rows.iter().map(vpc).collect(),
        }
    }
}

fn vpc(view: &VpcView) -> Vpc {
    Vpc {
        owner_id: Some(AccountId::from_db(view.row.account).to_string()),
        instance_tenancy: Some("default".into()),
        cidr_block_association_set: vec![VpcCidrBlockAssociation {
            association_id: Some(association(view)),
            cidr_block: Some(view.row.cidr.clone()),
            cidr_block_state: Some(VpcCidrBlockState {
                state: Some("associated".into()),
                ..Default::default()
            }),
        }],
        is_default: Some(view.is_default()),
        tags: tags_if_any(&view.tags),
        vpc_id: Some(id(view).to_string()),
        state: Some("available".into()),
        cidr_block: Some(view.row.cidr.clone()),
        dhcp_options_id: Some("default".into()),
        ..Default::default()
    }
}
