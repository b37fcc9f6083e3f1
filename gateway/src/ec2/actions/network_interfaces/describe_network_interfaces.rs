//! DescribeNetworkInterfaces: the interfaces of instances. Clients ask it by `group-id` before they delete a
//! security group, and by `attachment.instance-id`.

use async_trait::async_trait;
use cumulet_backend::api::{
    Page, PageRequest,
    network_interfaces::{self, InterfaceQuery, NetworkInterfaceView},
};
use cumulet_wire::ec2::network_interfaces::{
    DescribeNetworkInterfaces, DescribeNetworkInterfacesRequest, NetworkInterface,
};

use crate::{
    ec2::{
        ctx::{Ctx, ids},
        describe::Describe,
        filter::{Filters, Keyed},
        render::network_interface::network_interface,
    },
    fault::Fault,
};

type Row = Keyed<i64, NetworkInterface>;

#[async_trait]
impl Describe for DescribeNetworkInterfaces {
    type Row = Row;

    async fn load(
        ctx: &Ctx,
        input: &DescribeNetworkInterfacesRequest,
        filters: &Filters<Row>,
        page: PageRequest,
    ) -> Result<Page<Row>, Fault> {
        let query = InterfaceQuery {
            ids: ids(&input.network_interface_ids)?,
            instances: filters.ids("attachment.instance-id"),
            groups: filters.ids("group-id"),
            vpcs: filters.ids("vpc-id"),
            subnets: filters.ids("subnet-id"),
        };
        let page = network_interfaces::describe(&ctx.cloud, &ctx.who, &query, page).await?;
        Ok(page.map(|view: NetworkInterfaceView| {
            Row::new(
                view.interface.row.id.to_db(),
                network_interface(ctx.region(), &view),
            )
        }))
    }
}
