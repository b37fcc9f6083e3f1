//! Launching and describing instances.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::*;

#[tokio::test]
async fn a_launch_is_pending_and_complete_enough_for_old_and_new_clients() {
    let world = World::new().await;
    let xml = world
        .ask(
            "Action=RunInstances&ImageId={image}&MinCount=2&MaxCount=2&InstanceType=t3.nano&\
             TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=Name&\
             TagSpecification.1.Tag.1.Value=web&Version=2015-10-01",
        )
        .await;
    assert!(xml.contains("<RunInstancesResponse xmlns=\"http://ec2.amazonaws.com/doc/2015-10-01/\"><requestId>req-1</requestId>"));
    assert_eq!(all(&xml, "instancesSet").len(), 1);
    assert_eq!(all(&xml, "amiLaunchIndex"), ["0", "1"]);
    assert!(xml.contains("<instanceState><code>0</code><name>pending</name></instanceState>"));
    // What euca2ools and Terraform can't do without.
    for element in [
        "reservationId",
        "launchTime",
        "groupId",
        "privateDnsName",
        "networkInterfaceId",
        "volumeId",
        "httpTokens",
    ] {
        assert!(!one(&xml, element).is_empty(), "{element}");
    }
    assert!(
        xml.contains("<groupSet/>"),
        "a reservation's groups are an empty list"
    );
    assert!(
        xml.contains("<monitoring><metricCategoryIdSet/><state>disabled</state></monitoring>")
            || xml.contains("<state>disabled</state>")
    );
    assert!(xml.contains("<state>applied</state>"), "metadata options");
    let public = one(&xml, "publicIp");
    assert_eq!(
        all(&xml, "publicIp").iter().filter(|ip| **ip == public).count(),
        2,
        "on the interface and on its address"
    );
    let shown = world.ask("Action=DescribeInstances").await;
    assert_eq!(all(&shown, "reservationId").len(), 1);
    assert_eq!(all(&shown, "value"), ["web", "web"]);
}

#[tokio::test]
async fn life_by_the_state_changes() {
    let world = World::new().await;
    let ids = world.run(2, "").await;
    let both = format!("InstanceId.1={}&InstanceId.10={}", ids[0], ids[1]);
    let xml = world.ask(&format!("Action=TerminateInstances&{both}")).await;
    assert_eq!(all(&xml, "instanceId"), ids);
    assert_eq!(
        all(&xml, "name"),
        ["shutting-down", "pending", "shutting-down", "pending"]
    );
    // Again changes nothing; starting what ends is refused.
    world.ask(&format!("Action=TerminateInstances&{both}")).await;
    assert_eq!(
        world
            .refused(&format!("Action=StartInstances&InstanceId.1={}", ids[0]))
            .await,
        "IncorrectInstanceState"
    );
}

#[tokio::test]
async fn protection_and_attributes() {
    let world = World::new().await;
    let id = world
        .run(1, "&DisableApiTermination=true&UserData=aGVsbG8=")
        .await
        .remove(0);
    assert_eq!(
        world
            .refused(&format!("Action=TerminateInstances&InstanceId.1={id}"))
            .await,
        "OperationNotPermitted"
    );
    for (attribute, expected) in [
        (
            "disableApiTermination",
            "<disableApiTermination><value>true</value></disableApiTermination>",
        ),
        (
            "disableApiStop",
            "<disableApiStop><value>false</value></disableApiStop>",
        ),
        ("userData", "<userData><value>aGVsbG8=</value></userData>"),
        (
            "instanceInitiatedShutdownBehavior",
            "<instanceInitiatedShutdownBehavior><value>stop</value></instanceInitiatedShutdownBehavior>",
        ),
        (
            "instanceType",
            "<instanceType><value>t3.nano</value></instanceType>",
        ),
        ("kernel", "<kernel></kernel>"),
        ("groupSet", "<groupName>default</groupName>"),
    ] {
        let xml = world
            .ask(&format!(
                "Action=DescribeInstanceAttribute&InstanceId={id}&Attribute={attribute}"
            ))
            .await;
        assert!(xml.contains(expected), "{attribute}: {xml}");
    }
    world
        .ask(&format!(
            "Action=ModifyInstanceAttribute&InstanceId={id}&DisableApiTermination.Value=false"
        ))
        .await;
    world
        .ask(&format!("Action=TerminateInstances&InstanceId.1={id}"))
        .await;
}

#[tokio::test]
async fn metadata_options_change() {
    let world = World::new().await;
    let id = world.run(1, "").await.remove(0);
    let xml = world
        .ask(&format!(
            "Action=ModifyInstanceMetadataOptions&InstanceId={id}&HttpTokens=required"
        ))
        .await;
    assert_eq!(one(&xml, "httpTokens"), "required");
    let shown = world
        .ask("Action=DescribeInstances&Filter.1.Name=metadata-options.http-tokens&Filter.1.Value.1=required")
        .await;
    assert_eq!(all(&shown, "instanceId"), [id]);
}

