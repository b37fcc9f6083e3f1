//! DescribeNetworkInterfaces: what it shows, every documented filter, pages, and whose interfaces they are.

use cumulet_wire::ec2::operations;

use super::*;

/// Three instances: the first one's interface has a tag, a description and a group of its own.
async fn launched(world: &World) -> (Vec<String>, String) {
    let group = one(
        &world
            .ask("Action=CreateSecurityGroup&GroupName=web&GroupDescription=x")
            .await,
        "groupId",
    );
    let special = format!(
        "&NetworkInterface.1.DeviceIndex=0&NetworkInterface.1.Description=front&\
         NetworkInterface.1.SecurityGroupId.1={group}&NetworkInterface.1.AssociatePublicIpAddress=true&\
         TagSpecification.1.ResourceType=network-interface&TagSpecification.1.Tag.1.Key=side&\
         TagSpecification.1.Tag.1.Value=out"
    );
    let mut ids = world.run(1, &special).await;
    world.advance(1);
    let plain = "&NetworkInterface.1.DeviceIndex=0&NetworkInterface.1.AssociatePublicIpAddress=false";
    ids.extend(world.run(2, plain).await);
    (ids, group)
}

fn filtered(name: &str, value: &str) -> String {
    format!("Action=DescribeNetworkInterfaces&Filter.1.Name={name}&Filter.1.Value.1={value}")
}

#[tokio::test]
async fn an_interface_is_what_its_instance_shows_of_it() {
    let world = World::new().await;
    let (ids, group) = launched(&world).await;
    let of_instance = world
        .ask(&format!("Action=DescribeInstances&InstanceId.1={}", ids[0]))
        .await;
    let xml = world.ask(&filtered("attachment.instance-id", &ids[0])).await;
    for element in [
        "networkInterfaceId",
        "attachmentId",
        "attachTime",
        "macAddress",
        "subnetId",
        "vpcId",
        "privateIpAddress",
        "publicIp",
        "publicDnsName",
        "groupName",
        "availabilityZone",
        "interfaceType",
    ] {
        let of_instance = all(&of_instance, element);
        assert!(
            of_instance.contains(&one(&xml, element)),
            "{element}: {of_instance:?}"
        );
    }
    assert_eq!(all(&xml, "instanceId"), [ids[0].as_str()]);
    assert_eq!(
        (one(&xml, "groupId"), one(&xml, "description")),
        (group, "front".into())
    );
    assert!(
        xml.contains("<tagSet><item><key>side</key><value>out</value></item></tagSet>"),
        "{xml}"
    );
    let owner = world.who.account.to_string();
    assert_eq!(
        (one(&xml, "ownerId"), one(&xml, "instanceOwnerId")),
        (owner.clone(), owner)
    );
    assert_eq!(
        (one(&xml, "requesterManaged"), one(&xml, "sourceDestCheck")),
        ("false".into(), "true".into())
    );
    assert_eq!(all(&xml, "status"), ["attached", "in-use"]);
    let plain = world.ask(&filtered("attachment.instance-id", &ids[1])).await;
    assert!(
        plain.contains("<tagSet/>") && !plain.contains("<association>"),
        "{plain}"
    );
}

