//! Encryption at rest as clients see it: what is encrypted by what they ask for, by what their account wants and by what
//! it is made of; EC2's codes and texts where it can't be; and that all that is of one line has one data key.

mod anew;
mod life;

use super::*;

const VOLUME: &str = "Action=CreateVolume&AvailabilityZone=us-east-1a";

impl World {
    /// The id of what an answer has made.
    async fn made(&self, body: &str, element: &str) -> String {
        one(&self.ask(body).await, element)
    }

    /// A snapshot of a volume, complete.
    async fn snapshot_of(&self, volume: &str) -> String {
        let body = format!("Action=CreateSnapshot&VolumeId={volume}");
        let id = self.made(&body, "snapshotId").await;
        self.complete(&id).await;
        id
    }

    /// A snapshot of a volume that is encrypted, or is not.
    async fn snapshot(&self, encrypted: bool) -> String {
        let body = format!("{VOLUME}&Size=1&Encrypted={encrypted}");
        let volume = self.made(&body, "volumeId").await;
        self.snapshot_of(&volume).await
    }

    /// An image with a root of a snapshot.
    async fn image_of(&self, name: &str, snapshot: &str) -> String {
        let body = format!(
            "Action=RegisterImage&Name={name}&{}&{}",
            root(),
            ebs(1, "SnapshotId", snapshot)
        );
        self.made(&body, "imageId").await
    }

    async fn refusal(&self, body: &str) -> (String, String) {
        match self.try_as(&self.who, body).await {
            Ok(xml) => panic!("{body}: {xml}"),
            Err(answer) => (answer.code.into_owned(), answer.message),
        }
    }

    async fn want_encryption(&self, on: bool) {
        let verb = if on { "Enable" } else { "Disable" };
        self.ask(&format!("Action={verb}EbsEncryptionByDefault")).await;
    }
}

fn root() -> &'static str {
    "RootDeviceName=/dev/xvda&BlockDeviceMapping.1.DeviceName=/dev/xvda"
}

fn ebs(n: usize, member: &str, value: &str) -> String {
    format!("BlockDeviceMapping.{n}.Ebs.{member}={value}")
}

/// `&Encrypted=…`, where something is asked for.
fn asked(prefix: &str, encrypted: Option<bool>) -> String {
    encrypted.map_or_else(String::new, |on| format!("&{prefix}Encrypted={on}"))
}

#[tokio::test]
async fn what_is_encrypted_by_what_is_asked_wanted_and_there() {
    let world = World::new().await;
    let snapshots = [world.snapshot(false).await, world.snapshot(true).await];
    let image = world.image_of("plain", &snapshots[0]).await;
    for wanted in [false, true] {
        world.want_encryption(wanted).await;
        for source in [None, Some(false), Some(true)] {
            let of = source.map(|encrypted| snapshots[usize::from(encrypted)].as_str());
            for encrypted in [None, Some(false), Some(true)] {
                let case = format!("{wanted} {source:?} {encrypted:?}");
                let made_of = of.map_or_else(String::new, |id| format!("&SnapshotId={id}"));
                let body = format!("{VOLUME}&Size=1{made_of}{}", asked("", encrypted));
                let made_of = of.map_or_else(String::new, |id| format!("&{}", ebs(1, "SnapshotId", id)));
                let disk = format!(
                    "&BlockDeviceMapping.1.DeviceName=/dev/sdf&{}{made_of}{}",
                    ebs(1, "VolumeSize", "1"),
                    asked("BlockDeviceMapping.1.Ebs.", encrypted)
                );
                let launch = format!("Action=RunInstances&ImageId={image}&MinCount=1&MaxCount=1{disk}");
                if (source, encrypted) == (Some(true), Some(false)) {
                    assert_eq!(
                        world.refused(&body).await,
                        "InvalidParameterCombination",
                        "{case}"
                    );
                    assert_eq!(
                        world.refused(&launch).await,
                        "InvalidBlockDeviceMapping",
                        "{case}"
                    );
                    continue;
                }
                let expected = wanted || source == Some(true) || encrypted == Some(true);
                let xml = world.ask(&body).await;
                assert_eq!(one(&xml, "encrypted"), expected.to_string(), "{case}");
                assert_eq!(xml.contains("<kmsKeyId>arn:aws:kms:"), expected, "{case}");
                // The root is of a plain snapshot, and nothing is asked for it.
                let instance = world.made(&launch, "instanceId").await;
                assert_eq!(
                    world.encrypted_of(&instance, "/dev/sdf").await,
                    expected,
                    "{case}"
                );
                assert_eq!(world.encrypted_of(&instance, "/dev/xvda").await, wanted, "{case}");
            }
        }
    }
}

