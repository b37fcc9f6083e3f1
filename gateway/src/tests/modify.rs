//! No modification says that it is done without having done it: what is accepted is shown afterwards, or was so
//! before; all else is refused. Every operation that modifies is in one of the tables here with each of its members, by
//! the manifest and the model.

use std::collections::{BTreeMap, BTreeSet};

use cumulet_wire::OperationInfo;
use serde_json::Value;

use super::{examples::SERVICES, *};

/// What an attribute shows afterwards, or the code of the refusal.
type Outcome = Result<(&'static str, &'static str), &'static str>;

/// Each attribute of ModifyInstanceAttribute, of an instance that is not stopped: what is asked, and what
/// DescribeInstanceAttribute shows then, or the code.
const ATTRIBUTES: &[(&str, Outcome)] = &[
    (
        "DisableApiStop.Value=true",
        Ok(("disableApiStop", "<value>true</value>")),
    ),
    (
        "DisableApiTermination.Value=true",
        Ok(("disableApiTermination", "<value>true</value>")),
    ),
    (
        "Attribute=disableApiTermination&Value=false",
        Ok(("disableApiTermination", "<value>false</value>")),
    ),
    (
        "InstanceInitiatedShutdownBehavior.Value=terminate",
        Ok(("instanceInitiatedShutdownBehavior", "<value>terminate</value>")),
    ),
    (
        "InstanceInitiatedShutdownBehavior.Value=explode",
        Err("InvalidParameterValue"),
    ),
    (
        "GroupId.1={group}",
        Ok(("groupSet", "<groupName>web</groupName>")),
    ),
    (
        "Attribute=groupSet&Value={group}",
        Ok(("groupSet", "<groupName>web</groupName>")),
    ),
    (
        "SourceDestCheck.Value=true",
        Ok(("sourceDestCheck", "<value>true</value>")),
    ),
    ("SourceDestCheck.Value=false", Err("UnsupportedOperation")),
    (
        "EbsOptimized.Value=false",
        Ok(("ebsOptimized", "<value>false</value>")),
    ),
    ("EbsOptimized.Value=true", Err("UnsupportedOperation")),
    ("EnaSupport.Value=true", Ok(("enaSupport", "<value>true</value>"))),
    ("EnaSupport.Value=false", Err("UnsupportedOperation")),
    ("EnclaveOptions.Enabled=true", Err("UnsupportedOperation")),
    ("SriovNetSupport.Value=other", Err("UnsupportedOperation")),
    ("Kernel.Value=aki-1a2b3c4d", Err("UnsupportedOperation")),
    ("Ramdisk.Value=ari-1a2b3c4d", Err("UnsupportedOperation")),
    ("InstanceType.Value=t3.small", Err("IncorrectInstanceState")),
    ("UserData.Value=aGk=", Err("IncorrectInstanceState")),
    ("UserData.Value=", Err("IncorrectInstanceState")),
    (
        "BlockDeviceMapping.1.DeviceName=/dev/xvda",
        Ok((
            "blockDeviceMapping",
            "<deleteOnTermination>true</deleteOnTermination>",
        )),
    ),
    (
        "BlockDeviceMapping.1.DeviceName=/dev/xvda&BlockDeviceMapping.1.Ebs.DeleteOnTermination=false",
        // A root that nobody has made yet is not there to be kept.
        Err("IncorrectInstanceState"),
    ),
    (
        "BlockDeviceMapping.1.DeviceName=/dev/sdz&BlockDeviceMapping.1.Ebs.DeleteOnTermination=true",
        Err("InvalidInstanceAttributeValue"),
    ),
    (
        "BlockDeviceMapping.1.DeviceName=/dev/sdz&BlockDeviceMapping.1.Ebs.DeleteOnTermination=false",
        Err("InvalidInstanceAttributeValue"),
    ),
    (
        "BlockDeviceMapping.1.DeviceName=/dev/xvda&BlockDeviceMapping.1.Ebs.VolumeId=vol-1a2b3c4d",
        Err("InvalidInstanceAttributeValue"),
    ),
    (
        "BlockDeviceMapping.1.Ebs.DeleteOnTermination=true",
        Err("MissingParameter"),
    ),
    (
        "BlockDeviceMapping.1.DeviceName=/dev/xvda&BlockDeviceMapping.1.NoDevice=",
        Err("UnsupportedOperation"),
    ),
    (
        "BlockDeviceMapping.1.DeviceName=/dev/xvda&BlockDeviceMapping.1.VirtualName=ephemeral0",
        Err("UnsupportedOperation"),
    ),
    (
        "DisableApiStop.Value=true&DisableApiTermination.Value=true",
        Err("InvalidParameterCombination"),
    ),
    (
        "DisableApiStop.Value=true&Value=false",
        Err("InvalidParameterDependency"),
    ),
    ("Attribute=userData", Err("MissingParameter")),
    ("Attribute=mood&Value=good", Err("InvalidParameterValue")),
    ("Attribute=kernel&Value=aki-1a2b3c4d", Err("UnsupportedOperation")),
    ("DryRun=false", Err("InvalidParameterCombination")),
];

