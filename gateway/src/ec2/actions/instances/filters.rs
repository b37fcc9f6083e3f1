//! The filters of DescribeInstances: over the instance as it is shown.

use std::sync::Arc;

use cumulet_backend::api::instances::{InstanceView, ReservationKey};
use cumulet_domain::tag::Tag;
use cumulet_wire::ec2::instances::{
    Instance, InstanceNetworkInterface as Nic, InstanceNetworkInterfaceAssociation,
};

use crate::ec2::filter::{Def, Sink, Table, never, on, shown, some, text};

/// An instance.
pub(super) struct One {
    pub(super) view: Arc<InstanceView>,
    /// As it is shown; empty where there are no filters to look at it.
    pub(super) shown: Arc<Instance>,
}

/// A reservation, or a part of one with a single instance while the filters look at it.
pub(crate) struct Row {
    pub(super) key: ReservationKey,
    pub(super) reservation_id: String,
    pub(super) owner_id: String,
    pub(super) instances: Vec<One>,
}

fn one(row: &Row) -> Option<&One> {
    row.instances.first()
}

/// Says an optional text of the instance.
fn of(row: &Row, sink: &mut Sink<'_>, read: fn(&Instance) -> Option<&String>) {
    some(one(row).and_then(|one| read(&one.shown)), sink);
}

/// Lets `read` say what it finds on each interface.
fn nics(row: &Row, sink: &mut Sink<'_>, read: fn(&Nic, &mut Sink<'_>)) {
    one(row)
        .into_iter()
        .flat_map(|one| &one.shown.network_interfaces)
        .for_each(|nic| read(nic, sink));
}

/// The tags of all its interfaces, which are not shown with the instance.
fn interface_tags(row: &Row) -> impl Iterator<Item = &Tag> {
    let interfaces = one(row).into_iter().flat_map(|one| &one.view.interfaces);
    interfaces.flat_map(|interface| &interface.tags)
}

fn association(
    row: &Row,
    sink: &mut Sink<'_>,
    read: fn(&InstanceNetworkInterfaceAssociation) -> Option<&String>,
) {
    let nics = one(row).into_iter().flat_map(|one| &one.shown.network_interfaces);
    nics.filter_map(|nic| nic.association.as_ref())
        .for_each(|a| some(read(a), sink));
}

fn tags(row: &Row) -> &[Tag] {
    one(row).map_or(&[], |one| &one.view.tags)
}

/// All of them.
pub(super) const FILTERS: Table<Row> = Table {
    defs: DEFS,
    tags: Some(tags),
};