impl World {
    /// The answer's part about the volume of an instance's device.
    async fn disk_of(&self, instance: &str, device: &str) -> String {
        let filters = format!(
            "Filter.1.Name=attachment.instance-id&Filter.1.Value.1={instance}&Filter.2.Name=attachment.device&\
             Filter.2.Value.1={device}"
        );
        self.ask(&format!("Action=DescribeVolumes&{filters}")).await
    }

    async fn encrypted_of(&self, instance: &str, device: &str) -> bool {
        one(&self.disk_of(instance, device).await, "encrypted") == "true"
    }
}

#[tokio::test]
async fn a_root_is_encrypted_by_the_same() {
    let world = World::new().await;
    let encrypted = world.image_of("encrypted", &world.snapshot(true).await).await;
    let plain = world.image_of("plain", &world.snapshot(false).await).await;
    for wanted in [false, true] {
        world.want_encryption(wanted).await;
        for (image, is) in [(&encrypted, true), (&plain, false), (&world.image, false)] {
            for ask in [None, Some(false), Some(true)] {
                let root = format!(
                    "&BlockDeviceMapping.1.DeviceName=/dev/xvda&{}{}",
                    ebs(1, "DeleteOnTermination", "true"),
                    asked("BlockDeviceMapping.1.Ebs.", ask)
                );
                let launch = format!("Action=RunInstances&ImageId={image}&MinCount=1&MaxCount=1{root}");
                if is && ask == Some(false) {
                    let text = "If specified, the encrypted flag must be true since device /dev/xvda has an encrypted \
                                snapshot specified.";
                    let refused = ("InvalidBlockDeviceMapping".to_owned(), text.to_owned());
                    assert_eq!(world.refusal(&launch).await, refused);
                    continue;
                }
                let instance = world.made(&launch, "instanceId").await;
                let expected = wanted || is || ask == Some(true);
                let found = world.encrypted_of(&instance, "/dev/xvda").await;
                assert_eq!(found, expected, "{wanted} {is} {ask:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_copy_is_encrypted_where_its_source_is_or_it_is_wanted() {
    let world = World::new().await;
    let snapshots = [world.snapshot(false).await, world.snapshot(true).await];
    let images = [
        world.image_of("plain", &snapshots[0]).await,
        world.image_of("encrypted", &snapshots[1]).await,
    ];
    let mut count = 0;
    for wanted in [false, true] {
        world.want_encryption(wanted).await;
        for source in [false, true] {
            for encrypted in [None, Some(false), Some(true)] {
                let more = asked("", encrypted);
                let at = usize::from(source);
                count += 1;
                let bodies = [
                    format!(
                        "Action=CopySnapshot&SourceRegion=us-east-1&SourceSnapshotId={}{more}",
                        snapshots[at]
                    ),
                    format!(
                        "Action=CopyImage&SourceRegion=us-east-1&Name=of{count}&SourceImageId={}{more}",
                        images[at]
                    ),
                ];
                for body in bodies {
                    if (source, encrypted) == (true, Some(false)) {
                        let code = world.refused(&body).await;
                        assert_eq!(code, "InvalidParameterValue", "{body} {wanted}");
                        continue;
                    }
                    world.ask(&body).await;
                }
                // A file is not encrypted.
                let file = format!(
                    "Action=CopyImage&SourceRegion=us-east-1&Name=file{count}&SourceImageId={{image}}"
                );
                if !source && (wanted || encrypted == Some(true)) {
                    let code = world.refused(&format!("{file}{more}")).await;
                    assert_eq!(code, "UnsupportedOperation");
                }
            }
        }
    }
    let filter = "Filter.1.Name=encrypted&Filter.1.Value.1";
    let of = async |value| {
        all(
            &world
                .ask(&format!("Action=DescribeSnapshots&{filter}={value}"))
                .await,
            "encrypted",
        )
    };
    // Those of the scene, and with each kind of copy one of the snapshot and one of the image.
    assert_eq!(of("false").await, vec!["false"; 1 + 2 * 2]);
    assert_eq!(of("true").await, vec!["true"; 1 + 2 * 8]);
    let named = "Filter.1.Name=block-device-mapping.encrypted&Filter.1.Value.1=true";
    let found = world.ask(&format!("Action=DescribeImages&{named}")).await;
    assert_eq!(all(&found, "imageId").len(), 1 + 8);
}

#[tokio::test]
async fn the_account_has_one_key_and_says_what_it_wants() {
    let world = World::new().await;
    let default = world.made("Action=GetEbsDefaultKmsKeyId", "kmsKeyId").await;
    let account = world.who.account;
    let prefix = format!("arn:aws:kms:us-east-1:{account}:");
    let id = default.strip_prefix(&format!("{prefix}key/")).unwrap();
    assert_eq!(id.len(), 36, "{id}");
    assert_eq!(
        world.made("Action=ResetEbsDefaultKmsKeyId", "kmsKeyId").await,
        default
    );
    for spelling in ["alias/aws/ebs", &format!("{prefix}alias/aws/ebs"), id, &default] {
        let modify = format!("Action=ModifyEbsDefaultKmsKeyId&KmsKeyId={spelling}");
        assert_eq!(world.made(&modify, "kmsKeyId").await, default);
        let volume = format!("{VOLUME}&Size=1&Encrypted=true&KmsKeyId={spelling}");
        assert_eq!(world.made(&volume, "kmsKeyId").await, default);
    }
    for (on, sse) in [(true, "sse-kms"), (false, "none")] {
        world.want_encryption(on).await;
        let xml = world.ask("Action=GetEbsEncryptionByDefault").await;
        assert_eq!(one(&xml, "ebsEncryptionByDefault"), on.to_string());
        assert_eq!(one(&xml, "sseType"), sse);
    }
    // What another account wants is its own affair.
    world.want_encryption(true).await;
    let zones = ["us-east-1a".to_owned()];
    let other = accounts::create_account(&world.cloud.parts(), "other", &zones)
        .await
        .unwrap();
    let them = Principal {
        account: other.id.0,
        ..world.stranger()
    };
    let theirs = world.try_as(&them, &format!("{VOLUME}&Size=1")).await.unwrap();
    assert_eq!(one(&theirs, "encrypted"), "false");
    let key = world.try_as(&them, "Action=GetEbsDefaultKmsKeyId").await.unwrap();
    assert_ne!(one(&key, "kmsKeyId"), default);
}

#[tokio::test]
async fn what_can_not_be_is_refused_in_ec2s_words() {
    let world = World::new().await;
    let (plain, encrypted) = (world.snapshot(false).await, world.snapshot(true).await);
    let image = world.image_of("encrypted", &encrypted).await;
    let key = world.made("Action=GetEbsDefaultKmsKeyId", "kmsKeyId").await;
    let only = |value: &str, name: &str| {
        format!(
            "Value ({value}) for parameter {name} is invalid. The account's only key is alias/aws/ebs, which is {key}."
        )
    };
    let needs = "The parameter KmsKeyId requires the parameter Encrypted to be set.".to_owned();
    let disk = format!(
        "BlockDeviceMapping.1.DeviceName=/dev/sdf&{}",
        ebs(1, "VolumeSize", "1")
    );
    let run = format!("Action=RunInstances&ImageId={{image}}&MinCount=1&MaxCount=1&{disk}");
    let copy = format!("Action=CopySnapshot&SourceRegion=us-east-1&SourceSnapshotId={encrypted}");
    let of_snapshot = "Parameter encrypted is invalid. You cannot specify the encrypted flag if specifying a snapshot id in \
                       a block device mapping.";
    let file = "An encrypted copy of an image that is a file (instead, RunInstances with Encrypted makes an encrypted root \
                of it) is not supported.";
    let share = format!("Action=ModifySnapshotAttribute&SnapshotId={encrypted}&CreateVolumePermission.Add.1");
    let launch = format!("Action=ModifyImageAttribute&ImageId={image}&LaunchPermission.Add.1");
    let shared = "Encrypted snapshots with EBS default key cannot be shared";
    let managed = "Snapshots encrypted with the AWS Managed CMK can't be shared. Specify another snapshot.";
    let nameless = only("alias/mine", "KmsKeyId");
    let other = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab";
    let register = |snapshot: &str, encrypted: bool| {
        let of = ebs(1, "SnapshotId", snapshot);
        format!(
            "Action=RegisterImage&Name=other&{}&{of}{}",
            root(),
            asked("BlockDeviceMapping.1.Ebs.", Some(encrypted))
        )
    };
    for (body, code, text) in [
        (
            format!("{VOLUME}&Size=1&KmsKeyId=alias/aws/ebs"),
            "InvalidParameterDependency",
            needs.clone(),
        ),
        (
            format!("{VOLUME}&Size=1&Encrypted=false&KmsKeyId=alias/mine"),
            "InvalidParameterDependency",
            needs.clone(),
        ),
        (
            format!("{run}&{}", ebs(1, "KmsKeyId", "alias/aws/ebs")),
            "InvalidParameterDependency",
            needs.clone(),
        ),
        (
            format!("{copy}&KmsKeyId=alias/aws/ebs"),
            "InvalidParameterDependency",
            needs,
        ),
        (
            format!("{VOLUME}&Size=1&Encrypted=true&KmsKeyId=alias/mine"),
            "InvalidParameterValue",
            nameless.clone(),
        ),
        (
            format!("{copy}&Encrypted=true&KmsKeyId=alias/mine"),
            "InvalidParameterValue",
            nameless.clone(),
        ),
        (
            "Action=ModifyEbsDefaultKmsKeyId&KmsKeyId=alias/mine".into(),
            "InvalidParameterValue",
            nameless,
        ),
        (
            format!(
                "{run}&{}&{}",
                ebs(1, "Encrypted", "true"),
                ebs(1, "KmsKeyId", other)
            ),
            "InvalidParameterValue",
            only(other, "BlockDeviceMapping.1.Ebs.KmsKeyId"),
        ),
        (
            format!("{VOLUME}&SnapshotId={encrypted}&Encrypted=false"),
            "InvalidParameterCombination",
            format!("The parameter Encrypted can't be false where the snapshot '{encrypted}' is encrypted."),
        ),
        (
            "Action=CopyImage&SourceRegion=us-east-1&Name=copy&SourceImageId={image}&Encrypted=true".into(),
            "UnsupportedOperation",
            file.into(),
        ),
        (register(&plain, true), "InvalidParameter", of_snapshot.into()),
        (register(&encrypted, true), "InvalidParameter", of_snapshot.into()),
        (
            register(&encrypted, false),
            "InvalidParameter",
            of_snapshot.into(),
        ),
        (
            format!("{share}.Group=all"),
            "OperationNotPermitted",
            shared.into(),
        ),
        (
            format!("{share}.UserId=123456789012"),
            "OperationNotPermitted",
            shared.into(),
        ),
        (format!("{launch}.Group=all"), "InvalidParameter", managed.into()),
        (
            format!("{launch}.UserId=123456789012"),
            "InvalidParameter",
            managed.into(),
        ),
    ] {
        assert_eq!(world.refusal(&body).await, (code.to_owned(), text), "{body}");
    }
    // What takes away is fine.
    world
        .ask(
            &share
                .replace(".Add.", ".Remove.")
                .replace("Permission.Remove.1", "Permission.Remove.1.Group=all"),
        )
        .await;
    world
        .ask(&format!("{}.Group=all", launch.replace(".Add.", ".Remove.")))
        .await;
}

#[tokio::test]
async fn an_image_says_of_each_disk_whether_it_is_encrypted() {
    let world = World::new().await;
    let (plain, encrypted) = (world.snapshot(false).await, world.snapshot(true).await);
    let disks = [
        (
            2,
            "/dev/sdf",
            "VolumeSize=1&BlockDeviceMapping.2.Ebs.Encrypted=true",
        ),
        (
            3,
            "/dev/sdg",
            "VolumeSize=1&BlockDeviceMapping.3.Ebs.Encrypted=false",
        ),
        (4, "/dev/sdh", "VolumeSize=1"),
        (5, "/dev/sdi", &format!("SnapshotId={plain}")),
    ];
    let disks = disks.map(|(n, device, members)| {
        format!("&BlockDeviceMapping.{n}.DeviceName={device}&BlockDeviceMapping.{n}.Ebs.{members}")
    });
    let of_root = ebs(1, "SnapshotId", &encrypted);
    let register = format!(
        "Action=RegisterImage&Name=many&{}&{of_root}{}",
        root(),
        disks.concat()
    );
    let image = world.made(&register, "imageId").await;
    let shown = world
        .ask(&format!("Action=DescribeImages&ImageId.1={image}"))
        .await;
    assert_eq!(
        all(&shown, "encrypted"),
        ["true", "true", "false", "false", "false"]
    );
    let attribute = format!("Action=DescribeImageAttribute&ImageId={image}&Attribute=blockDeviceMapping");
    assert!(!world.ask(&attribute).await.contains("encrypted"));
    let launch = format!("Action=RunInstances&ImageId={image}&MinCount=1&MaxCount=1");
    for (wanted, expected) in [(false, [true, true, false, false, false]), (true, [true; 5])] {
        world.want_encryption(wanted).await;
        let instance = world.made(&launch, "instanceId").await;
        for (device, expected) in ["/dev/xvda", "/dev/sdf", "/dev/sdg", "/dev/sdh", "/dev/sdi"]
            .iter()
            .zip(expected)
        {
            assert_eq!(
                world.encrypted_of(&instance, device).await,
                expected,
                "{device} {wanted}"
            );
        }
    }
}

#[tokio::test]
async fn an_image_of_an_instance_is_as_encrypted_as_its_volumes() {
    let world = World::new().await;
    let disks = "BlockDeviceMapping.1.DeviceName=/dev/sdf&BlockDeviceMapping.1.Ebs.VolumeSize=1&\
                 BlockDeviceMapping.1.Ebs.Encrypted=true";
    let launch = format!("Action=RunInstances&ImageId={{image}}&MinCount=1&MaxCount=1&{disks}");
    let instance = world.made(&launch, "instanceId").await;
    world.settle(&instance, "stopped").await;
    let create = format!("Action=CreateImage&InstanceId={instance}");
    let root = format!(
        "BlockDeviceMapping.1.DeviceName=/dev/xvda&{}",
        ebs(1, "Encrypted", "true")
    );
    let refused = (
        "InvalidBlockDeviceMapping".to_owned(),
        "The device /dev/xvda has a volume that is not encrypted, and neither is its snapshot".to_owned(),
    );
    assert_eq!(
        world.refusal(&format!("{create}&Name=refused&{root}")).await,
        refused
    );
    // What can't be undone is not, as on EC2; and a disk that the instance has not is what is said of it.
    let more = format!(
        "BlockDeviceMapping.1.DeviceName=/dev/sdf&{}&BlockDeviceMapping.2.DeviceName=/dev/sdg&{}&{}",
        ebs(1, "Encrypted", "false"),
        ebs(2, "VolumeSize", "1"),
        ebs(2, "Encrypted", "true")
    );
    let image = world.made(&format!("{create}&Name=made&{more}"), "imageId").await;
    let shown = world
        .ask(&format!("Action=DescribeImages&ImageId.1={image}"))
        .await;
    assert_eq!(all(&shown, "encrypted"), ["false", "true", "true"]);
    let snapshots = world.ask("Action=DescribeSnapshots&Owner.1=self").await;
    let mut found = all(&snapshots, "encrypted");
    found.sort();
    assert_eq!(found, ["false", "true"]);
}