#[tokio::test]
async fn an_attribute_is_changed_or_refused() {
    let world = World::new().await;
    let group = one(
        &world
            .ask("Action=CreateSecurityGroup&GroupName=web&GroupDescription=x")
            .await,
        "groupId",
    );
    for (asked, expected) in ATTRIBUTES {
        let id = world.run(1, "").await.remove(0);
        let asked = asked.replace("{group}", &group);
        let call = format!("Action=ModifyInstanceAttribute&InstanceId={id}&{asked}");
        match expected {
            Ok((attribute, shown)) => {
                world.ask(&call).await;
                let describe =
                    format!("Action=DescribeInstanceAttribute&InstanceId={id}&Attribute={attribute}");
                let xml = world.ask(&describe).await;
                assert!(xml.contains(shown), "{asked}: {xml}");
            }
            Err(code) => {
                let before = world.ask("Action=DescribeInstances").await;
                assert_eq!(world.refused(&call).await, *code, "{asked}");
                assert_eq!(world.ask("Action=DescribeInstances").await, before, "{asked}");
            }
        }
        // Nor of an instance that is not there.
        let nobody = call.replace(&id, "i-1234567890abcdef0");
        let code = world.refused(&nobody).await;
        assert!(
            expected.is_err() || code == "InvalidInstanceID.NotFound",
            "{asked}: {code}"
        );
    }
}

/// Each option of ModifyInstanceMetadataOptions: what is asked, and what its answer and DescribeInstances show then, or the
/// code.
const OPTIONS: &[(&str, Result<&str, &str>)] = &[
    ("HttpTokens=required", Ok("<httpTokens>required</httpTokens>")),
    (
        "HttpPutResponseHopLimit=7",
        Ok("<httpPutResponseHopLimit>7</httpPutResponseHopLimit>"),
    ),
    (
        "HttpEndpoint=disabled",
        Ok("<httpEndpoint>disabled</httpEndpoint>"),
    ),
    (
        "InstanceMetadataTags=enabled",
        Ok("<instanceMetadataTags>enabled</instanceMetadataTags>"),
    ),
    ("HttpTokens=maybe", Err("InvalidParameterValue")),
    ("HttpPutResponseHopLimit=65", Err("InvalidParameterValue")),
    ("HttpEndpoint=Disabled", Err("InvalidParameterValue")),
    ("InstanceMetadataTags=on", Err("InvalidParameterValue")),
    ("HttpProtocolIpv6=enabled", Err("UnsupportedOperation")),
    ("DryRun=false", Err("MissingParameter")),
];

#[tokio::test]
async fn a_metadata_option_is_changed_or_refused() {
    let world = World::new().await;
    for (asked, expected) in OPTIONS {
        let id = world.run(1, "").await.remove(0);
        let call = format!("Action=ModifyInstanceMetadataOptions&InstanceId={id}&{asked}");
        match expected {
            Ok(shown) => {
                let answer = world.ask(&call).await;
                let described = format!("Action=DescribeInstances&InstanceId.1={id}");
                let described = world.ask(&described).await;
                assert!(
                    answer.contains(*shown) && described.contains(*shown),
                    "{asked}: {described}"
                );
            }
            Err(code) => assert_eq!(world.refused(&call).await, *code, "{asked}"),
        }
    }
    // What a launch says nothing about is by EC2's documents.
    let xml = world
        .ask("Action=RunInstances&ImageId={image}&MinCount=1&MaxCount=1")
        .await;
    for default in [
        "<instanceType>m1.small</instanceType>",
        "<httpTokens>optional</httpTokens>",
        "<httpPutResponseHopLimit>1</httpPutResponseHopLimit>",
        "<httpEndpoint>enabled</httpEndpoint>",
        "<instanceMetadataTags>disabled</instanceMetadataTags>",
    ] {
        assert!(xml.contains(default), "{default}: {xml}");
    }
}