#[tokio::test]
async fn every_documented_filter_finds_what_has_the_value_and_nothing_else() {
    let world = World::new().await;
    let (ids, group) = launched(&world).await;
    let xml = world.ask(&filtered("attachment.instance-id", &ids[0])).await;
    let of = |element: &str| one(&xml, element);
    // How many of the three pass.
    let table = [
        ("addresses.association.owner-id", "amazon".to_owned(), 1),
        ("addresses.association.public-ip", of("publicIp"), 1),
        ("addresses.primary", "true".into(), 3),
        ("addresses.private-ip-address", of("privateIpAddress"), 1),
        ("association.ip-owner-id", "amazon".into(), 1),
        ("association.public-dns-name", of("publicDnsName"), 1),
        ("association.public-ip", of("publicIp"), 1),
        ("attachment.attach-time", of("attachTime"), 1),
        ("attachment.attachment-id", of("attachmentId"), 1),
        ("attachment.delete-on-termination", "true".into(), 3),
        ("attachment.device-index", "0".into(), 3),
        ("attachment.instance-id", ids[1].clone(), 1),
        ("attachment.instance-owner-id", of("instanceOwnerId"), 3),
        ("attachment.status", "attached".into(), 3),
        ("availability-zone", "us-east-1a".into(), 3),
        ("availability-zone-id", "use1-az1".into(), 3),
        ("description", "front".into(), 1),
        ("group-id", group.clone(), 1),
        ("group-name", "web".into(), 1),
        ("interface-type", "interface".into(), 3),
        ("mac-address", of("macAddress"), 1),
        ("network-interface-id", of("networkInterfaceId"), 1),
        ("operator.managed", "false".into(), 3),
        ("owner-id", of("ownerId"), 3),
        ("private-dns-name", of("privateDnsName"), 1),
        ("private-ip-address", of("privateIpAddress"), 1),
        ("requester-managed", "false".into(), 3),
        ("source-dest-check", "true".into(), 3),
        ("status", "in-use".into(), 3),
        ("subnet-id", of("subnetId"), 3),
        ("tag-key", "side".into(), 1),
        ("tag:side", "out".into(), 1),
        ("vpc-id", of("vpcId"), 3),
    ];
    // What no interface here has.
    let absent = [
        "association.allocation-id",
        "association.association-id",
        "ipv6-addresses.ipv6-address",
        "operator.principal",
        "requester-id",
    ];
    let info = operations::OPERATIONS
        .iter()
        .find(|info| info.name == "DescribeNetworkInterfaces");
    for name in info.unwrap().filters.unwrap().names {
        let name = if *name == "tag:<key>" { "tag:side" } else { name };
        let tried = table.iter().any(|row| row.0 == name) || absent.contains(&name);
        assert!(tried, "{name} is documented and not in this test");
    }
    for (name, value, count) in &table {
        let found = all(&world.ask(&filtered(name, value)).await, "networkInterfaceId");
        assert_eq!(found.len(), *count, "{name}={value}");
        let none = world.ask(&filtered(name, "nonsense")).await;
        assert!(none.contains("<networkInterfaceSet/>"), "{name}: {none}");
        let some = world.ask(&filtered(name, &format!("{value}*"))).await;
        assert!(
            all(&some, "networkInterfaceId").len() >= *count,
            "{name}={value}*"
        );
    }
    for name in absent {
        let none = world.ask(&filtered(name, "*")).await;
        assert!(none.contains("<networkInterfaceSet/>"), "{name}: {none}");
    }
    // As Terraform asks before it deletes a group.
    let both = format!(
        "{}&Filter.2.Name=attachment.instance-id&Filter.2.Value.1={}",
        filtered("group-id", &group),
        ids[1]
    );
    assert!(world.ask(&both).await.contains("<networkInterfaceSet/>"));
}

#[tokio::test]
async fn interfaces_are_their_accounts_and_named_ones_must_be_there() {
    let world = World::new().await;
    let (ids, _) = launched(&world).await;
    let all_of_them = "Action=DescribeNetworkInterfaces";
    let shown = all(&world.ask(all_of_them).await, "networkInterfaceId");
    assert_eq!((shown.len(), ids.len()), (3, 3));
    let named = format!("{all_of_them}&NetworkInterfaceId.1={}", shown[1]);
    assert_eq!(all(&world.ask(&named).await, "networkInterfaceId"), shown[1..2]);
    assert_eq!(world.try_as(&world.reader(), &named).await.map(drop), Ok(()));
    let theirs = world.try_as(&world.stranger(), all_of_them).await.unwrap();
    assert!(theirs.contains("<networkInterfaceSet/>"), "{theirs}");
    let not_theirs = world.try_as(&world.stranger(), &named).await.unwrap_err();
    assert_eq!(not_theirs.code, "InvalidNetworkInterfaceID.NotFound");
    let two = format!("{named}&NetworkInterfaceId.2=eni-1234567890abcdef0&NetworkInterfaceId.3=eni-1a2b3c4d");
    let gone = world.try_as(&world.who, &two).await.unwrap_err();
    assert_eq!(
        (&*gone.code, gone.message.as_str()),
        (
            "InvalidNetworkInterfaceID.NotFound",
            "The networkInterface IDs 'eni-1234567890abcdef0, eni-1a2b3c4d' do not exist"
        )
    );
    for (rest, code) in [
        (
            "NetworkInterfaceId.1=nonsense",
            "InvalidNetworkInterfaceID.Malformed",
        ),
        ("MaxResults=4", "InvalidParameterValue"),
        ("MaxResults=1001", "InvalidParameterValue"),
        (
            "Filter.1.Name=nonsense&Filter.1.Value.1=x",
            "InvalidParameterValue",
        ),
        ("DryRun=true", "DryRunOperation"),
    ] {
        assert_eq!(
            world.refused(&format!("{all_of_them}&{rest}")).await,
            code,
            "{rest}"
        );
    }
    let paged = format!("{named}&MaxResults=5");
    assert_eq!(world.refused(&paged).await, "InvalidParameterCombination");
}

#[tokio::test]
async fn pages_of_interfaces_meet() {
    let world = World::new().await;
    world.run(12, "").await;
    let everything = all(
        &world.ask("Action=DescribeNetworkInterfaces").await,
        "networkInterfaceId",
    );
    for filter in ["", "&Filter.1.Name=status&Filter.1.Value.1=in-*"] {
        let (mut seen, mut token, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let ask = format!("Action=DescribeNetworkInterfaces&MaxResults=5{filter}{token}");
            let xml = world.ask(&ask).await;
            seen.extend(all(&xml, "networkInterfaceId"));
            pages += 1;
            match all(&xml, "nextToken").first() {
                Some(next) => token = format!("&NextToken={next}"),
                None => break,
            }
        }
        assert_eq!((&seen, pages), (&everything, 3), "{filter}");
    }
}
