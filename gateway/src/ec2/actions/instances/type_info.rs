//! An instance type as EC2 shows it, and as Eucalyptus did.

use cumulet_backend::api::instance_types::Room;
use cumulet_domain::catalogue::InstanceType;
use cumulet_wire::ec2::instances::{
    EbsInfo, InstanceTypeInfo, MemoryInfo, NetworkCardInfo, NetworkInfo, PlacementGroupInfo, ProcessorInfo,
    VCpuInfo, VmTypeDetails, VmTypeZoneStatus,
};

/// Interfaces of an instance.
const INTERFACES: i32 = 1;

/// Amazon's shape. What it says is what instances here get: one interface, one address, no bursting.
pub(super) fn info(kind: &InstanceType) -> InstanceTypeInfo {
    let text = |text: &str| Some(text.to_owned());
    let texts = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
    let vcpus = i32::try_from(kind.vcpus).ok();
    InstanceTypeInfo {
        instance_type: text(&kind.name),
        current_generation: Some(kind.offered),
        free_tier_eligible: Some(false),
        supported_usage_classes: texts(&["on-demand"]),
        supported_root_device_types: texts(&["ebs"]),
        supported_virtualization_types: texts(&["hvm"]),
        bare_metal: Some(false),
        hypervisor: text("nitro"),
        processor_info: Some(ProcessorInfo {
            supported_architectures: texts(&["x86_64"]),
            ..Default::default()
        }),
        vcpu_info: Some(VCpuInfo {
            default_vcpus: vcpus,
            default_cores: vcpus,
            default_threads_per_core: Some(1),
            valid_cores: vcpus.into_iter().collect(),
            valid_threads_per_core: vec![1],
        }),
        memory_info: Some(MemoryInfo {
            size_in_mib: i64::try_from(kind.memory_mib).ok(),
        }),
        instance_storage_supported: Some(false),
        ebs_info: Some(EbsInfo {
            ebs_optimized_support: text("unsupported"),
            encryption_support: text("supported"),
            nvme_support: text("unsupported"),
            ..Default::default()
        }),
        network_info: Some(network()),
        placement_group_info: Some(PlacementGroupInfo {
            supported_strategies: ["cluster", "partition", "spread"].map(str::to_owned).to_vec(),
        }),
        hibernation_supported: Some(false),
        // With `true` Terraform would ask for credit specifications.
        burstable_performance_supported: Some(false),
        dedicated_hosts_supported: Some(false),
        auto_recovery_supported: Some(false),
        supported_boot_modes: texts(&["legacy-bios", "uefi"]),
        nitro_enclaves_support: text("unsupported"),
        nitro_tpm_support: text("unsupported"),
        phc_support: text("unsupported"),
        reboot_migration_support: text("unsupported"),
        supported_in_region: Some(kind.offered),
        ..Default::default()
    }
}

fn network() -> NetworkInfo {
    let performance = || Some("Up to 5 Gigabit".to_owned());
    NetworkInfo {
        network_performance: performance(),
        maximum_network_interfaces: Some(INTERFACES),
        maximum_network_cards: Some(1),
        default_network_card_index: Some(0),
        network_cards: vec![NetworkCardInfo {
            network_card_index: Some(0),
            network_performance: performance(),
            maximum_network_interfaces: Some(INTERFACES),
            ..Default::default()
        }],
        ipv4_addresses_per_interface: Some(1),
        ipv6_addresses_per_interface: Some(0),
        ipv6_supported: Some(false),
        ena_support: Some("supported".into()),
        efa_supported: Some(false),
        encryption_in_transit_supported: Some(false),
        ena_srd_supported: Some(false),
        flexible_ena_queues_support: Some("unsupported".into()),
        ..Default::default()
    }
}

/// Eucalyptus' shape, with the room that there is where it was asked for.
pub(super) fn details(kind: &InstanceType, disk_gib: i32, room: &[Room]) -> VmTypeDetails {
    let count = |n: u64| i32::try_from(n).ok().or(Some(i32::MAX));
    let zone = |room: &Room| VmTypeZoneStatus {
        zone_name: Some(room.availability_zone.clone()),
        max: count(room.max),
        available: count(room.available),
    };
    VmTypeDetails {
        name: Some(kind.name.clone()),
        cpu: i32::try_from(kind.vcpus).ok(),
        memory: i32::try_from(kind.memory_mib).ok(),
        disk: Some(disk_gib),
        network_interfaces: Some(INTERFACES),
        availability: room.iter().map(zone).collect(),
    }
}