/// What a call comes to.
enum Comes {
    /// It is done: this question shows this text afterwards, and did not before.
    Shown(&'static str, &'static str),
    /// It is done: this question shows this text no more, and did before.
    Gone(&'static str, &'static str),
    /// It is done, and all is as it was: it was so.
    Same,
    /// It is refused with this code and a sentence that names this, and all is as it was.
    Refused(&'static str, &'static str),
}

use Comes::{Gone, Refused, Same, Shown};

/// What is asked of an operation, of something new; and what was asked first.
struct Case {
    first: &'static str,
    asked: &'static str,
    comes: Comes,
}

const fn case(asked: &'static str, comes: Comes) -> Case {
    after("", asked, comes)
}

const fn after(first: &'static str, asked: &'static str, comes: Comes) -> Case {
    Case { first, asked, comes }
}

const IMAGE: &str = "Action=DescribeImages&ImageId.1={image}&IncludeDisabled=true";
const DESCRIPTION: &str = "Action=DescribeImageAttribute&ImageId={image}&Attribute=description";
const IMDS: &str = "Action=DescribeImageAttribute&ImageId={image}&Attribute=imdsSupport";
const LAUNCHERS: &str = "Action=DescribeImageAttribute&ImageId={image}&Attribute=launchPermission";
const PROTECTION: &str = "Action=DescribeImageAttribute&ImageId={image}&Attribute=deregistrationProtection";
const SNAPSHOT: &str = "Action=DescribeSnapshots&SnapshotId.1={snapshot}";
const GRANTEES: &str =
    "Action=DescribeSnapshotAttribute&SnapshotId={snapshot}&Attribute=createVolumePermission";
const VOLUME: &str = "Action=DescribeVolumes&VolumeId.1={volume}";
const AUTO_IO: &str = "Action=DescribeVolumeAttribute&VolumeId={volume}&Attribute=autoEnableIO";
const STATUS: &str = "Action=DescribeVolumeStatus&VolumeId.1={volume}";
const MODIFIED: &str = "Action=DescribeVolumesModifications&VolumeId.1={volume}";
const BY_DEFAULT: &str = "Action=GetEbsEncryptionByDefault";
const KEY: &str = "Action=GetEbsDefaultKmsKeyId";

/// Everything that can be shown of what the operations below modify.
const QUESTIONS: [&str; 13] = [
    IMAGE,
    DESCRIPTION,
    IMDS,
    LAUNCHERS,
    PROTECTION,
    SNAPSHOT,
    GRANTEES,
    VOLUME,
    AUTO_IO,
    STATUS,
    MODIFIED,
    BY_DEFAULT,
    KEY,
];

const USER: &str = "<userId>123456789012</userId>";
const ALL: &str = "<group>all</group>";

