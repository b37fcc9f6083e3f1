//! No modification says that it is done without having done it: what is accepted is shown afterwards, or was so
//! before; all else is refused.

use super::*;

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

#[tokio::test]
async fn a_metadata_option_is_changed_or_refused() {
    let world = World::new().await;
    for (asked, expected) in [
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
    ] {
        let id = world.run(1, "").await.remove(0);
        let call = format!("Action=ModifyInstanceMetadataOptions&InstanceId={id}&{asked}");
        match expected {
            Ok(shown) => {
                let answer = world.ask(&call).await;
                let described = format!("Action=DescribeInstances&InstanceId.1={id}");
                let described = world.ask(&described).await;
                assert!(
                    answer.contains(shown) && described.contains(shown),
                    "{asked}: {described}"
                );
            }
            Err(code) => assert_eq!(world.refused(&call).await, code, "{asked}"),
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
