//! The rendering of a snapshot into the tree that EC2 shows: names, values and the versions since when they
//! exist.
//!
//! What the instance doesn't have is absent and answers 404; an empty value would look like success.
//! No body ends in a newline: clients paste bodies into the next path, and signatures are over bytes.

use cumulet_domain::{
    metadata::{InstanceMetadata, InterfaceMetadata},
    tag::can_be_read,
};

use crate::{
    config::Config,
    document::document,
    table::{Builder, Table},
    version::Version,
};

/// Renders a snapshot.
pub(crate) fn render(of: &InstanceMetadata, config: &Config) -> Table {
    let mut tree = Builder::default();
    instance(&mut tree, of);
    placement(&mut tree, of, config);
    public_keys(&mut tree, of);
    for interface in &of.interfaces {
        network(&mut tree, of, interface);
    }
    if of.options.tags {
        tags(&mut tree, of);
    }
    tree.text("dynamic/instance-identity/document", 20_090_404, document(of));
    tree.text("dynamic/fws/instance-monitoring", 20_090_404, "disabled");
    if let Some(data) = of.user_data.as_deref().filter(|data| !data.is_empty()) {
        tree.octets("user-data", 0, data);
    }
    tree.build()
}

fn instance(tree: &mut Builder, of: &InstanceMetadata) {
    let mut put = |path: &str, since: Version, body: String| meta(tree, path, since, body);
    put("ami-id", 0, of.image.to_string());
    put("ami-launch-index", 0, of.launch_index.to_string());
    put("ami-manifest-path", 0, "(unknown)".into());
    put("block-device-mapping/ami", 20_071_215, of.root_device.clone());
    put("block-device-mapping/root", 20_071_215, of.root_device.clone());
    for (device, n) in of.data_devices.iter().zip(1..) {
        let name = device.strip_prefix("/dev/").unwrap_or(device);
        put(
            &format!("block-device-mapping/ebs{n}"),
            20_071_215,
            name.to_owned(),
        );
    }
    put("events/maintenance/history", 20_180_817, "[]".into());
    put("events/maintenance/scheduled", 20_180_817, "[]".into());
    put("hostname", 0, of.private_dns_name.clone());
    put("instance-action", 20_080_901, "none".into());
    put("instance-id", 0, of.instance.to_string());
    put("instance-life-cycle", 20_191_001, "on-demand".into());
    put("instance-type", 20_070_829, of.instance_type.clone());
    put("local-hostname", 20_070_119, of.private_dns_name.clone());
    put("profile", 20_080_201, "default-hvm".into());
    put("reservation-id", 0, of.reservation.to_string());
    put("system", 20_220_924, "nitro".into());
    if let Some(primary) = of.interfaces.first() {
        put("local-ipv4", 0, primary.private_ip.to_string());
        put("mac", 20_110_101, primary.mac.to_string());
        if !primary.security_groups.is_empty() {
            put("security-groups", 0, group_names(primary));
        }
        if let Some(address) = primary.public_ip {
            put("public-ipv4", 20_070_119, address.to_string());
        }
    }
    if let Some(name) = of.public_dns_name.as_ref().filter(|name| !name.is_empty()) {
        put("public-hostname", 20_070_119, name.clone());
    }
}

fn placement(tree: &mut Builder, of: &InstanceMetadata, config: &Config) {
    let mut put = |path: &str, since: Version, body: &str| meta(tree, path, since, body.to_owned());
    put("placement/availability-zone", 20_080_201, &of.availability_zone);
    put(
        "placement/availability-zone-id",
        20_191_001,
        &of.availability_zone_id,
    );
    put("placement/region", 20_200_824, &of.region);
    if let Some(group) = &of.placement_group {
        put("placement/group-name", 20_200_824, &line(group));
    }
    if let Some(number) = of.partition_number {
        put("placement/partition-number", 20_200_824, &number.to_string());
    }
    put("services/domain", 20_140_225, &config.services_domain);
    put("services/partition", 20_151_020, &config.services_partition);
}

/// `public-keys/` lists `0=name`; the key itself is at `public-keys/0/openssh-key`.
fn public_keys(tree: &mut Builder, of: &InstanceMetadata) {
    for (index, key) in of.public_keys.iter().enumerate() {
        let directory = format!("meta-data/public-keys/{index}");
        let name = format!("{index}={}", entry(&key.name));
        tree.text(format!("{directory}/openssh-key"), 0, key.openssh.trim_end());
        // A crawler that takes the listed name as a path finds the same.
        if !name.contains('/') {
            let alias = format!("meta-data/public-keys/{name}");
            tree.text(format!("{alias}/openssh-key"), 0, key.openssh.trim_end());
            tree.listed_as(alias, None);
        }
        tree.listed_as(directory, Some(name));
    }
}

