//! Block device mappings of a launch as clients see them: what they make, what is shown of it afterwards, and EC2's
//! codes and texts where they can't be.

use super::*;

/// Members of a launch's mappings, each behind its prefix.
fn mappings(members: &[&str]) -> String {
    let member = |member: &&str| format!("&BlockDeviceMapping.{member}");
    members.iter().map(member).collect()
}

#[tokio::test]
async fn every_door_shows_what_a_launch_has_made() {
    let world = World::new().await;
    let asked = mappings(&[
        "1.DeviceName=/dev/xvda",
        "1.Ebs.VolumeSize=20",
        "1.Ebs.VolumeType=gp3",
        "1.Ebs.Iops=4000",
        "1.Ebs.Throughput=250",
        "1.Ebs.Encrypted=false",
        "2.DeviceName=/dev/sdf",
        "2.Ebs.VolumeSize=3",
        "2.Ebs.DeleteOnTermination=false",
        "3.DeviceName=/dev/sdg",
        "3.VirtualName=ephemeral0",
        "4.DeviceName=/dev/sdh",
        "4.NoDevice=",
    ]);
    let tags = "&TagSpecification.1.ResourceType=volume&TagSpecification.1.Tag.1.Key=for";
    let id = world.run(1, &format!("{asked}{tags}")).await.remove(0);
    let volumes = "Action=DescribeVolumes&Filter.1.Name=attachment.instance-id";
    let volumes = world.ask(&format!("{volumes}&Filter.1.Value.1={id}")).await;
    // They are in the order of their ids.
    let all_of = |element: &str| {
        let mut found = all(&volumes, element);
        found.sort();
        found
    };
    assert_eq!(all_of("size"), ["20", "3"]);
    assert_eq!(all_of("volumeType"), ["gp2", "gp3"]);
    assert_eq!(all_of("iops"), ["100", "4000"]);
    assert_eq!(all_of("throughput"), ["250"]);
    assert_eq!(all_of("device"), ["/dev/sdf", "/dev/xvda"]);
    assert_eq!(all_of("deleteOnTermination"), ["false", "true"]);
    assert_eq!(all_of("key"), ["for", "for"]);
    let show = [
        format!("Action=DescribeInstances&InstanceId.1={id}"),
        format!("Action=DescribeInstanceAttribute&InstanceId={id}&Attribute=blockDeviceMapping"),
    ];
    let shown = async |element: &str| {
        let mut found = Vec::new();
        for body in &show {
            let disks = world.ask(body).await;
            let disks = disks.split("<blockDeviceMapping>").nth(1).unwrap().to_owned();
            let disks = disks.split("</blockDeviceMapping>").next().unwrap().to_owned();
            found.push(all(&disks, element));
        }
        assert_eq!(found[0], found[1], "{element}");
        found.remove(0)
    };
    assert_eq!(shown("deviceName").await, ["/dev/xvda", "/dev/sdf"]);
    assert_eq!(shown("deleteOnTermination").await, ["true", "false"]);
    world.settle(&id, "running").await;
    let modify = format!("Action=ModifyInstanceAttribute&InstanceId={id}");
    let later = mappings(&["1.DeviceName=/dev/sdf", "1.Ebs.DeleteOnTermination=true"]);
    world.ask(&format!("{modify}{later}")).await;
    assert_eq!(shown("deleteOnTermination").await, ["true", "true"]);
}

#[tokio::test]
async fn what_can_not_be_is_refused_in_ec2s_words() {
    let world = World::new().await;
    let made = "Action=CreateVolume&AvailabilityZone=us-east-1a&Size=4";
    let volume = one(&world.ask(made).await, "volumeId");
    let snapshot = world
        .ask(&format!("Action=CreateSnapshot&VolumeId={volume}"))
        .await;
    let snapshot = one(&snapshot, "snapshotId");
    let of_snapshot = format!("1.Ebs.SnapshotId={snapshot}");
    let run = |members: &[&str]| {
        let asked = mappings(members);
        let body = format!("Action=RunInstances&ImageId={{image}}&MinCount=1&MaxCount=1{asked}");
        let world = &world;
        async move {
            let refused = world.try_as(&world.who, &body).await.unwrap_err();
            (refused.code.into_owned(), refused.message)
        }
    };
    let early = run(&["1.DeviceName=/dev/sdf", &of_snapshot]).await;
    assert_eq!(early.0, "IncorrectState", "{}", early.1);
    world.complete(&snapshot).await;
    let small = format!("Volume of size 3GB is smaller than snapshot '{snapshot}', expect size >= 4GB");
    for (members, code, message) in [
        (
            vec!["1.DeviceName=/dev/sdf", &of_snapshot, "1.Ebs.VolumeSize=3"],
            "InvalidBlockDeviceMapping",
            small.as_str(),
        ),
        (
            vec![
                "1.DeviceName=/dev/sdf",
                "1.Ebs.VolumeSize=3",
                "2.DeviceName=/dev/sdf",
                "2.Ebs.VolumeSize=3",
            ],
            "InvalidBlockDeviceMapping",
            "The device '/dev/sdf' is used in more than one block-device mapping",
        ),
        (
            vec!["1.DeviceName=/dev/sdf"],
            "MissingParameter",
            "The request must contain the parameter size or snapshotId",
        ),
        (
            vec!["1.DeviceName=/dev/nvme1n1", "1.Ebs.VolumeSize=3"],
            "InvalidParameterValue",
            "/dev/nvme1n1",
        ),
        (
            vec!["1.DeviceName=/dev/sdf", "1.VirtualName=swap"],
            "InvalidParameterValue",
            "Value (swap) for parameter BlockDeviceMapping.1.VirtualName",
        ),
        (
            vec!["1.DeviceName=/dev/sdf", "1.Ebs.VolumeSize=3", "1.Ebs.Iops=3000"],
            "InvalidParameterCombination",
            "The parameter iops is not supported for gp2 volumes.",
        ),
        (
            vec!["1.DeviceName=/dev/sdf", "1.Ebs.VolumeSize=99999"],
            "InvalidParameterValue",
            "BlockDeviceMapping.1.Ebs.VolumeSize",
        ),
        (
            vec!["1.DeviceName=/dev/xvda", &of_snapshot],
            "UnsupportedOperation",
            "A root disk of another snapshot than its image's is not supported.",
        ),
        (
            vec!["1.DeviceName=/dev/xvda", "1.NoDevice="],
            "UnsupportedOperation",
            "An instance without its root disk is not supported.",
        ),
    ] {
        let (found, text) = run(&members).await;
        assert_eq!(found, code, "{members:?}: {text}");
        assert!(text.contains(message), "{members:?}: {text}");
    }
    assert!(!world.ask("Action=DescribeInstances").await.contains("instanceId"));
}
