//! DescribeInstanceTypes: Amazon's call, and for clients of 2015-10-01 Eucalyptus' call of the same name.

use async_trait::async_trait;
use cumulet_backend::api::{
    Page, PageRequest,
    instance_types::{self, Room},
};
use cumulet_domain::catalogue::InstanceType;
use cumulet_wire::ec2::instances::{
    DescribeInstanceTypes, DescribeInstanceTypesRequest, DescribeInstanceTypesResult, InstanceTypeInfo,
    NetworkInfo, VCpuInfo,
};

use super::type_info::{details, info};
use crate::{
    ec2::{
        ctx::Ctx,
        describe::{Describe, paged, slice},
        filter::{Def, Filters, Table, never, on, shown, some, text},
    },
    fault::Fault,
};

/// The version that euca2ools speaks.
const EUCALYPTUS: &str = "2015-10-01";

/// Types named in one call at the most (API reference).
const MAX_NAMED: usize = 100;

/// GiB of the root disk where nothing else is asked for, as Eucalyptus' shape wants a number.
const DISK_GIB: i32 = 8;

/// A type as it is shown.
pub(crate) struct Row {
    place: u64,
    kind: InstanceType,
    info: InstanceTypeInfo,
    room: Vec<Room>,
}

fn cpu(row: &Row, read: fn(&VCpuInfo) -> Option<i32>) -> Option<i32> {
    read(row.info.vcpu_info.as_ref()?)
}

fn network(row: &Row) -> Option<&NetworkInfo> {
    row.info.network_info.as_ref()
}

const DEFS: &[Def<Row>] = &[
    on(&["auto-recovery-supported"], |row: &Row, sink| {
        some(row.info.auto_recovery_supported, sink)
    }),
    on(&["bare-metal"], |row, sink| some(row.info.bare_metal, sink)),
    on(&["burstable-performance-supported"], |row, sink| {
        some(row.info.burstable_performance_supported, sink)
    }),
    on(&["current-generation"], |row, sink| {
        some(row.info.current_generation, sink)
    }),
    on(&["dedicated-hosts-supported"], |row, sink| {
        some(row.info.dedicated_hosts_supported, sink)
    }),
    on(&["ebs-info.ebs-optimized-support"], |row, sink| {
        some(
            row.info
                .ebs_info
                .as_ref()
                .and_then(|i| i.ebs_optimized_support.as_ref()),
            sink,
        );
    }),
    on(&["ebs-info.encryption-support"], |row, sink| {
        some(
            row.info
                .ebs_info
                .as_ref()
                .and_then(|i| i.encryption_support.as_ref()),
            sink,
        );
    }),
    on(&["ebs-info.nvme-support"], |row, sink| {
        some(
            row.info.ebs_info.as_ref().and_then(|i| i.nvme_support.as_ref()),
            sink,
        );
    }),
    on(&["free-tier-eligible"], |row, sink| {
        some(row.info.free_tier_eligible, sink)
    }),
    on(&["hibernation-supported"], |row, sink| {
        some(row.info.hibernation_supported, sink)
    }),
    on(&["hypervisor"], |row, sink| text(&row.info.hypervisor, sink)),
    on(&["instance-storage-supported"], |row, sink| {
        some(row.info.instance_storage_supported, sink)
    }),
    on(&["instance-type"], |row, sink| {
        text(&row.info.instance_type, sink)
    }),
    on(&["memory-info.size-in-mib"], |row, sink| {
        shown(row.kind.memory_mib, sink)
    }),
    on(&["network-info.efa-supported"], |row, sink| {
        some(network(row).and_then(|n| n.efa_supported), sink)
    }),
    on(&["network-info.ena-support"], |row, sink| {
        some(network(row).and_then(|n| n.ena_support.as_ref()), sink)
    }),
    on(&["network-info.encryption-in-transit-supported"], |row, sink| {
        some(network(row).and_then(|n| n.encryption_in_transit_supported), sink);
    }),
    on(&["network-info.flexible-ena-queues-support"], |row, sink| {
        some(
            network(row).and_then(|n| n.flexible_ena_queues_support.as_ref()),
            sink,
        );
    }),
    on(&["network-info.ipv4-addresses-per-interface"], |row, sink| {
        some(network(row).and_then(|n| n.ipv4_addresses_per_interface), sink);
    }),
    on(&["network-info.ipv6-addresses-per-interface"], |row, sink| {
        some(network(row).and_then(|n| n.ipv6_addresses_per_interface), sink);
    }),
    on(&["network-info.ipv6-supported"], |row, sink| {
        some(network(row).and_then(|n| n.ipv6_supported), sink)
    }),
    on(&["network-info.maximum-network-cards"], |row, sink| {
        some(network(row).and_then(|n| n.maximum_network_cards), sink);
    }),
    on(&["network-info.maximum-network-interfaces"], |row, sink| {
        some(network(row).and_then(|n| n.maximum_network_interfaces), sink);
    }),
    on(&["network-info.network-performance"], |row, sink| {
        some(network(row).and_then(|n| n.network_performance.as_ref()), sink);
    }),
    on(&["nitro-enclaves-support"], |row, sink| {
        text(&row.info.nitro_enclaves_support, sink)
    }),
    on(&["nitro-tpm-support"], |row, sink| {
        text(&row.info.nitro_tpm_support, sink)
    }),
    on(&["processor-info.supported-architecture"], |row, sink| {
        let info = row
            .info
            .processor_info
            .iter()
            .flat_map(|p| &p.supported_architectures);
        info.for_each(|architecture| sink(architecture));
    }),
    on(&["reboot-migration-support"], |row, sink| {
        text(&row.info.reboot_migration_support, sink)
    }),
    on(&["supported-boot-mode"], |row, sink| {
        row.info.supported_boot_modes.iter().for_each(|m| sink(m))
    }),
    on(&["supported-root-device-type"], |row, sink| {
        row.info.supported_root_device_types.iter().for_each(|t| sink(t));
    }),
    on(&["supported-usage-class"], |row, sink| {
        row.info.supported_usage_classes.iter().for_each(|c| sink(c))
    }),
    on(&["supported-virtualization-type"], |row, sink| {
        row.info
            .supported_virtualization_types
            .iter()
            .for_each(|t| sink(t));
    }),
    on(
        &["vcpu-info.default-cores", "vcpu-info.valid-cores"],
        |row, sink| some(cpu(row, |c| c.default_cores), sink),
    ),
    on(
        &[
            "vcpu-info.default-threads-per-core",
            "vcpu-info.valid-threads-per-core",
        ],
        |row, sink| {
            some(cpu(row, |c| c.default_threads_per_core), sink);
        },
    ),
    on(&["vcpu-info.default-vcpus"], |row, sink| {
        some(cpu(row, |c| c.default_vcpus), sink)
    }),
    never(&[
        "ebs-info.attachment-limit-type",
        "ebs-info.ebs-optimized-info.baseline-bandwidth-in-mbps",
        "ebs-info.ebs-optimized-info.baseline-iops",
        "ebs-info.ebs-optimized-info.baseline-throughput-in-mbps",
        "ebs-info.ebs-optimized-info.maximum-bandwidth-in-mbps",
        "ebs-info.ebs-optimized-info.maximum-iops",
        "ebs-info.ebs-optimized-info.maximum-throughput-in-mbps",
        "ebs-info.maximum-ebs-attachments",
        "instance-storage-info.disk.count",
        "instance-storage-info.disk.size-in-gb",
        "instance-storage-info.disk.type",
        "instance-storage-info.encryption-support",
        "instance-storage-info.nvme-support",
        "instance-storage-info.total-size-in-gb",
        "network-info.bandwidth-weightings",
        "network-info.efa-info.maximum-efa-interfaces",
        "nitro-tpm-info.supported-versions",
        "processor-info.supported-features",
        "processor-info.sustained-clock-speed-in-ghz",
    ]),
];

