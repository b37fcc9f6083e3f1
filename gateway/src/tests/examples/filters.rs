//! What filters find in the scene: each of them what the listing shows, and those of what this cloud has not nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// Filters that find nothing in the scene, whatever they are asked for. What begins to be shown leaves this list, and a
/// filter that came into it would have been ignored.
const NOTHING: &[(&str, &[&str])] = &[
    (
        "DescribeAvailabilityZones",
        &["message", "parent-zone-id", "parent-zone-name"],
    ),
    (
        "DescribeImages",
        &[
            "free-tier-eligible",
            "image-watermark.source-image-creation-time",
            "image-watermark.source-image-id",
            "image-watermark.source-image-region",
            "image-watermark.watermark-creation-time",
            "image-watermark.watermark-key",
            "instance-type-specification.supported-instance-type",
            "instance-type-specification.unsupported-instance-type",
            "kernel-id",
            "owner-alias",
            "platform",
            "product-code",
            "product-code.type",
            "public-ssm-parameter-name",
            "ramdisk-id",
            "scan-result.critical-fix-available-since",
            "scan-result.finding-scan-date",
            "scan-result.high-fix-available-since",
            "scan-result.highest-finding-severity-label",
            "scan-result.informational-fix-available-since",
            "scan-result.low-fix-available-since",
            "scan-result.medium-fix-available-since",
            "source-image-id",
            "source-image-region",
            "source-instance-id",
            "state-reason-code",
            "state-reason-message",
        ],
    ),
    (
        "DescribeInstanceStatus",
        &[
            "application-status.status",
            "attached-ebs-status.status",
            "event.code",
            "event.description",
            "event.instance-event-id",
            "event.not-after",
            "event.not-before",
            "event.not-before-deadline",
            "operator.managed",
            "operator.principal",
        ],
    ),
    (
        "DescribeInstanceTypes",
        &[
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
        ],
    ),
    (
        "DescribeInstances",
        &[
            "affinity",
            "capacity-reservation-id",
            "capacity-reservation-specification.capacity-reservation-target.capacity-reservation-id",
            "capacity-reservation-specification.capacity-reservation-target.capacity-reservation-resource-group-arn",
            "host-id",
            "iam-instance-profile.arn",
            "iam-instance-profile.id",
            "instance-lifecycle",
            "ipv6-address",
            "kernel-id",
            "key-name",
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
            "network-interface.tag-key",
            "network-interface.tag-value",
            "network-performance-options.bandwidth-weighting",
            "operator.managed",
            "operator.principal",
            "outpost-arn",
            "placement-group-name",
            "placement-partition-number",
            "platform",
            "product-code",
            "product-code.type",
            "ramdisk-id",
            "requester-id",
            "spot-instance-request-id",
            "state-reason-code",
            "state-reason-message",
            "tpm-support",
            "usage-operation-update-time",
        ],
    ),
    ("DescribeKeyPairs", &["tag-key", "tag:a"]),
    (
        "DescribeNetworkInterfaces",
        &[
            "association.allocation-id",
            "association.association-id",
            "ipv6-addresses.ipv6-address",
            "operator.principal",
            "requester-id",
            "tag-key",
            "tag:a",
        ],
    ),
    ("DescribePlacementGroups", &["tag-key", "tag:a"]),
    ("DescribeSecurityGroupRules", &["tag:a"]),
    (
        "DescribeSecurityGroups",
        &[
            "egress.ip-permission.from-port",
            "egress.ip-permission.group-id",
            "egress.ip-permission.group-name",
            "egress.ip-permission.ipv6-cidr",
            "egress.ip-permission.prefix-list-id",
            "egress.ip-permission.to-port",
            "egress.ip-permission.user-id",
            "ip-permission.from-port",
            "ip-permission.ipv6-cidr",
            "ip-permission.prefix-list-id",
            "ip-permission.to-port",
            "tag-key",
            "tag:a",
        ],
    ),
    (
        "DescribeSnapshots",
        &["owner-alias", "tag-key", "tag:a", "transfer-type"],
    ),
    (
        "DescribeSubnets",
        &[
            "customer-owned-ipv4-pool",
            "enable-lni-at-device-index",
            "ipv6-cidr-block-association.association-id",
            "ipv6-cidr-block-association.ipv6-cidr-block",
            "ipv6-cidr-block-association.state",
            "outpost-arn",
            "tag-key",
            "tag:a",
        ],
    ),
    (
        "DescribeVolumeStatus",
        &[
            "action.code",
            "action.description",
            "action.event-id",
            "event.description",
            "event.event-id",
            "event.event-type",
            "event.not-after",
            "event.not-before",
        ],
    ),
    ("DescribeVolumes", &["operator.principal", "tag-key", "tag:a"]),
    (
        "DescribeVpcs",
        &[
            "ipv6-cidr-block-association.association-id",
            "ipv6-cidr-block-association.ipv6-cidr-block",
            "ipv6-cidr-block-association.ipv6-pool",
            "ipv6-cidr-block-association.state",
            "tag-key",
            "tag:a",
        ],
    ),
];

/// Values of a filter in one request.
const VALUES: usize = 150;

/// The texts of an answer's elements.
fn texts(xml: &str) -> BTreeSet<&str> {
    let elements = xml.split('<').filter_map(|piece| piece.split_once('>'));
    let texts = elements.filter(|(name, text)| !name.starts_with('/') && !text.is_empty());
    texts.map(|(_, text)| text).collect()
}

/// A text as a value that is no pattern, in a form.
fn literal(text: &str) -> String {
    let escaped = text.bytes().flat_map(|b| match b {
        b'*' | b'?' | b'\\' => vec![b'\\', b],
        _ => vec![b],
    });
    escaped.map(|b| format!("%{b:02X}")).collect()
}

#[tokio::test]
async fn each_filter_finds_what_is_shown() {
    let scene = Scene::new().await;
    let world = &scene.world;
    let mut nothing: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for info in EC2.model.operations {
        let Some(filters) = info.filters else { continue };
        let whole = world.ask(&format!("Action={}", info.name)).await;
        let mut shown: Vec<String> = texts(&whole).into_iter().map(literal).collect();
        // What is shown as an empty element is a text too.
        shown.push(String::new());
        for filter in filters.names {
            let filter = if *filter == "tag:<key>" { "tag:a" } else { filter };
            let finds = async |values: &[String]| {
                let values = (1..)
                    .zip(values)
                    .map(|(n, value)| format!("&Filter.1.Value.{n}={value}"));
                let values: String = values.collect();
                let body = format!("Action={}&Filter.1.Name={filter}{values}", info.name);
                world.ask(&body).await.contains("<item>")
            };
            let mut found = false;
            for values in shown.chunks(VALUES) {
                found |= finds(values).await;
            }
            let any = finds(&["*".to_owned()]).await;
            assert_eq!(found, any, "{} {filter}", info.name);
            if !any {
                nothing.entry(info.name).or_default().push(filter);
            }
        }
    }
    let expected: BTreeMap<&str, Vec<&str>> = NOTHING
        .iter()
        .map(|(name, names)| (*name, names.to_vec()))
        .collect();
    assert_eq!(nothing, expected);
}
