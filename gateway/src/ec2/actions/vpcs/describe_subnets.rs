//! DescribeSubnets.

use async_trait::async_trait;
use cumulet_backend::api::{
    Page, PageRequest, regions,
    vpcs::{self, SubnetQuery, SubnetView},
};
use cumulet_domain::{
    account::AccountId,
    id::{SubnetId, VpcId},
};
use cumulet_wire::ec2::vpcs::{
    DescribeSubnets, DescribeSubnetsRequest, DescribeSubnetsResult, PrivateDnsNameOptionsOnLaunch, Subnet,
};

use crate::{
    ec2::{
        ctx::{Ctx, ids, tags_if_any},
        describe::{Describe, paged},
        filter::{Filters, Table, never, on, some, text},
    },
    fault::Fault,
};

/// A subnet as it is shown, with what the framework needs of the view.
pub(crate) struct Row {
    view: SubnetView,
    shown: Subnet,
}

#[async_trait]
impl Describe for DescribeSubnets {
    type Row = Row;
    type Key = i64;
    const FILTERS: Table<Row> = Table {
        defs: &[
            on(&["availability-zone", "availabilityZone"], |row: &Row, sink| {
                text(&row.shown.availability_zone, sink);
            }),
            on(&["availability-zone-id", "availabilityZoneId"], |row, sink| {
                text(&row.shown.availability_zone_id, sink);
            }),
            on(&["available-ip-address-count"], |row, sink| {
                some(row.shown.available_ip_address_count, sink)
            }),
            on(&["cidr-block", "cidr", "cidrBlock"], |row, sink| {
                text(&row.shown.cidr_block, sink)
            }),
            on(&["default-for-az", "defaultForAz"], |row, sink| {
                some(row.shown.default_for_az, sink)
            }),
            on(&["enable-dns64"], |row, sink| some(row.shown.enable_dns64, sink)),
            on(&["ipv6-native"], |row, sink| some(row.shown.ipv6_native, sink)),
            on(&["map-customer-owned-ip-on-launch"], |row, sink| {
                some(row.shown.map_customer_owned_ip_on_launch, sink);
            }),
            on(&["map-public-ip-on-launch"], |row, sink| {
                some(row.shown.map_public_ip_on_launch, sink)
            }),
            on(&["owner-id"], |row, sink| text(&row.shown.owner_id, sink)),
            on(
                &["private-dns-name-options-on-launch.hostname-type"],
                |_, sink| sink("ip-name"),
            ),
            on(
                &["private-dns-name-options-on-launch.enable-resource-name-dns-a-record"],
                |_, sink| sink("false"),
            ),
            on(
                &["private-dns-name-options-on-launch.enable-resource-name-dns-aaaa-record"],
                |_, sink| {
                    sink("false");
                },
            ),
            on(&["state"], |row, sink| text(&row.shown.state, sink)),
            on(&["subnet-arn"], |row, sink| text(&row.shown.subnet_arn, sink)),
            on(&["subnet-id"], |row, sink| text(&row.shown.subnet_id, sink)),
            on(&["vpc-id"], |row, sink| text(&row.shown.vpc_id, sink)),
            never(&[
                "customer-owned-ipv4-pool",
                "enable-lni-at-device-index",
                "ipv6-cidr-block-association.association-id",
                "ipv6-cidr-block-association.ipv6-cidr-block",
                "ipv6-cidr-block-association.state",
                "outpost-arn",
            ]),
        ],
        tags: Some(|row| &row.view.tags),
    };

    paged!(subnet_ids);

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
        let row = |view: SubnetView| Row {
            shown: subnet(ctx, &view),
            view,
        };
        Ok(Page {
            rows: page.rows.into_iter().map(row).collect(),
            next: page.next,
        })
    }

    fn key(row: &Row) -> i64 {
        row.view.row.id
    }

    fn render(
        _: &Ctx,
        _: &DescribeSubnetsRequest,
        rows: Vec<Row>,
        next: Option<String>,
    ) -> DescribeSubnetsResult {
        DescribeSubnetsResult {
            next_token: next,
            subnets: rows.into_iter().map(|row| row.shown).collect(),
        }
    }
}

fn subnet(ctx: &Ctx, view: &SubnetView) -> Subnet {
    let row = &view.row;
    let id = SubnetId::from_db(row.id).to_string();
    let owner = AccountId::from_db(row.account).to_string();
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
        vpc_id: Some(VpcId::from_db(row.vpc).to_string()),
        cidr_block: Some(row.cidr.clone()),
        available_ip_address_count: i32::try_from(view.available).ok(),
        availability_zone: Some(row.availability_zone.clone()),
        default_for_az: Some(view.is_default()),
        map_public_ip_on_launch: Some(view.maps_public_ip()),
        ..Default::default()
    }
}