#[tokio::test]
async fn a_client_token_launches_once() {
    let world = World::new().await;
    let ids = world.run(1, "&ClientToken=one").await;
    // Sent again, in another order and signed anew.
    let again = "Version=2016-11-15&ClientToken=one&InstanceType=t3.nano&MaxCount=1&MinCount=1&ImageId={image}&Action=RunInstances";
    assert_eq!(all(&world.ask(again).await, "instanceId"), ids);
    let other = again.replace("t3.nano", "t3.micro");
    assert_eq!(world.refused(&other).await, "IdempotentParameterMismatch");
    world.run(1, "&ClientToken=two").await;
    assert_eq!(
        all(&world.ask("Action=DescribeInstances").await, "reservationId").len(),
        2
    );
    assert_eq!(
        world
            .refused(&again.replace("=one", &format!("={}", "x".repeat(65))))
            .await,
        "InvalidParameterValue"
    );
}

#[tokio::test]
async fn status_is_for_running_instances_unless_all_are_asked_for() {
    let world = World::new().await;
    let id = world.run(1, "").await.remove(0);
    assert!(
        world
            .ask("Action=DescribeInstanceStatus")
            .await
            .contains("<instanceStatusSet/>")
    );
    let xml = world
        .ask("Action=DescribeInstanceStatus&IncludeAllInstances=true")
        .await;
    assert_eq!(all(&xml, "instanceId"), [id]);
    assert!(xml.contains("<status>initializing</status>"));
}

#[tokio::test]
async fn types_in_two_shapes() {
    let world = World::new().await;
    let amazon = world
        .ask("Action=DescribeInstanceTypes&InstanceType.1=t3.nano")
        .await;
    assert_eq!(one(&amazon, "burstablePerformanceSupported"), "false");
    assert_eq!(one(&amazon, "sizeInMiB"), "512");
    let eucalyptus = world
        .ask("Action=DescribeInstanceTypes&Version=2015-10-01&InstanceType.1=t3.nano")
        .await;
    assert_eq!(one(&eucalyptus, "name"), "t3.nano");
    assert_eq!(one(&eucalyptus, "memory"), "512");
    assert!(eucalyptus.contains("<availability/>"), "{eucalyptus}");
    let room = "Action=DescribeInstanceTypes&Version=2015-10-01&InstanceType.1=t3.nano&Availability=true";
    let room = world.ask(room).await;
    assert_eq!(
        (one(&room, "zoneName"), one(&room, "max"), one(&room, "available")),
        ("us-east-1a".into(), "500".into(), "500".into())
    );
    assert_eq!(
        world
            .refused("Action=DescribeInstanceTypes&InstanceType.1=x9.huge")
            .await,
        "InvalidInstanceType"
    );
    let offered = world
        .ask("Action=DescribeInstanceTypeOfferings&LocationType=availability-zone&Filter.1.Name=instance-type&Filter.1.Value.1=t3.nano")
        .await;
    assert_eq!(all(&offered, "location"), ["us-east-1a"]);
}

/// An instance that goes on without a public address says so; a launch that asks for one is refused.
#[tokio::test]
async fn public_addresses_have_a_quota() {
    let mut world = World::new().await;
    world.cloud.compute.cx.config = Arc::new(CloudConfig {
        public_addresses: 1,
        quotas: Quotas::default(),
        modification_cooldown: std::time::Duration::ZERO,
        volume_store: cumulet_domain::volume::VolumeStore::Local,
        ..(*world.cloud.config).clone()
    });
    let run = |count: &str, rest: &str| {
        format!("Action=RunInstances&ImageId={{image}}&InstanceType=t3.nano&{count}{rest}")
    };
    let xml = world.ask(&run("MinCount=2&MaxCount=2", "")).await;
    let ids = all(&xml, "instanceId");
    let addresses = all(&one(&xml, "instancesSet"), "ipAddress");
    assert_eq!((ids.len(), addresses.len()), (2, 1), "{xml}");
    let reason = one(&xml, "stateReason");
    let told = "Client.AddressLimitExceeded: The instance has no public address: \
                the account has its 1 public addresses in use.";
    assert_eq!(
        (one(&reason, "code"), one(&reason, "message")),
        ("Client.AddressLimitExceeded".into(), told.into())
    );
    let found = world
        .ask("Action=DescribeInstances&Filter.1.Name=state-reason-code&Filter.1.Value.1=Client.AddressLimitExceeded")
        .await;
    assert_eq!(all(&found, "instanceId"), ids[1..]);
    let asked = "&NetworkInterface.1.DeviceIndex=0&NetworkInterface.1.AssociatePublicIpAddress=true";
    let body = run("MinCount=1&MaxCount=1", asked);
    let refused = world.try_as(&world.who, &body).await.unwrap_err();
    assert_eq!(
        (refused.code.as_ref(), refused.status, refused.message.as_str()),
        (
            "AddressLimitExceeded",
            400,
            "The maximum number of addresses has been reached."
        )
    );
    let refused = world.refused(&format!("{body}&DryRun=true")).await;
    assert_eq!(refused, "AddressLimitExceeded");
}