/// An operation, what it is about, and its cases.
type Modifying = (&'static str, &'static str, &'static [Case]);

/// The operations that modify, beside the two above.
const TABLE: &[Modifying] = &[
    (
        "ModifyImageAttribute",
        "ImageId={image}",
        &[
            case(
                "Description.Value=words",
                Shown(DESCRIPTION, "<value>words</value>"),
            ),
            case(
                "Attribute=description&Value=words",
                Shown(DESCRIPTION, "<value>words</value>"),
            ),
            case(
                "Attribute=description&Value=",
                Gone(DESCRIPTION, "<value>a tiny guest</value>"),
            ),
            case("ImdsSupport.Value=v2.0", Shown(IMDS, "<value>v2.0</value>")),
            case(
                "Attribute=imdsSupport&Value=v2.0",
                Shown(IMDS, "<value>v2.0</value>"),
            ),
            case(
                "ImdsSupport.Value=v1.0",
                Refused("InvalidParameterValue", "ImdsSupport"),
            ),
            case(
                "LaunchPermission.Add.1.UserId=123456789012",
                Shown(LAUNCHERS, USER),
            ),
            case("LaunchPermission.Add.1.Group=all", Shown(LAUNCHERS, ALL)),
            after(
                "Action=ModifyImageAttribute&ImageId={image}&LaunchPermission.Add.1.UserId=123456789012",
                "LaunchPermission.Remove.1.UserId=123456789012",
                Gone(LAUNCHERS, USER),
            ),
            after(
                "Action=ModifyImageAttribute&ImageId={image}&LaunchPermission.Add.1.Group=all",
                "LaunchPermission.Remove.1.Group=all",
                Gone(LAUNCHERS, ALL),
            ),
            case(
                "Attribute=launchPermission&OperationType=add&UserId.1=123456789012",
                Shown(LAUNCHERS, USER),
            ),
            case(
                "Attribute=launchPermission&OperationType=add&UserGroup.1=all",
                Shown(LAUNCHERS, ALL),
            ),
            after(
                "Action=ModifyImageAttribute&ImageId={image}&LaunchPermission.Add.1.Group=all",
                "OperationType=remove&UserGroup.1=all",
                Gone(LAUNCHERS, ALL),
            ),
            case(
                "OperationType=add&LaunchPermission.Add.1.Group=all",
                Shown(LAUNCHERS, ALL),
            ),
            case(
                "OperationType=remove&LaunchPermission.Add.1.Group=all",
                Refused("InvalidParameterCombination", "OperationType"),
            ),
            case(
                "Description.Value=words&OperationType=add",
                Refused("MissingParameter", "UserId"),
            ),
            case(
                "UserId.1=123456789012",
                Refused("MissingParameter", "OperationType"),
            ),
            case(
                "Description.Value=words&Value=others",
                Refused("InvalidParameterDependency", "Value"),
            ),
            case(
                "Attribute=launchPermission&Description.Value=words",
                Refused("MissingParameter", "LaunchPermission"),
            ),
            case(
                "Attribute=launchPermission&LaunchPermission.Add.1.Group=all&Value=words",
                Refused("InvalidParameterCombination", "Value"),
            ),
            case(
                "Description.Value=words&ImdsSupport.Value=v2.0",
                Refused("InvalidParameterCombination", "multiple attribute types"),
            ),
            case(
                "Attribute=colour&Value=red",
                Refused("InvalidParameterValue", "Attribute"),
            ),
            case("", Refused("InvalidParameterCombination", "No attributes")),
        ],
    ),
    (
        "ResetImageAttribute",
        "ImageId={image}",
        &[
            after(
                "Action=ModifyImageAttribute&ImageId={image}&LaunchPermission.Add.1.Group=all",
                "Attribute=launchPermission",
                Gone(LAUNCHERS, ALL),
            ),
            case(
                "Attribute=description",
                Refused("InvalidParameterValue", "Attribute"),
            ),
        ],
    ),
    (
        "DisableImage",
        "ImageId={image}",
        &[case("", Shown(IMAGE, "<imageState>disabled</imageState>"))],
    ),
    (
        "EnableImage",
        "ImageId={image}",
        &[after(
            "Action=DisableImage&ImageId={image}",
            "",
            Shown(IMAGE, "<imageState>available</imageState>"),
        )],
    ),
    (
        "EnableImageDeprecation",
        "ImageId={image}",
        &[
            case(
                "DeprecateAt=2027-11-21T00:00:00Z",
                Shown(IMAGE, "<deprecationTime>2027-11-21T00:00:00"),
            ),
            case(
                "DeprecateAt=2020-01-01T00:00:00Z",
                Refused("InvalidParameterValue", "DeprecateAt"),
            ),
        ],
    ),
    (
        "DisableImageDeprecation",
        "ImageId={image}",
        &[after(
            "Action=EnableImageDeprecation&ImageId={image}&DeprecateAt=2027-11-21T00:00:00Z",
            "",
            Gone(IMAGE, "<deprecationTime>"),
        )],
    ),
    (
        "EnableImageDeregistrationProtection",
        "ImageId={image}",
        &[
            case("", Shown(PROTECTION, "<value>enabled-without-cooldown</value>")),
            case(
                "WithCooldown=false",
                Shown(PROTECTION, "<value>enabled-without-cooldown</value>"),
            ),
            case(
                "WithCooldown=true",
                Shown(PROTECTION, "<value>enabled-with-cooldown</value>"),
            ),
        ],
    ),
    (
        "DisableImageDeregistrationProtection",
        "ImageId={image}",
        &[after(
            "Action=EnableImageDeregistrationProtection&ImageId={image}",
            "",
            Shown(PROTECTION, "<value>disabled</value>"),
        )],
    ),
    (
        "ModifySnapshotAttribute",
        "SnapshotId={snapshot}",
        &[
            case(
                "CreateVolumePermission.Add.1.UserId=123456789012",
                Shown(GRANTEES, USER),
            ),
            case("CreateVolumePermission.Add.1.Group=all", Shown(GRANTEES, ALL)),
            after(
                "Action=ModifySnapshotAttribute&SnapshotId={snapshot}&OperationType=add&UserId.1=123456789012",
                "CreateVolumePermission.Remove.1.UserId=123456789012",
                Gone(GRANTEES, USER),
            ),
            after(
                "Action=ModifySnapshotAttribute&SnapshotId={snapshot}&OperationType=add&UserGroup.1=all",
                "CreateVolumePermission.Remove.1.Group=all",
                Gone(GRANTEES, ALL),
            ),
            case(
                "Attribute=createVolumePermission&OperationType=add&UserId.1=123456789012",
                Shown(GRANTEES, USER),
            ),
            case("OperationType=add&UserGroup.1=all", Shown(GRANTEES, ALL)),
            case(
                "OperationType=add&CreateVolumePermission.Add.1.Group=all",
                Shown(GRANTEES, ALL),
            ),
            case(
                "OperationType=add&CreateVolumePermission.Remove.1.Group=all",
                Refused("InvalidParameterCombination", "OperationType"),
            ),
            case(
                "OperationType=set&UserGroup.1=all",
                Refused("InvalidParameterValue", "OperationType"),
            ),
            case("UserGroup.1=all", Refused("MissingParameter", "OperationType")),
            case("OperationType=add", Refused("MissingParameter", "UserId")),
            case(
                "Attribute=productCodes&CreateVolumePermission.Add.1.Group=all",
                Refused("InvalidParameterValue", "Attribute"),
            ),
            case("", Refused("MissingParameter", "CreateVolumePermission")),
        ],
    ),
    (
        "ResetSnapshotAttribute",
        "SnapshotId={snapshot}",
        &[
            after(
                "Action=ModifySnapshotAttribute&SnapshotId={snapshot}&CreateVolumePermission.Add.1.Group=all",
                "Attribute=createVolumePermission",
                Gone(GRANTEES, ALL),
            ),
            case(
                "Attribute=productCodes",
                Refused("InvalidParameterValue", "Attribute"),
            ),
        ],
    ),
    (
        "ModifyVolume",
        "VolumeId={volume}",
        &[
            case("Size=9", Shown(MODIFIED, "<targetSize>9</targetSize>")),
            case(
                "VolumeType=gp3",
                Shown(MODIFIED, "<targetVolumeType>gp3</targetVolumeType>"),
            ),
            case(
                "VolumeType=gp3&Iops=4000",
                Shown(MODIFIED, "<targetIops>4000</targetIops>"),
            ),
            case(
                "VolumeType=gp3&Throughput=200",
                Shown(MODIFIED, "<targetThroughput>200</targetThroughput>"),
            ),
            case(
                "Size=9&MultiAttachEnabled=false",
                Shown(MODIFIED, "<targetSize>9</targetSize>"),
            ),
            case(
                "Size=9&MultiAttachEnabled=true",
                Refused("UnsupportedOperation", "MultiAttachEnabled"),
            ),
            case("Size=3", Refused("InvalidParameterValue", "Size")),
            case("VolumeType=gp9", Refused("InvalidParameterValue", "VolumeType")),
            case("Size=9&Iops=400", Refused("InvalidParameterCombination", "iops")),
            case(
                "Size=9&Throughput=200",
                Refused("InvalidParameterCombination", "throughput"),
            ),
            case("", Refused("InvalidParameterCombination", "Size")),
        ],
    ),
    (
        "ModifyVolumeAttribute",
        "VolumeId={volume}",
        &[
            case("AutoEnableIO.Value=true", Shown(AUTO_IO, "<value>true</value>")),
            case("AutoEnableIO.Value=false", Same),
            case("", Refused("MissingParameter", "AutoEnableIO")),
        ],
    ),
    // A volume's I/O is enabled.
    ("EnableVolumeIO", "VolumeId={volume}", &[case("", Same)]),
    (
        "EnableEbsEncryptionByDefault",
        "",
        &[case(
            "",
            Shown(
                BY_DEFAULT,
                "<ebsEncryptionByDefault>true</ebsEncryptionByDefault>",
            ),
        )],
    ),
    (
        "DisableEbsEncryptionByDefault",
        "",
        &[after(
            "Action=EnableEbsEncryptionByDefault",
            "",
            Shown(
                BY_DEFAULT,
                "<ebsEncryptionByDefault>false</ebsEncryptionByDefault>",
            ),
        )],
    ),
    // The account has one key.
    (
        "ModifyEbsDefaultKmsKeyId",
        "",
        &[
            case("KmsKeyId=alias/aws/ebs", Same),
            case(
                "KmsKeyId=alias/mine",
                Refused("InvalidParameterValue", "KmsKeyId"),
            ),
        ],
    ),
    ("ResetEbsDefaultKmsKeyId", "", &[case("", Same)]),
];

/// What a case is about: one of each, of its own.
async fn things(world: &World, n: usize) -> [(&'static str, String); 3] {
    let image = format!("image-{n}");
    let image = add_image_named(&world.cloud.parts(), world.who.account, &image).await;
    let volume = "Action=CreateVolume&AvailabilityZone=us-east-1a&Size=8";
    let volume = one(&world.ask(volume).await, "volumeId");
    let snapshot = format!("Action=CreateSnapshot&VolumeId={volume}");
    let snapshot = one(&world.ask(&snapshot).await, "snapshotId");
    world.complete(&snapshot).await;
    [("{image}", image), ("{volume}", volume), ("{snapshot}", snapshot)]
}

#[tokio::test]
async fn what_is_asked_of_each_operation_that_modifies_is_done_or_refused() {
    for (operation, subject, cases) in TABLE {
        let world = World::new().await;
        for (n, case) in cases.iter().enumerate() {
            let things = things(&world, n).await;
            let filled = |text: &str| {
                let text = text.to_owned();
                things
                    .iter()
                    .fold(text, |text, (name, id)| text.replace(name, id))
            };
            let ask = async |text: &str| world.try_as(&world.who, &filled(text)).await;
            let stays = matches!(case.comes, Same | Refused(..));
            let picture = async || {
                let mut shown = Vec::new();
                for question in QUESTIONS.into_iter().filter(|_| stays) {
                    shown.push(ask(question).await);
                }
                shown
            };
            let (question, text) = match case.comes {
                Shown(question, text) | Gone(question, text) => (question, text),
                Same | Refused(..) => (BY_DEFAULT, "nothing that is shown"),
            };
            let shows = async || ask(question).await.is_ok_and(|xml| xml.contains(text));
            if !case.first.is_empty() {
                world.ask(&filled(case.first)).await;
            }
            let call = format!("Action={operation}&{subject}&{}", case.asked);
            let (before, was) = (picture().await, shows().await);
            let answer = ask(&call).await;
            let (afterwards, is) = (picture().await, shows().await);
            match (&case.comes, answer) {
                (Shown(..), Ok(_)) => assert_eq!((was, is), (false, true), "{call}"),
                (Gone(..), Ok(_)) => assert_eq!((was, is), (true, false), "{call}"),
                (Same, Ok(_)) => assert_eq!(afterwards, before, "{call}"),
                (Refused(code, named), Err(refusal)) => {
                    assert_eq!(&*refusal.code, *code, "{call}: {refusal:?}");
                    assert!(refusal.message.contains(*named), "{call}: {refusal:?}");
                    assert_eq!(afterwards, before, "{call}");
                }
                (_, answer) => panic!("{call}: {answer:?}"),
            }
        }
    }
}

/// Whether an operation modifies what there is, by its name.
fn modifies(name: &str) -> bool {
    let verbs = ["Modify", "Reset", "Enable", "Disable"];
    verbs.iter().any(|verb| name.starts_with(verb))
}

/// The members that parameters name, with N for a list's index.
fn keys(parameters: &str) -> BTreeSet<String> {
    let step = |step: &str| match step.parse::<u32>() {
        Ok(_) => "N".to_owned(),
        Err(_) => step.to_owned(),
    };
    let pairs = parameters.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let key = pair.split('=').next().unwrap();
            key.split('.').map(step).collect::<Vec<_>>().join(".")
        })
        .collect()
}

