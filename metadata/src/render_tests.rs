//! Rule 1 of the service: every name that is listed answers, in every version.

use std::collections::BTreeSet;

use cumulet_domain::tag::Tag;

use super::*;
use crate::{
    fixture,
    table::Found,
    version::{self, LATEST},
};

fn body(table: &Table, version: Version, key: &str) -> Option<String> {
    match table.get(version, key)? {
        Found::Text(bytes) => Some(String::from_utf8(bytes.to_vec()).unwrap()),
        Found::Octets(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

/// Follows every listing as cloud-init does and returns the leaves.
fn crawl(table: &Table, version: Version, directory: &str, leaves: &mut BTreeSet<String>) {
    let listing = body(table, version, directory).unwrap_or_else(|| panic!("no {directory:?}"));
    assert!(!listing.ends_with('\n'), "{directory}");
    for name in listing.lines() {
        let path = format!("{directory}/{name}");
        let path = path.trim_start_matches('/');
        if let Some(child) = path.strip_suffix('/') {
            crawl(table, version, child, leaves);
        } else if directory.is_empty() && name != "user-data" {
            crawl(table, version, name, leaves);
        } else if directory.ends_with("public-keys") {
            let index = name.split('=').next().unwrap();
            crawl(table, version, &format!("{directory}/{index}"), leaves);
        } else {
            let value = body(table, version, path).unwrap_or_else(|| panic!("{path} is listed only"));
            assert!(path == "user-data" || !value.ends_with('\n'), "{path}");
            assert!(path == "user-data" || !value.is_empty(), "{path}");
            leaves.insert(path.to_owned());
        }
    }
}

fn leaves(metadata: &InstanceMetadata, version: Version) -> BTreeSet<String> {
    let mut leaves = BTreeSet::new();
    crawl(&render(metadata, &Config::default()), version, "", &mut leaves);
    leaves
}

/// Names that users choose, wherever a listing has them: whatever they are, each listing stays readable.
#[test]
fn no_name_breaks_a_listing() {
    let mac = fixture::full(1, [10, 0, 0, 5].into()).interfaces[0].mac;
    let listings = |name: &str| {
        let mut metadata = fixture::full(1, [10, 0, 0, 5].into());
        metadata.public_keys.truncate(1);
        metadata.public_keys[0].name = name.into();
        metadata.tags = vec![Tag {
            key: name.into(),
            value: name.into(),
        }];
        for (_, group) in &mut metadata.interfaces[0].security_groups {
            *group = name.into();
        }
        let table = render(&metadata, &Config::default());
        let lines = |path: &str| {
            let body = body(&table, LATEST, path).unwrap_or_else(|| panic!("no {path} with {name:?}"));
            body.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        assert!(
            leaves(&metadata, LATEST).contains("meta-data/public-keys/0/openssh-key"),
            "{name:?}"
        );
        let groups = format!("meta-data/network/interfaces/macs/{mac}/security-groups");
        let members = metadata.interfaces[0].security_groups.len();
        for path in ["meta-data/security-groups", &groups] {
            assert_eq!(lines(path).len(), members, "{path} with {name:?}");
        }
        lines("meta-data/public-keys")
    };
    for (name, listed) in [
        ("k", "0=k"),
        ("k/", "0=k_"),
        ("k//", "0=k__"),
        ("/", "0=_"),
        ("a/ / ", "0=a____"),
        ("team/key", "0=team/key"),
        ("a=b", "0=a=b"),
        ("a=b/", "0=a=b_"),
        ("0", "0=0"),
        ("..", "0=.."),
        ("security-credentials/", "0=security-credentials_"),
        ("two\nlines/", "0=two_lines_"),
        ("\r", "0=_"),
        ("{}", "0={}"),
        ("é/", "0=é_"),
    ] {
        assert_eq!(listings(name), [listed], "{name:?}");
    }
}

#[test]
fn every_listed_name_answers_in_every_version() {
    for metadata in [
        fixture::full(1, [10, 0, 0, 5].into()),
        fixture::instance(1, [10, 0, 0, 5].into()),
    ] {
        for name in version::listing().lines() {
            let version = version::parse(name).unwrap();
            assert!(
                leaves(&metadata, version).contains("meta-data/instance-id"),
                "{name}"
            );
        }
    }
}

#[test]
fn old_versions_show_what_they_showed() {
    let metadata = fixture::full(1, [10, 0, 0, 5].into());
    let old = leaves(&metadata, 20_090_404);
    let new = leaves(&metadata, LATEST);
    assert!(old.is_subset(&new));
    for (path, was_there) in [
        ("meta-data/local-ipv4", true),
        ("meta-data/placement/availability-zone", true),
        ("meta-data/placement/region", false),
        ("meta-data/mac", false),
        ("meta-data/tags/instance/Name", false),
        ("meta-data/services/domain", false),
        ("dynamic/instance-identity/document", true),
        ("user-data", true),
    ] {
        assert!(new.contains(path), "{path}");
        assert_eq!(old.contains(path), was_there, "{path}");
    }
}

#[test]
fn values() {
    let metadata = fixture::full(1, [10, 0, 0, 5].into());
    let table = render(&metadata, &Config::default());
    let mac = metadata.interfaces[0].mac;
    let second = metadata.interfaces[1].mac;
    let nic = |name: &str| format!("meta-data/network/interfaces/macs/{mac}/{name}");
    for (path, value) in [
        ("".into(), "dynamic\nmeta-data\nuser-data"),
        ("meta-data/ami-manifest-path".into(), "(unknown)"),
        ("meta-data/mac".into(), "02:16:0a:00:00:05"),
        ("meta-data/public-keys".into(), "0=first\n1=team/second key"),
        ("meta-data/public-keys/0".into(), "openssh-key"),
        (
            "meta-data/public-keys/0/openssh-key".into(),
            "ssh-ed25519 AAAA first",
        ),
        (
            "meta-data/public-keys/0=first/openssh-key".into(),
            "ssh-ed25519 AAAA first",
        ),
        (
            "meta-data/public-keys/1/openssh-key".into(),
            "ssh-rsa BBBB second",
        ),
        ("meta-data/tags/instance".into(), "Name\na=b"),
        ("meta-data/tags/instance/a=b".into(), "c"),
        ("meta-data/public-ipv4".into(), "203.0.113.7"),
        ("meta-data/events/maintenance".into(), "history\nscheduled"),
        ("meta-data/events/maintenance/scheduled".into(), "[]"),
        ("meta-data/block-device-mapping".into(), "ami\nroot"),
        ("meta-data/block-device-mapping/root".into(), "/dev/xvda"),
        ("dynamic".into(), "fws/\ninstance-identity/"),
        ("dynamic/fws/instance-monitoring".into(), "disabled"),
        ("dynamic/instance-identity".into(), "document"),
        (nic("device-number"), "0"),
        (nic("network-card"), "0"),
        (nic("network-card-index"), "0"),
        (nic("ipv4-associations"), "203.0.113.7"),
        (nic("ipv4-associations/203.0.113.7"), "10.0.0.5"),
        (nic("subnet-ipv4-cidr-block"), "10.0.0.0/24"),
        (nic("local-hostname"), "ip-10-0-0-5.ec2.internal"),
        (
            format!("meta-data/network/interfaces/macs/{second}/local-hostname"),
            "ip-10-0-0-6.ec2.internal",
        ),
    ] {
        assert_eq!(body(&table, LATEST, &path).as_deref(), Some(value), "{path}");
    }
    assert!(
        !body(&table, LATEST, &nic("")[..nic("").len() - 1])
            .unwrap()
            .contains("index")
    );
    let data = table.get(LATEST, "user-data");
    assert!(
        matches!(data, Some(Found::Octets(bytes)) if Some(bytes.as_ref()) == metadata.user_data.as_deref())
    );
}

#[test]
fn what_is_missing_is_absent() {
    let mut metadata = fixture::instance(1, [10, 0, 0, 5].into());
    metadata.user_data = Some(Vec::new());
    metadata.public_dns_name = Some(String::new());
    let table = render(&metadata, &Config::default());
    assert_eq!(body(&table, LATEST, "").as_deref(), Some("dynamic\nmeta-data"));
    for path in [
        "public-keys",
        "public-ipv4",
        "public-hostname",
        "tags",
        "tags/instance",
        "iam",
        "spot",
        "placement/group-name",
        "placement/partition-number",
    ] {
        assert_eq!(body(&table, LATEST, &format!("meta-data/{path}")), None, "{path}");
    }
    assert_eq!(body(&table, LATEST, "user-data"), None);
    assert_eq!(body(&table, LATEST, "meta-data/ami-id/x"), None);
}

#[test]
fn tags_whose_keys_are_no_names_are_hidden() {
    let metadata = fixture::full(1, [10, 0, 0, 5].into());
    let keys: Vec<&str> = metadata.tags.iter().map(|tag| tag.key.as_str()).collect();
    assert!(keys.contains(&"1=a") && keys.contains(&"with space"), "{keys:?}");
    let table = render(&metadata, &Config::default());
    let listed = body(&table, LATEST, "meta-data/tags/instance");
    assert_eq!(listed.as_deref(), Some("Name\na=b"));
    assert_eq!(body(&table, LATEST, "meta-data/tags/instance/with space"), None);
}

/// A new field of the snapshot does not compile here before it has its place.
#[test]
fn every_field_of_a_snapshot_is_shown() {
    let metadata = InstanceMetadata {
        data_devices: vec!["/dev/sdf".into(), "xvdh".into()],
        ..fixture::full(1, [10, 0, 0, 5].into())
    };
    let table = render(&metadata, &Config::default());
    let InstanceMetadata {
        instance,
        revision: _, // for hosts: the newest is served
        options: _,  // how all of this is asked for
        account,
        reservation,
        image,
        instance_type,
        architecture,
        launch_index,
        private_dns_name,
        public_dns_name,
        region,
        availability_zone,
        availability_zone_id,
        placement_group,
        partition_number,
        public_keys,
        interfaces,
        root_device,
        data_devices,
        user_data: _, // compared byte by byte above
        pending_time: _,
        tags,
    } = &metadata;
    let document = body(&table, LATEST, "dynamic/instance-identity/document").unwrap();
    for text in [
        architecture.clone(),
        account.to_string(),
        "2026-01-02T03:04:05Z".into(),
    ] {
        assert!(document.contains(&format!("\"{text}\"")), "{text}: {document}");
    }
    let of = |field: &Option<String>| field.clone().unwrap();
    for (path, value) in [
        ("instance-id", instance.to_string()),
        ("reservation-id", reservation.to_string()),
        ("ami-id", image.to_string()),
        ("instance-type", instance_type.clone()),
        ("ami-launch-index", launch_index.to_string()),
        ("local-hostname", private_dns_name.clone()),
        ("public-hostname", of(public_dns_name)),
        ("placement/region", region.clone()),
        ("placement/availability-zone", availability_zone.clone()),
        ("placement/availability-zone-id", availability_zone_id.clone()),
        ("placement/group-name", of(placement_group)),
        (
            "placement/partition-number",
            partition_number.unwrap().to_string(),
        ),
        (
            "public-keys/0/openssh-key",
            public_keys[0].openssh.trim_end().into(),
        ),
        ("block-device-mapping/root", root_device.clone()),
        ("block-device-mapping/ebs1", data_devices[0].replace("/dev/", "")),
        ("block-device-mapping/ebs2", data_devices[1].replace("/dev/", "")),
        ("tags/instance/Name", tags[0].value.clone()),
    ] {
        let shown = body(&table, LATEST, &format!("meta-data/{path}"));
        assert_eq!(shown, Some(value), "{path}");
    }
    for interface in interfaces {
        every_field_of_an_interface_is_shown(&table, interface, &account.to_string());
    }
}

fn every_field_of_an_interface_is_shown(table: &Table, interface: &InterfaceMetadata, owner: &str) {
    let InterfaceMetadata {
        id,
        device_index,
        mac,
        private_ip,
        public_ip,
        subnet,
        subnet_cidr,
        vpc,
        vpc_cidr,
        security_groups,
    } = interface;
    let (group, name) = &security_groups[0];
    for (path, value) in [
        ("interface-id", id.to_string()),
        ("device-number", device_index.to_string()),
        ("mac", mac.to_string()),
        ("local-ipv4s", private_ip.to_string()),
        ("subnet-id", subnet.to_string()),
        ("subnet-ipv4-cidr-block", subnet_cidr.to_string()),
        ("vpc-id", vpc.to_string()),
        ("vpc-ipv4-cidr-block", vpc_cidr.to_string()),
        ("security-group-ids", group.to_string()),
        ("security-groups", name.clone()),
        ("owner-id", owner.to_owned()),
    ] {
        let path = format!("meta-data/network/interfaces/macs/{mac}/{path}");
        assert_eq!(body(table, LATEST, &path), Some(value), "{path}");
    }
    let public = format!("meta-data/network/interfaces/macs/{mac}/public-ipv4s");
    assert_eq!(body(table, LATEST, &public), public_ip.map(|ip| ip.to_string()));
}
