//! DescribeSubnets.

use async_trait::async_trait;
use cumulet_backend::api::{
    Page, PageRequest, regions,
    vpcs::{self, SubnetQuery, SubnetView},
};
use cumulet_wire::ec2::vpcs::{
    DescribeSubnets, DescribeSubnetsRequest, PrivateDnsNameOptionsOnLaunch, Subnet,
};

use crate::{
    ec2::{
        ctx::{Ctx, ids, tags_if_any},
        describe::Describe,
        filter::{Filters, Keyed},
    },
    fault::Fault,
};

type Row = Keyed<i64, Subnet>;

#[async_trait]
impl Describe for DescribeSubnets {
    type Row = Row;

    async fn load(
        ctx: &Ctx,
        input: &DescribeSubnetsRequest,
        _: &Filters<Row>,
        page: PageRequest,
    ) -> Result<Page<Row>, Fault> {
        let query = SubnetQuery {
            ids: ids(&input.subnet_ids)?,
            vpcs: Vec::new(),
        };
        let page = vpcs::describe_subnets(&ctx.cloud, &ctx.who, &query, page).await?;
        Ok(page.map(|view| Row::new(view.row.id.to_db(), subnet(ctx, &view))))
    }
}

fn subnet(ctx: &Ctx, view: &SubnetView) -> Subnet {
    let row = &view.row;
    let id = row.id.0.to_string();
    let owner = row.account.0.to_string();
    Subnet {
        availability_zone_id: Some(regions::zone_id(&row.availability_zone)),
        map_customer_owned_ip_on_launch: Some(false),
        owner_id: Some(owner),
        assign_ipv6_address_on_creation: Some(false),
        tags: tags_if_any(&view.tags),
        subnet_arn: Some(ctx.arn("subnet", &id)),
        enable_dns64: Some(false),
        ipv6_native: Some(false),
        private_dns_name_options_on_launch: Some(PrivateDnsNameOptionsOnLaunch {
            hostname_type: Some("ip-name".into()),
            enable_resource_name_dns_a_record: Some(false),
            enable_resource_name_dns_aaaa_record: Some(false),
        }),
        subnet_id: Some(id),
        state: Some("available".into()),
        vpc_id: Some(row.vpc.0.to_string()),
        cidr_block: Some(row.cidr.to_string()),
        available_ip_address_count: i32::try_from(view.available).ok(),
        availability_zone: Some(row.availability_zone.clone()),
        default_for_az: Some(view.is_default()),
        map_public_ip_on_launch: Some(view.maps_public_ip()),
        ..Default::default()
    }
}
