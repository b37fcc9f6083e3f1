//! DescribeNetworkInterfaces: the interfaces of instances. Clients ask it by `group-id` before they delete a
//! security group, and by `attachment.instance-id`.

use async_trait::async_trait;
use cumulet_backend::api::{
    Page, PageRequest,
    network_interfaces::{self, InterfaceQuery, NetworkInterfaceView},
};
use cumulet_domain::id::{Id, Resource};
use cumulet_wire::ec2::network_interfaces::{
    DescribeNetworkInterfaces, DescribeNetworkInterfacesRequest, DescribeNetworkInterfacesResult,
    NetworkInterface, NetworkInterfaceAssociation, NetworkInterfaceAttachment,
};

use crate::{
    ec2::{
        ctx::{Ctx, id, ids},
        describe::{Describe, paged},
        filter::{Def, Filters, Sink, Table, never, on, some, text},
        render,
    },
    fault::Fault,
};

/// An interface as it is shown, with what the framework needs of the view.
pub(crate) struct Row {
    view: NetworkInterfaceView,
    shown: NetworkInterface,
}

/// Says a text of the association with a public address, where there is one.
fn association(row: &Row, sink: &mut Sink<'_>, read: fn(&NetworkInterfaceAssociation) -> Option<&String>) {
    some(row.shown.association.as_ref().and_then(read), sink);
}

/// Says what the attachment to the instance has.
fn attachment<T: std::fmt::Display>(
    row: &Row,
    sink: &mut Sink<'_>,
    read: fn(&NetworkInterfaceAttachment) -> Option<T>,
) {
    some(row.shown.attachment.as_ref().and_then(read), sink);
}

const DEFS: &[Def<Row>] = &[
    on(
        &["addresses.association.owner-id", "association.ip-owner-id"],
        |row: &Row, sink| {
            association(row, sink, |a| a.ip_owner_id.as_ref());
        },
    ),
    on(
        &["addresses.association.public-ip", "association.public-ip"],
        |row, sink| {
            association(row, sink, |a| a.public_ip.as_ref());
        },
    ),
    on(&["addresses.primary"], |row, sink| {
        row.shown
            .private_ip_addresses
            .iter()
            .for_each(|address| some(address.primary, sink));
    }),
    on(
        &["addresses.private-ip-address", "private-ip-address"],
        |row, sink| {
            row.shown
                .private_ip_addresses
                .iter()
                .for_each(|address| text(&address.private_ip_address, sink));
        },
    ),
    on(&["association.public-dns-name"], |row, sink| {
        association(row, sink, |a| a.public_dns_name.as_ref());
    }),
    on(&["attachment.attach-time"], |row, sink| {
        attachment(row, sink, |a| a.attach_time)
    }),
    on(&["attachment.attachment-id"], |row, sink| {
        attachment(row, sink, |a| a.attachment_id.clone());
    }),
    on(&["attachment.delete-on-termination"], |row, sink| {
        attachment(row, sink, |a| a.delete_on_termination);
    }),
    on(&["attachment.device-index"], |row, sink| {
        attachment(row, sink, |a| a.device_index)
    }),
    on(&["attachment.instance-id"], |row, sink| {
        attachment(row, sink, |a| a.instance_id.clone())
    }),
    on(&["attachment.instance-owner-id"], |row, sink| {
        attachment(row, sink, |a| a.instance_owner_id.clone());
    }),
    on(&["attachment.status"], |row, sink| {
        attachment(row, sink, |a| a.status.clone())
    }),
    on(&["availability-zone"], |row, sink| {
        text(&row.shown.availability_zone, sink)
    }),
    on(&["availability-zone-id"], |row, sink| {
        text(&row.shown.availability_zone_id, sink)
    }),
    on(&["description"], |row, sink| text(&row.shown.description, sink)),
    on(&["group-id"], |row, sink| {
        row.shown
            .groups
            .iter()
            .for_each(|group| text(&group.group_id, sink));
    }),
    on(&["group-name"], |row, sink| {
        row.shown
            .groups
            .iter()
            .for_each(|group| text(&group.group_name, sink));
    }),
    on(&["interface-type"], |row, sink| {
        text(&row.shown.interface_type, sink)
    }),
    on(&["mac-address"], |row, sink| text(&row.shown.mac_address, sink)),
    on(&["network-interface-id"], |row, sink| {
        text(&row.shown.network_interface_id, sink)
    }),
    on(&["owner-id"], |row, sink| text(&row.shown.owner_id, sink)),
    on(&["private-dns-name"], |row, sink| {
        text(&row.shown.private_dns_name, sink)
    }),
    on(&["requester-managed"], |row, sink| {
        some(row.shown.requester_managed, sink)
    }),
    on(&["source-dest-check"], |row, sink| {
        some(row.shown.source_dest_check, sink)
    }),
    on(&["status"], |row, sink| text(&row.shown.status, sink)),
    on(&["subnet-id"], |row, sink| text(&row.shown.subnet_id, sink)),
    on(&["vpc-id"], |row, sink| text(&row.shown.vpc_id, sink)),
    on(&["operator.managed"], |_, sink| sink("false")),
    never(&[
        "association.allocation-id",
        "association.association-id",
        "ipv6-addresses.ipv6-address",
        "operator.principal",
        "requester-id",
    ]),
];

#[async_trait]
impl Describe for DescribeNetworkInterfaces {
    type Row = Row;
    type Key = i64;
    const FILTERS: Table<Row> = Table {
        defs: DEFS,
        tags: Some(|row| &row.view.interface.tags),
    };

    paged!(network_interface_ids);

    async fn load(
        ctx: &Ctx,
        input: &DescribeNetworkInterfacesRequest,
        filters: &Filters<Row>,
        page: PageRequest,
    ) -> Result<Page<Row>, Fault> {
        let query = InterfaceQuery {
            ids: ids(&input.network_interface_ids)?,
            instances: literal_ids(filters, "attachment.instance-id"),
            groups: literal_ids(filters, "group-id"),
            vpcs: literal_ids(filters, "vpc-id"),
            subnets: literal_ids(filters, "subnet-id"),
        };
        let page = network_interfaces::describe(&ctx.cloud, &ctx.who, &query, page).await?;
        let row = |view: NetworkInterfaceView| Row {
            shown: render::network_interface::network_interface(ctx.region(), &view),
            view,
        };
        Ok(Page {
            rows: page.rows.into_iter().map(row).collect(),
            next: page.next,
        })
    }

    fn key(row: &Row) -> i64 {
        row.view.interface.row.id
    }

    fn render(
        _: &Ctx,
        _: &DescribeNetworkInterfacesRequest,
        rows: Vec<Row>,
        next: Option<String>,
    ) -> DescribeNetworkInterfacesResult {
        DescribeNetworkInterfacesResult {
            network_interfaces: rows.into_iter().map(|row| row.shown).collect(),
            next_token: next,
        }
    }
}

/// The ids that a filter names, for the database to look for. A text that is no id matches nothing, which
/// the filter itself sees to.
fn literal_ids<R: Resource>(filters: &Filters<Row>, name: &str) -> Vec<Id<R>> {
    let texts = filters.literals(name).unwrap_or_default();
    texts.into_iter().filter_map(|text| id(text).ok()).collect()
}