/// Every member of every operation that takes user data, up to its text.
const USER_DATA: &[&str] = &[
    "RunInstances&ImageId={image}&MinCount=1&MaxCount=1&UserData=",
    "ModifyInstanceAttribute&InstanceId={id}&UserData.Value=",
    "ModifyInstanceAttribute&InstanceId={id}&Attribute=userData&Value=",
];

/// One mistake, one code, wherever user data comes in.
#[tokio::test]
async fn bad_user_data_has_one_code_in_every_member() {
    // No request that is served has such a member beside those of the table.
    let shapes = include_str!("../../wire/src/ec2/instances.rs")
        .split("input! { ")
        .skip(1);
    let with = shapes.filter(|shape| shape.split("} }").next().unwrap().contains("UserData\""));
    let with: Vec<&str> = with.filter_map(|shape| shape.split("Request ").next()).collect();
    assert_eq!(with, ["ModifyInstanceAttribute", "RunInstances"]);
    let world = World::new().await;
    let id = world.run(1, "").await.remove(0);
    world.settle_stopped(&id).await;
    let large = "A".repeat(24_000);
    for call in USER_DATA {
        let call = format!("Action={}", call.replace("{id}", &id));
        for (text, code) in [
            ("!", "InvalidUserData.Malformed"),
            ("not-base64", "InvalidUserData.Malformed"),
            ("aGk%3D%3D", "InvalidUserData.Malformed"),
            ("%23!/bin/sh", "InvalidUserData.Malformed"),
            ("%C3%A4", "InvalidUserData.Malformed"),
            (&large, "InvalidParameterValue"),
        ] {
            let refusal = world.try_as(&world.who, &format!("{call}{text}")).await;
            let refusal = refusal
                .err()
                .unwrap_or_else(|| panic!("{call}{text:.40} was accepted"));
            assert_eq!((&*refusal.code, refusal.status), (code, 400), "{call}{text:.40}");
            if code == "InvalidUserData.Malformed" {
                assert_eq!(
                    refusal.message, "Invalid BASE64 encoding of user data.",
                    "{call}{text}"
                );
            }
        }
    }
}

/// One base64 for every member that has some.
#[tokio::test]
async fn base64_is_read_alike_in_every_member() {
    let world = World::new().await;
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJGcy3Lg7Gk/dWy5I2qTtD9hN9aQ1kD59ux+N14YnwLm me";
    let id = world.run(1, "").await.remove(0);
    world.settle_stopped(&id).await;
    let escape = |text: &str| {
        let escaped = text.replace('%', "%25").replace('+', "%2B").replace('=', "%3D");
        escaped
            .replace('\n', "%0A")
            .replace('\r', "%0D")
            .replace(' ', "%20")
            .replace('\t', "%09")
    };
    // As it stands, without its padding, in lines, between spaces; and what is none.
    type Form = fn(String) -> String;
    let forms: [(Form, bool); 8] = [
        (|text| text, true),
        (|text| text.trim_end_matches('=').to_owned(), true),
        (|text| format!("{}\n{}\r\n", &text[..2], &text[2..]), true),
        (|text| format!(" {text}\t"), true),
        (|text| format!("{text}="), false),
        (|text| format!("{text}=AA"), false),
        (|text| format!("!{text}"), false),
        (|text| format!("{}-_", &text[..2]), false),
    ];
    for (n, (form, fine)) in forms.into_iter().enumerate() {
        // Their lengths ask for one and for two signs of padding.
        for (m, data) in ["data", "datas"].into_iter().enumerate() {
            let (coded, key) = (
                STANDARD.encode(data),
                STANDARD.encode(format!("{key}{}", " ".repeat(m))),
            );
            let (coded, key) = (escape(&form(coded)), escape(&form(key)));
            let calls = [
                format!("Action=ImportKeyPair&KeyName=k{n}-{m}&PublicKeyMaterial={key}"),
                format!("Action=RunInstances&ImageId={{image}}&MinCount=1&MaxCount=1&UserData={coded}"),
                format!("Action=ModifyInstanceAttribute&InstanceId={id}&UserData.Value={coded}"),
                format!("Action=ModifyInstanceAttribute&InstanceId={id}&Attribute=userData&Value={coded}"),
            ];
            for body in calls {
                let answer = world.try_as(&world.who, &body).await;
                assert_eq!(answer.is_ok(), fine, "{body}: {answer:?}");
                let Err(refused) = answer else { continue };
                assert_eq!(refused.status, 400, "{body}: {refused:?}");
                assert!(!refused.message.contains(&coded), "{body}: {refused:?}");
            }
            let shown = format!("Action=DescribeInstanceAttribute&InstanceId={id}&Attribute=userData");
            if fine {
                let value = one(&world.ask(&shown).await, "value");
                assert_eq!(value, STANDARD.encode(data), "in one form, whichever it came in");
            }
        }
    }
}