fn network(tree: &mut Builder, of: &InstanceMetadata, interface: &InterfaceMetadata) {
    let directory = format!("network/interfaces/macs/{}", interface.mac);
    let mut put = |name: &str, since: Version, body: String| {
        meta(tree, &format!("{directory}/{name}"), since, body);
    };
    let vpc = 20_110_101;
    put("device-number", vpc, interface.device_index.to_string());
    put("interface-id", vpc, interface.id.to_string());
    put("local-hostname", vpc, local_hostname(of, interface));
    put("local-ipv4s", vpc, interface.private_ip.to_string());
    put("mac", vpc, interface.mac.to_string());
    put("network-card", 20_201_101, "0".into());
    put("network-card-index", 20_201_101, "0".into());
    put("owner-id", vpc, of.account.to_string());
    put("subnet-id", vpc, interface.subnet.to_string());
    put("subnet-ipv4-cidr-block", vpc, interface.subnet_cidr.to_string());
    put("vpc-id", vpc, interface.vpc.to_string());
    put("vpc-ipv4-cidr-block", vpc, interface.vpc_cidr.to_string());
    put("vpc-ipv4-cidr-blocks", 20_160_630, interface.vpc_cidr.to_string());
    if !interface.security_groups.is_empty() {
        let ids = interface.security_groups.iter().map(|(id, _)| id.to_string());
        put("security-group-ids", vpc, ids.collect::<Vec<_>>().join("\n"));
        put("security-groups", vpc, group_names(interface));
    }
    if let Some(address) = interface.public_ip {
        put("public-ipv4s", vpc, address.to_string());
        let associations = format!("ipv4-associations/{address}");
        put(&associations, vpc, interface.private_ip.to_string());
        if let Some(name) = public_hostname(of, interface) {
            put("public-hostname", vpc, name);
        }
    }
    // An older name of `network-card` that some clients ask for.
    let hidden = format!("meta-data/{directory}/network-card-index");
    tree.listed_as(hidden, None);
}

/// The tags. The API takes no others than those whose keys can be names here; what is there all the same, from
/// before it did, is hidden.
fn tags(tree: &mut Builder, of: &InstanceMetadata) {
    for tag in of.tags.iter().filter(|tag| can_be_read(&tag.key)) {
        let path = format!("meta-data/tags/instance/{}", tag.key);
        tree.text(path, 20_210_323, line(&tag.value));
    }
}

fn meta(tree: &mut Builder, path: &str, since: Version, body: String) {
    if body.is_empty() {
        return;
    }
    tree.text(format!("meta-data/{path}"), since, body);
}

fn group_names(interface: &InterfaceMetadata) -> String {
    let names = interface.security_groups.iter().map(|(_, name)| line(name));
    names.collect::<Vec<_>>().join("\n")
}

/// The primary interface has the instance's name, others one of the same kind.
fn local_hostname(of: &InstanceMetadata, interface: &InterfaceMetadata) -> String {
    let primary = of.interfaces.first().map(|first| first.id);
    match of.private_dns_name.split_once('.') {
        Some((_, domain)) if primary != Some(interface.id) => {
            let address = interface.private_ip.to_string().replace('.', "-");
            format!("ip-{address}.{domain}")
        }
        _ => of.private_dns_name.clone(),
    }
}

fn public_hostname(of: &InstanceMetadata, interface: &InterfaceMetadata) -> Option<String> {
    let primary = of.interfaces.first()?.id == interface.id;
    let name = of.public_dns_name.as_ref().filter(|name| !name.is_empty())?;
    primary.then(|| name.clone())
}

/// A name chosen by a user as the end of a line of a listing, where a final slash says that the line is a
/// directory: cloud-init would ask for it, find nothing and throw all metadata away.
fn entry(name: &str) -> String {
    let name = line(name);
    let plain = name.trim_end_matches(|c: char| c == '/' || c.is_whitespace());
    format!("{plain}{}", "_".repeat(name[plain.len()..].chars().count()))
}

/// A name chosen by a user, where a line break would make it two.
fn line(name: &str) -> String {
    name.replace(char::is_control, "_")
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