const DEFS: &[Def<Row>] = &[
    on(&["architecture"], |row: &Row, sink| {
        of(row, sink, |i| i.architecture.as_ref())
    }),
    on(
        &["availability-zone", "network-interface.availability-zone"],
        |row, sink| {
            of(row, sink, |i| i.placement.as_ref()?.availability_zone.as_ref());
        },
    ),
    on(&["availability-zone-id"], |row, sink| {
        of(row, sink, |i| i.placement.as_ref()?.availability_zone_id.as_ref())
    }),
    on(&["block-device-mapping.attach-time"], |row, sink| {
        disk(row, sink, |d| d.attach_time.map(|t| t.to_string()))
    }),
    on(&["block-device-mapping.delete-on-termination"], |row, sink| {
        disk(row, sink, |d| d.delete_on_termination.map(|b| b.to_string()));
    }),
    on(&["block-device-mapping.device-name"], |row, sink| {
        for mapping in one(row)
            .into_iter()
            .flat_map(|one| &one.shown.block_device_mappings)
        {
            text(&mapping.device_name, sink);
        }
    }),
    on(&["block-device-mapping.status"], |row, sink| {
        disk(row, sink, |d| d.status.clone())
    }),
    on(&["block-device-mapping.volume-id"], |row, sink| {
        disk(row, sink, |d| d.volume_id.clone())
    }),
    on(
        &["capacity-reservation-specification.capacity-reservation-preference"],
        |row, sink| {
            of(row, sink, |i| {
                i.capacity_reservation_specification
                    .as_ref()?
                    .capacity_reservation_preference
                    .as_ref()
            });
        },
    ),
    on(&["client-token"], |row, sink| {
        of(row, sink, |i| i.client_token.as_ref())
    }),
    on(&["current-instance-boot-mode"], |row, sink| {
        of(row, sink, |i| i.current_instance_boot_mode.as_ref())
    }),
    on(&["dns-name"], |row, sink| {
        of(row, sink, |i| i.public_dns_name.as_ref())
    }),
    on(&["ebs-optimized"], |row, sink| {
        some(one(row).and_then(|o| o.shown.ebs_optimized), sink)
    }),
    on(&["ena-support"], |row, sink| {
        some(one(row).and_then(|o| o.shown.ena_support), sink)
    }),
    on(&["enclave-options.enabled"], |row, sink| {
        some(
            one(row).and_then(|o| o.shown.enclave_options.as_ref()?.enabled),
            sink,
        );
    }),
    on(&["hibernation-options.configured"], |row, sink| {
        some(
            one(row).and_then(|o| o.shown.hibernation_options.as_ref()?.configured),
            sink,
        );
    }),
    on(&["hypervisor"], |row, sink| {
        of(row, sink, |i| i.hypervisor.as_ref())
    }),
    on(&["image-id"], |row, sink| of(row, sink, |i| i.image_id.as_ref())),
    on(
        &["instance-id", "network-interface.attachment.instance-id"],
        |row, sink| {
            of(row, sink, |i| i.instance_id.as_ref());
        },
    ),
    on(&["instance-state-code"], |row, sink| {
        some(one(row).map(|o| o.view.state().code()), sink)
    }),
    on(&["instance-state-name"], |row, sink| {
        some(one(row).map(|o| o.view.state().name()), sink)
    }),
    on(&["instance-type"], |row, sink| {
        of(row, sink, |i| i.instance_type.as_ref())
    }),
    on(&["instance.group-id"], |row, sink| {
        groups(row, sink, |g| g.group_id.as_ref())
    }),
    on(&["instance.group-name"], |row, sink| {
        groups(row, sink, |g| g.group_name.as_ref())
    }),
    on(&["ip-address"], |row, sink| {
        of(row, sink, |i| i.public_ip_address.as_ref())
    }),
    on(&["key-name"], |row, sink| of(row, sink, |i| i.key_name.as_ref())),
    on(&["launch-index"], |row, sink| {
        some(one(row).and_then(|o| o.shown.ami_launch_index), sink)
    }),
    on(&["launch-time"], |row, sink| {
        some(one(row).and_then(|o| o.shown.launch_time), sink)
    }),
    on(&["maintenance-options.auto-recovery"], |row, sink| {
        of(row, sink, |i| {
            i.maintenance_options.as_ref()?.auto_recovery.as_ref()
        });
    }),
    on(&["metadata-options.http-endpoint"], |row, sink| {
        of(row, sink, |i| i.metadata_options.as_ref()?.http_endpoint.as_ref());
    }),
    on(&["metadata-options.http-protocol-ipv4"], |_, sink| {
        sink("enabled")
    }),
    on(&["metadata-options.http-protocol-ipv6"], |row, sink| {
        of(row, sink, |i| {
            i.metadata_options.as_ref()?.http_protocol_ipv6.as_ref()
        });
    }),
    on(&["metadata-options.http-put-response-hop-limit"], |row, sink| {
        some(
            one(row).and_then(|o| o.shown.metadata_options.as_ref()?.http_put_response_hop_limit),
            sink,
        );
    }),
    on(&["metadata-options.http-tokens"], |row, sink| {
        of(row, sink, |i| i.metadata_options.as_ref()?.http_tokens.as_ref());
    }),
    on(&["metadata-options.instance-metadata-tags"], |row, sink| {
        of(row, sink, |i| {
            i.metadata_options.as_ref()?.instance_metadata_tags.as_ref()
        });
    }),
    on(&["metadata-options.state"], |row, sink| {
        of(row, sink, |i| i.metadata_options.as_ref()?.state.as_ref())
    }),
    on(&["monitoring-state"], |row, sink| {
        of(row, sink, |i| i.monitoring.as_ref()?.state.as_ref())
    }),
    on(
        &[
            "network-interface.addresses.association.ip-owner-id",
            "network-interface.association.ip-owner-id",
        ],
        |row, sink| association(row, sink, |a| a.ip_owner_id.as_ref()),
    ),
    on(
        &[
            "network-interface.addresses.association.public-dns-name",
            "network-interface.association.public-dns-name",
        ],
        |row, sink| association(row, sink, |a| a.public_dns_name.as_ref()),
    ),
    on(
        &[
            "network-interface.addresses.association.public-ip",
            "network-interface.association.public-ip",
        ],
        |row, sink| association(row, sink, |a| a.public_ip.as_ref()),
    ),
    on(&["network-interface.addresses.primary"], |row, sink| {
        nics(row, sink, |_, sink| sink("true"))
    }),
    on(
        &[
            "network-interface.addresses.private-dns-name",
            "network-interface.private-dns-name",
        ],
        |row, sink| nics(row, sink, |nic, sink| text(&nic.private_dns_name, sink)),
    ),
    on(
        &[
            "network-interface.addresses.private-ip-address",
            "network-interface.private-ip-address",
        ],
        |row, sink| nics(row, sink, |nic, sink| text(&nic.private_ip_address, sink)),
    ),
    on(&["network-interface.attachment.attach-time"], |row, sink| {
        nics(row, sink, |nic, sink| {
            some(nic.attachment.as_ref().and_then(|a| a.attach_time), sink)
        });
    }),
    on(&["network-interface.attachment.attachment-id"], |row, sink| {
        nics(row, sink, |nic, sink| {
            some(
                nic.attachment.as_ref().and_then(|a| a.attachment_id.as_ref()),
                sink,
            )
        });
    }),
    on(
        &["network-interface.attachment.delete-on-termination"],
        |row, sink| {
            nics(row, sink, |nic, sink| {
                some(
                    nic.attachment.as_ref().and_then(|a| a.delete_on_termination),
                    sink,
                )
            });
        },
    ),
    on(&["network-interface.attachment.device-index"], |row, sink| {
        nics(row, sink, |nic, sink| {
            some(nic.attachment.as_ref().and_then(|a| a.device_index), sink)
        });
    }),
    on(
        &[
            "network-interface.attachment.instance-owner-id",
            "network-interface.owner-id",
        ],
        |row, sink| {
            nics(row, sink, |nic, sink| text(&nic.owner_id, sink));
        },
    ),
    on(
        &["network-interface.attachment.network-card-index"],
        |row, sink| {
            nics(row, sink, |nic, sink| {
                some(nic.attachment.as_ref().and_then(|a| a.network_card_index), sink)
            });
        },
    ),
    on(&["network-interface.attachment.status"], |row, sink| {
        nics(row, sink, |nic, sink| {
            some(nic.attachment.as_ref().and_then(|a| a.status.as_ref()), sink)
        });
    }),
    on(&["network-interface.description"], |row, sink| {
        nics(row, sink, |nic, sink| text(&nic.description, sink))
    }),
    on(&["network-interface.group-id"], |row, sink| {
        nics(row, sink, |nic, sink| {
            nic.groups.iter().for_each(|g| text(&g.group_id, sink))
        });
    }),
    on(&["network-interface.group-name"], |row, sink| {
        nics(row, sink, |nic, sink| {
            nic.groups.iter().for_each(|g| text(&g.group_name, sink))
        });
    }),
    on(&["network-interface.mac-address"], |row, sink| {
        nics(row, sink, |nic, sink| text(&nic.mac_address, sink))
    }),
    on(&["network-interface.network-interface-id"], |row, sink| {
        nics(row, sink, |nic, sink| text(&nic.network_interface_id, sink));
    }),
    on(
        &[
            "network-interface.requester-managed",
            "network-interface.ipv6-native",
        ],
        |row, sink| {
            nics(row, sink, |_, sink| sink("false"));
        },
    ),
    on(&["network-interface.source-dest-check"], |row, sink| {
        nics(row, sink, |nic, sink| some(nic.source_dest_check, sink));
    }),
    on(&["network-interface.status"], |row, sink| {
        nics(row, sink, |nic, sink| text(&nic.status, sink))
    }),
    on(&["network-interface.subnet-id"], |row, sink| {
        nics(row, sink, |nic, sink| text(&nic.subnet_id, sink))
    }),
    on(&["network-interface.tag-key"], |row, sink| {
        interface_tags(row).for_each(|tag| sink(&tag.key));
    }),
    on(&["network-interface.tag-value"], |row, sink| {
        interface_tags(row).for_each(|tag| sink(&tag.value));
    }),
    on(&["network-interface.vpc-id"], |row, sink| {
        nics(row, sink, |nic, sink| text(&nic.vpc_id, sink))
    }),
    on(&["network-interface.public-dns-name"], |row, sink| {
        association(row, sink, |a| a.public_dns_name.as_ref())
    }),
    on(&["owner-id"], |row, sink| sink(&row.owner_id)),
    on(&["platform-details"], |row, sink| {
        of(row, sink, |i| i.platform_details.as_ref())
    }),
    on(&["private-dns-name"], |row, sink| {
        of(row, sink, |i| i.private_dns_name.as_ref())
    }),
    on(
        &["private-dns-name-options.enable-resource-name-dns-a-record"],
        |_, sink| sink("false"),
    ),
    on(
        &["private-dns-name-options.enable-resource-name-dns-aaaa-record"],
        |_, sink| sink("false"),
    ),
    on(&["private-dns-name-options.hostname-type"], |_, sink| {
        sink("ip-name")
    }),
    on(&["private-ip-address"], |row, sink| {
        of(row, sink, |i| i.private_ip_address.as_ref())
    }),
    on(&["reason"], |row, sink| {
        of(row, sink, |i| i.state_transition_reason.as_ref())
    }),
    on(&["reservation-id"], |row, sink| sink(&row.reservation_id)),
    on(&["root-device-name"], |row, sink| {
        of(row, sink, |i| i.root_device_name.as_ref())
    }),
    on(&["root-device-type"], |row, sink| {
        of(row, sink, |i| i.root_device_type.as_ref())
    }),
    on(&["source-dest-check"], |row, sink| {
        some(one(row).and_then(|o| o.shown.source_dest_check), sink)
    }),
    on(&["state-reason-code"], |row, sink| {
        of(row, sink, |i| i.state_reason.as_ref()?.code.as_ref())
    }),
    on(&["state-reason-message"], |row, sink| {
        of(row, sink, |i| i.state_reason.as_ref()?.message.as_ref())
    }),
    on(&["subnet-id"], |row, sink| {
        of(row, sink, |i| i.subnet_id.as_ref())
    }),
    on(&["placement-group-name"], |row, sink| {
        of(row, sink, |i| {
            i.placement
                .as_ref()?
                .group_name
                .as_ref()
                .filter(|name| !name.is_empty())
        });
    }),
    on(&["placement-partition-number"], |row, sink| {
        let number = |one: &Instance| one.placement.as_ref()?.partition_number;
        some(one(row).and_then(|one| number(&one.shown)), sink);
    }),
    on(&["tenancy"], |row, sink| {
        of(row, sink, |i| i.placement.as_ref()?.tenancy.as_ref())
    }),
    on(&["usage-operation"], |row, sink| {
        of(row, sink, |i| i.usage_operation.as_ref())
    }),
    on(&["virtualization-type"], |row, sink| {
        of(row, sink, |i| i.virtualization_type.as_ref())
    }),
    on(&["vpc-id"], |row, sink| of(row, sink, |i| i.vpc_id.as_ref())),
    never(ABSENT),
];