#[async_trait]
impl Describe for DescribeInstanceTypes {
    type Row = Row;
    type Key = u64;
    const FILTERS: Table<Row> = Table {
        defs: DEFS,
        tags: None,
    };

    paged!(instance_types);

    async fn load(
        ctx: &Ctx,
        input: &DescribeInstanceTypesRequest,
        _: &Filters<Row>,
        page: PageRequest<u64>,
    ) -> Result<Page<Row, u64>, Fault> {
        if input.instance_types.len() > MAX_NAMED {
            let reason = format!("at most {MAX_NAMED} types can be named at once");
            return Err(Fault::invalid(
                "InstanceType",
                &input.instance_types.len().to_string(),
                reason,
            ));
        }
        let types = instance_types::describe(&ctx.cloud, &ctx.who, &input.instance_types).await?;
        let mut rooms = if ctx.version == EUCALYPTUS && input.availability == Some(true) {
            instance_types::room(&ctx.cloud, &ctx.who, &types).await?
        } else {
            Vec::new()
        };
        rooms.resize(types.len(), Vec::new());
        let page = slice((0..).zip(types.into_iter().zip(rooms)).collect(), &page);
        let row = |(place, (kind, room)): (u64, (InstanceType, Vec<Room>))| Row {
            place,
            info: info(&kind),
            kind,
            room,
        };
        Ok(Page {
            rows: page.rows.into_iter().map(row).collect(),
            next: page.next,
        })
    }

    fn key(row: &Row) -> u64 {
        row.place
    }

    fn render(
        ctx: &Ctx,
        _: &DescribeInstanceTypesRequest,
        rows: Vec<Row>,
        next: Option<String>,
    ) -> DescribeInstanceTypesResult {
        if ctx.version == EUCALYPTUS {
            return DescribeInstanceTypesResult {
                instance_type_details: Some(
                    rows.iter()
                        .map(|row| details(&row.kind, DISK_GIB, &row.room))
                        .collect(),
                ),
                ..Default::default()
            };
        }
        DescribeInstanceTypesResult {
            instance_types: rows.into_iter().map(|row| row.info).collect(),
            next_token: next,
            instance_type_details: None,
        }
    }
}