/// The members below a shape of EC2's model as they are on the wire.
fn members_of(model: &Value, shape: &str, path: &str, found: &mut BTreeSet<String>) {
    let of = &model["shapes"][shape];
    match of["type"].as_str().unwrap() {
        "structure" => {
            for (name, member) in of["members"].as_object().unwrap() {
                let location = member["locationName"].as_str().unwrap_or(name);
                let (first, rest) = location.split_at(1);
                let capital = format!("{}{rest}", first.to_uppercase());
                let name = member["queryName"].as_str().unwrap_or(&capital);
                let dot = if path.is_empty() { "" } else { "." };
                let path = format!("{path}{dot}{name}");
                members_of(model, member["shape"].as_str().unwrap(), &path, found);
            }
        }
        "list" => {
            let each = of["member"]["shape"].as_str().unwrap();
            members_of(model, each, &format!("{path}.N"), found);
        }
        _ => {
            found.insert(path.to_owned());
        }
    }
}

/// A new operation, or a new member of one, is put into a table above: there it is seen whether it does something.
#[test]
fn each_member_of_each_operation_that_modifies_is_in_a_table() {
    let mut table: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (name, subject, cases) in TABLE {
        let asked = cases.iter().map(|case| case.asked);
        table.insert(*name, asked.chain([*subject]).flat_map(keys).collect());
    }
    let subject = || ["InstanceId=i"];
    let attributes = ATTRIBUTES.iter().map(|(asked, _)| *asked).chain(subject());
    table.insert("ModifyInstanceAttribute", attributes.flat_map(keys).collect());
    let options = OPTIONS.iter().map(|(asked, _)| *asked).chain(subject());
    table.insert("ModifyInstanceMetadataOptions", options.flat_map(keys).collect());

    let served = SERVICES.into_iter().flat_map(|service| service.model.operations);
    let served = served.filter(|info| modifies(info.name));
    let served: BTreeMap<&str, &OperationInfo> = served.map(|info| (info.name, info)).collect();
    let known: Vec<&str> = table.keys().copied().collect();
    let there: Vec<&str> = served.keys().copied().collect();
    assert_eq!(
        known, there,
        "operations in the tables, and those that are served"
    );

    let here = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let model = std::fs::read_to_string(format!("{here}/../models/ec2.json")).unwrap();
    let model: Value = serde_json::from_str(&model).unwrap();
    for (name, info) in served {
        let mut members = BTreeSet::new();
        let input = model["operations"][name]["input"].as_str().unwrap();
        members_of(&model, input, "", &mut members);
        let asked = &table[name];
        let unknown: Vec<_> = asked.difference(&members).collect();
        assert!(unknown.is_empty(), "{name} has no {unknown:?}");
        for member in &members {
            // What the manifest refuses is tried with the examples, whatever the operation.
            let refused = |parameter: &str| format!("{member}.").starts_with(&format!("{parameter}."));
            let refused = info.refused.iter().any(|policy| refused(policy.parameter));
            assert!(
                refused || member == "DryRun" || asked.contains(member),
                "{name}: no case says {member}"
            );
        }
        assert!(info.ignored.is_empty(), "{name} ignores {:?}", info.ignored);
    }
}