fn disk(
    row: &Row,
    sink: &mut Sink<'_>,
    read: fn(&cumulet_wire::ec2::instances::EbsInstanceBlockDevice) -> Option<String>,
) {
    let mappings = one(row)
        .into_iter()
        .flat_map(|one| &one.shown.block_device_mappings);
    mappings
        .filter_map(|mapping| read(mapping.ebs.as_ref()?))
        .for_each(|value| shown(value, sink));
}

fn groups(
    row: &Row,
    sink: &mut Sink<'_>,
    read: fn(&cumulet_wire::ec2::shared::GroupIdentifier) -> Option<&String>,
) {
    one(row)
        .into_iter()
        .flat_map(|one| &one.shown.security_groups)
        .for_each(|group| some(read(group), sink));
}

/// Documented filters of what no instance here has.
const ABSENT: &[&str] = &[
    "affinity",
    "boot-mode",
    "capacity-reservation-id",
    "capacity-reservation-specification.capacity-reservation-target.capacity-reservation-id",
    "capacity-reservation-specification.capacity-reservation-target.capacity-reservation-resource-group-arn",
    "host-id",
    "iam-instance-profile.arn",
    "iam-instance-profile.id",
    "instance-lifecycle",
    "ipv6-address",
    "kernel-id",
    "network-interface.addresses.association.allocation-id",
    "network-interface.addresses.association.association-id",
    "network-interface.addresses.association.carrier-ip",
    "network-interface.addresses.association.customer-owned-ip",
    "network-interface.association.allocation-id",
    "network-interface.association.association-id",
    "network-interface.association.carrier-ip",
    "network-interface.association.customer-owned-ip",
    "network-interface.deny-all-igw-traffic",
    "network-interface.ipv4-prefixes.ipv4-prefix",
    "network-interface.ipv6-address",
    "network-interface.ipv6-addresses.ipv6-address",
    "network-interface.ipv6-addresses.is-primary-ipv6",
    "network-interface.ipv6-prefixes.ipv6-prefix",
    "network-interface.operator.managed",
    "network-interface.operator.principal",
    "network-interface.outpost-arn",
    "network-interface.requester-id",
    "network-performance-options.bandwidth-weighting",
    "operator.managed",
    "operator.principal",
    "outpost-arn",
    "platform",
    "product-code",
    "product-code.type",
    "ramdisk-id",
    "requester-id",
    "spot-instance-request-id",
    "tpm-support",
    "usage-operation-update-time",
];
