//! The rules of requests of the `ec2` protocol, one test each: names, lists, empties, types, refusals.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed unwrap is the failure reported"
)]

use cumulet_wire::ec2::images::DescribeImagesRequest;
use cumulet_wire::ec2::instances::{
    DescribeInstancesRequest, GetConsoleOutputRequest, GetConsoleScreenshotRequest,
    ModifyInstanceAttributeRequest, RunInstancesRequest,
};
use cumulet_wire::ec2::keypairs::ImportKeyPairRequest;
use cumulet_wire::ec2::security_groups::{
    AuthorizeSecurityGroupIngressRequest, CreateSecurityGroupRequest, DescribeSecurityGroupsRequest,
};
use cumulet_wire::ec2::tags::{CreateTagsRequest, DeleteTagsRequest};
use cumulet_wire::iam::GetUserRequest;
use cumulet_wire::query::{MAX_KEY_BYTES, MAX_LIST_INDEX, MAX_PARAMETERS};
use cumulet_wire::{FromQuery, Known, Protocol, Query, WireError, decode, ec2};

fn read<T: FromQuery>(body: &str) -> Result<T, WireError> {
    decode(&Query::parse(body.as_bytes(), Protocol::Ec2)?)
}

/// Code and parameter of the refusal.
fn refusal<T: FromQuery>(body: &str) -> (String, String) {
    match read::<T>(body) {
        Ok(_) => panic!("accepted: {body}"),
        Err(error) => (error.code().to_owned(), error.parameter().to_owned()),
    }
}

fn run(extra: &str) -> RunInstancesRequest {
    read(&format!(
        "Action=RunInstances&Version=2016-11-15&MinCount=1&MaxCount=2&{extra}"
    ))
    .unwrap()
}

/// Rule 2: queryName, else the capitalised locationName, else the member's name.
#[test]
fn names_follow_the_model() {
    let request = run(
        "NetworkInterface.1.PrivateIpAddresses.1.PrivateIpAddress=10.0.0.1\
         &NetworkInterface.1.Ipv6Addresses.1.Ipv6Address=::1&EbsOptimized=true",
    );
    let interface = &request.network_interfaces[0];
    assert_eq!(
        interface.private_ip_addresses[0].private_ip_address.as_deref(),
        Some("10.0.0.1")
    );
    assert_eq!(interface.ipv6_addresses[0].ipv6_address.as_deref(), Some("::1"));
    assert_eq!(request.ebs_optimized, Some(true));
    let wrong = "MinCount=1&MaxCount=1&NetworkInterface.1.PrivateIpAddressesSet.1.PrivateIpAddress=x";
    assert_eq!(
        refusal::<RunInstancesRequest>(wrong),
        (
            "UnknownParameter".into(),
            "NetworkInterface.1.PrivateIpAddressesSet.1.PrivateIpAddress".into()
        )
    );
}

/// Rule 3: lists are flat, at every depth.
#[test]
fn lists_are_flat() {
    let request: DescribeInstancesRequest =
        read("InstanceId.1=i-1&InstanceId.2=i-2&Filter.1.Name=a&Filter.1.Value.1=b&Filter.1.Value.2=c")
            .unwrap();
    assert_eq!(request.instance_ids, ["i-1", "i-2"]);
    assert_eq!(request.filters[0].name.as_deref(), Some("a"));
    assert_eq!(request.filters[0].values, ["b", "c"]);
    let request = run(
        "BlockDeviceMapping.1.DeviceName=/dev/sda1&BlockDeviceMapping.1.Ebs.VolumeSize=8\
         &TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=k&TagSpecification.1.Tag.1.Value=v\
         &NetworkInterface.1.SecurityGroupId.1=sg-1",
    );
    assert_eq!(
        request.block_device_mappings[0].ebs.as_ref().unwrap().volume_size,
        Some(8)
    );
    assert_eq!(request.tag_specifications[0].tags[0].value.as_deref(), Some("v"));
    assert_eq!(request.network_interfaces[0].groups, ["sg-1"]);
    for body in [
        "InstanceId.member.1=i-1",
        "InstanceId.item.1=i-1",
        "InstanceId=i-1",
        "InstanceId.1.x=i-1",
        "InstanceId.-1=i",
    ] {
        let key = body.split_once('=').unwrap().0;
        assert_eq!(
            refusal::<DescribeInstancesRequest>(body),
            ("UnknownParameter".into(), key.into())
        );
    }
}

/// A scalar that clients send as a list of one: boto 2 does with this one, and no other of what is served.
#[test]
fn a_list_of_one_stands_for_its_member() {
    for body in ["InstanceId=i-1", "InstanceId.1=i-1", "InstanceId.7=i-1"] {
        let request: GetConsoleOutputRequest = read(body).unwrap();
        assert_eq!(request.instance_id, "i-1", "{body}");
    }
    for (body, code, parameter) in [
        (
            "InstanceId.1=i-1&InstanceId.2=i-2",
            "InvalidParameterValue",
            "InstanceId.2",
        ),
        (
            "InstanceId=i-1&InstanceId.1=i-2",
            "UnknownParameter",
            "InstanceId.1",
        ),
        ("InstanceId.x=i-1", "UnknownParameter", "InstanceId.x"),
        ("InstanceId.1.Name=i-1", "UnknownParameter", "InstanceId.1.Name"),
        (
            "InstanceId.member.1=i-1",
            "UnknownParameter",
            "InstanceId.member.1",
        ),
        ("InstanceId.1=", "MissingParameter", "InstanceId"),
        ("InstanceId=", "MissingParameter", "InstanceId"),
        ("", "MissingParameter", "InstanceId"),
    ] {
        let expected = (code.into(), parameter.into());
        assert_eq!(refusal::<GetConsoleOutputRequest>(body), expected, "{body}");
    }
    let unknown = ("UnknownParameter".to_owned(), "InstanceId.1".to_owned());
    assert_eq!(
        refusal::<GetConsoleScreenshotRequest>("InstanceId.1=i-1"),
        unknown
    );
    assert_eq!(
        refusal::<ModifyInstanceAttributeRequest>("InstanceId.1=i-1"),
        unknown
    );
}

/// Rule 4: singular and plural are as irregular as the model.
#[test]
fn irregular_names() {
    let request = run("SecurityGroupId.1=sg-1&SecurityGroup.1=default");
    assert_eq!(
        (
            request.security_group_ids[0].as_str(),
            request.security_groups[0].as_str()
        ),
        ("sg-1", "default")
    );
    let request: DescribeSecurityGroupsRequest = read("GroupId.1=sg-1&GroupName.1=default").unwrap();
    assert_eq!(
        (request.group_ids[0].as_str(), request.group_names[0].as_str()),
        ("sg-1", "default")
    );
    let request: ModifyInstanceAttributeRequest = read("InstanceId=i-1&GroupId.1=sg-1").unwrap();
    assert_eq!(request.groups, ["sg-1"]);
    let request: AuthorizeSecurityGroupIngressRequest =
        read("IpPermissions.1.Groups.1.GroupId=sg-1&IpPermissions.1.IpRanges.1.CidrIp=0.0.0.0/0").unwrap();
    assert_eq!(
        request.ip_permissions[0].user_id_group_pairs[0]
            .group_id
            .as_deref(),
        Some("sg-1")
    );
    assert_eq!(
        request.ip_permissions[0].ip_ranges[0].cidr_ip.as_deref(),
        Some("0.0.0.0/0")
    );
    let request: CreateSecurityGroupRequest = read("GroupName=g&GroupDescription=d").unwrap();
    assert_eq!(request.description, "d");
    let request: DescribeImagesRequest = read("Owner.1=self&ExecutableBy.1=all").unwrap();
    assert_eq!(
        (request.owners[0].as_str(), request.executable_users[0].as_str()),
        ("self", "all")
    );
    let request: CreateTagsRequest = read("ResourceId.1=i-1&Tag.1.Key=k&Tag.1.Value=v").unwrap();
    assert_eq!(
        (request.resources[0].as_str(), request.tags[0].key.as_deref()),
        ("i-1", Some("k"))
    );
}

/// Rule 6: an empty scalar is not given, except `NoDevice`, tag values and members of lists.
#[test]
fn empty_values() {
    let request = run(
        "Placement.AvailabilityZone=&KeyName=&EbsOptimized=&Placement.PartitionNumber=\
         &BlockDeviceMapping.1.NoDevice=&SecurityGroupId=&InstanceMarketOptions.SpotOptions.ValidUntil=",
    );
    assert_eq!(request.placement.unwrap().availability_zone, None);
    assert_eq!((request.key_name, request.ebs_optimized), (None, None));
    assert_eq!(request.block_device_mappings[0].no_device.as_deref(), Some(""));
    assert!(request.security_group_ids.is_empty());
    assert_eq!(run("").block_device_mappings, []);
    let request: CreateTagsRequest = read("ResourceId.1=i-1&Tag.1.Key=k&Tag.1.Value=").unwrap();
    assert_eq!(request.tags[0].value.as_deref(), Some(""));
    let request: DeleteTagsRequest = read("ResourceId.1=i-1&Tag.1.Key=k").unwrap();
    assert_eq!(request.tags[0].value, None);
    // Dropping it would describe every instance.
    let request: DescribeInstancesRequest = read("InstanceId.1=").unwrap();
    assert_eq!(request.instance_ids, [""]);
    let request: ModifyInstanceAttributeRequest = read("InstanceId=i-1&UserData.Value=").unwrap();
    assert_eq!(request.user_data.unwrap().value.unwrap().0, "");
}

/// Rule 7: indices are numbers, in any order, with gaps.
#[test]
fn list_indices_are_numbers() {
    let request: DescribeInstancesRequest =
        read("InstanceId.10=ten&InstanceId.2=two&InstanceId.99999=last&InstanceId.007=seven").unwrap();
    assert_eq!(request.instance_ids, ["two", "seven", "ten", "last"]);
    assert_eq!(
        refusal::<DescribeInstancesRequest>("InstanceId.1=a&InstanceId.01=b"),
        ("InvalidQueryParameter".into(), "InstanceId.1".into())
    );
    for index in [
        (MAX_LIST_INDEX + 1).to_string(),
        "999999999".into(),
        "2147483648".into(),
        "9".repeat(40),
    ] {
        assert_eq!(
            refusal::<DescribeInstancesRequest>(&format!("Filter.{index}.Name=x")),
            ("InvalidParameterValue".into(), format!("Filter.{index}.Name"))
        );
    }
}

/// Rule 8: the model decides a value's type, never its look.
#[test]
fn values_are_not_guessed() {
    for value in ["True", "0123", "1e3", "None", "null", "[]", " x "] {
        let body = format!("ResourceId.1=i-1&Tag.1.Key=k&Tag.1.Value={value}");
        assert_eq!(
            read::<CreateTagsRequest>(&body).unwrap().tags[0].value.as_deref(),
            Some(value)
        );
    }
}

/// Rule 10: blobs are base64, RunInstances' user data is text that the client has encoded.
#[test]
fn blobs() {
    let request: ImportKeyPairRequest = read("KeyName=k&PublicKeyMaterial=c3NoLXJzYQ%3D%3D").unwrap();
    assert_eq!(request.public_key_material.unwrap().0, b"ssh-rsa");
    let request: ImportKeyPairRequest =
        read("KeyName=k&PublicKeyMaterial=c3No%0ALXJz%0D%0AYQ%3D%3D").unwrap();
    assert_eq!(request.public_key_material.unwrap().0, b"ssh-rsa");
    let (code, parameter) = refusal::<ImportKeyPairRequest>("KeyName=k&PublicKeyMaterial=!secret!");
    assert_eq!(
        (code.as_str(), parameter.as_str()),
        ("InvalidParameterValue", "PublicKeyMaterial")
    );
    let error = read::<ImportKeyPairRequest>("KeyName=k&PublicKeyMaterial=!secret!").unwrap_err();
    assert!(!error.message().contains("secret"));
    assert_eq!(run("UserData=IyEvYmluL3No").user_data.unwrap().0, "IyEvYmluL3No");
    assert!(!format!("{:?}", run("UserData=IyEvYmluL3No")).contains("IyEv"));
}

/// Rule 12, and numbers.
#[test]
fn scalars_are_strict() {
    for (text, expected) in [
        ("true", true),
        ("True", true),
        ("TRUE", true),
        ("1", true),
        ("false", false),
        ("False", false),
        ("0", false),
    ] {
        assert_eq!(run(&format!("DryRun={text}")).dry_run, Some(expected));
    }
    for wrong in [
        "DryRun=yes",
        "DryRun=2",
        "DryRun=%20true",
        "MaxCount=2147483648",
        "MaxCount=1.0",
        "MaxCount=%2B1",
        "MaxCount=01",
        "MaxCount=-0",
        "MaxCount=%201",
        "MaxCount=0x1",
        "MaxCount=%D9%A1",
        "Placement.PartitionNumber=one",
        "InstanceMarketOptions.SpotOptions.ValidUntil=yesterday",
    ] {
        let key = wrong.split_once('=').unwrap().0;
        let body = if key == "MaxCount" {
            format!("MinCount=1&{wrong}")
        } else {
            format!("MinCount=1&MaxCount=1&{wrong}")
        };
        assert_eq!(
            refusal::<RunInstancesRequest>(&body),
            ("InvalidParameterValue".into(), key.into())
        );
    }
}

/// Rule 13: what the model does not have is refused with its whole path.
#[test]
fn unknown_parameters() {
    for key in [
        "Nonsense",
        "instanceId.1",
        "DryRun.x",
        "Filter.1.Names",
        "Filter.1.Value.1.x",
        "Filter.Name",
        "Filter..Name",
        "Action.x",
        "Filter.1.Name.",
    ] {
        assert_eq!(
            refusal::<DescribeInstancesRequest>(&format!("{key}=1")),
            ("UnknownParameter".into(), key.to_owned())
        );
    }
    let error = read::<DescribeInstancesRequest>("Nonsense=1").unwrap_err();
    assert_eq!(error.message(), "The parameter Nonsense is not recognized");
}

/// The parameters of the protocol itself belong to no operation, and only at the top.
#[test]
fn protocol_parameters_are_passed_over() {
    let body = "Action=DescribeInstances&Version=2016-11-15&AWSAccessKeyId=A&SignatureMethod=HmacSHA256\
        &SignatureVersion=2&Signature=x&Timestamp=t&Expires=1&SecurityToken=s&X-Amz-Algorithm=a&X-Amz-Signature=s\
        &InstanceId.1=i-1";
    assert_eq!(
        read::<DescribeInstancesRequest>(body).unwrap().instance_ids,
        ["i-1"]
    );
    assert_eq!(
        refusal::<DescribeInstancesRequest>("Filter.1.Version=x").1,
        "Filter.1.Version"
    );
}

#[test]
fn required_members() {
    for (body, missing) in [("MaxCount=1", "MinCount"), ("MinCount=1&MaxCount=", "MaxCount")] {
        assert_eq!(
            refusal::<RunInstancesRequest>(body),
            ("MissingParameter".into(), missing.into())
        );
    }
    assert_eq!(refusal::<CreateTagsRequest>("Tag.1.Key=k").1, "ResourceId");
    assert_eq!(
        refusal::<RunInstancesRequest>("MinCount=1&MaxCount=1&ElasticInferenceAccelerator.1.Count=1").1,
        "ElasticInferenceAccelerator.1.Type"
    );
    let error = read::<CreateTagsRequest>("ResourceId.1=i-1").unwrap_err();
    assert_eq!(error.message(), "The request must contain the parameter Tag");
}

#[test]
fn form_data_is_strict() {
    let too_many: String = (0..=MAX_PARAMETERS)
        .map(|i| format!("InstanceId.{i}=x&"))
        .collect();
    let long_key = format!("{}=x", "k".repeat(MAX_KEY_BYTES + 1));
    for (body, code) in [
        (&b"InstanceId.1=%"[..], "MalformedQueryString"),
        (b"InstanceId.1=%4", "MalformedQueryString"),
        (b"InstanceId.1=%zz", "MalformedQueryString"),
        (b"InstanceId.1=%+1", "MalformedQueryString"),
        (b"InstanceId.1=\xff", "MalformedQueryString"),
        (b"InstanceId.1=%FF", "MalformedQueryString"),
        (b"InstanceId.1=%ED%A0%80", "MalformedQueryString"),
        (b"=x", "MalformedQueryString"),
        (too_many.as_bytes(), "MalformedQueryString"),
        (long_key.as_bytes(), "MalformedQueryString"),
        (b"InstanceId.1=a&InstanceId.1=b", "InvalidQueryParameter"),
        (b"InstanceId.1=a&InstanceId%2E1=a", "InvalidQueryParameter"),
    ] {
        let error = Query::parse(body, Protocol::Ec2).unwrap_err();
        assert_eq!(error.code(), code, "{}", String::from_utf8_lossy(body));
    }
    let exactly: String = (0..MAX_PARAMETERS)
        .map(|i| format!("InstanceId.{i}=x&"))
        .collect();
    assert_eq!(
        read::<DescribeInstancesRequest>(&exactly)
            .unwrap()
            .instance_ids
            .len(),
        MAX_PARAMETERS
    );
    let request: CreateTagsRequest =
        read("&ResourceId.1=a+b%20c%2Bd&&Tag.1.Key=%E6%9D%B1&Tag.1.Value&").unwrap();
    assert_eq!(
        (request.resources[0].as_str(), request.tags[0].key.as_deref()),
        ("a b c+d", Some("東"))
    );
    assert_eq!(request.tags[0].value.as_deref(), Some(""));
}

#[test]
fn control_characters_are_refused() {
    for value in ["%00", "a%01", "%0B", "%1B[31m", "%EF%BF%BF"] {
        let body = format!("ResourceId.1=i-1&Tag.1.Key=k&Tag.1.Value={value}");
        assert_eq!(
            refusal::<CreateTagsRequest>(&body),
            ("InvalidParameterValue".into(), "Tag.1.Value".into())
        );
    }
    assert!(read::<CreateTagsRequest>("ResourceId.1=i-1&Tag.1.Key=k&Tag.1.Value=a%09b%0Ac").is_ok());
}

/// A hostile list costs what its parameters cost, whatever its indices and its depth.
#[test]
fn deep_and_wide_requests_are_bounded() {
    let deep = format!("{}=1", "Filter.1.".repeat(MAX_KEY_BYTES / 9));
    assert_eq!(refusal::<DescribeInstancesRequest>(&deep).0, "UnknownParameter");
    let dots = format!("{}=1", ".".repeat(MAX_KEY_BYTES));
    assert_eq!(refusal::<DescribeInstancesRequest>(&dots).0, "UnknownParameter");
}

/// IAM and STS write `.member.` into lists; their scalars and refusals are the same.
#[test]
fn the_query_protocol() {
    let read = |body: &'static str| {
        decode::<GetUserRequest>(&Query::parse(body.as_bytes(), Protocol::Query).unwrap())
    };
    assert_eq!(
        read("Action=GetUser&UserName=u").unwrap().user_name.as_deref(),
        Some("u")
    );
    assert_eq!(read("UserNames=u").unwrap_err().code(), "UnknownParameter");
    let list = |body: &'static str| {
        Vec::<String>::from_query(&Query::parse(body.as_bytes(), Protocol::Query).unwrap().root())
    };
    assert_eq!(list("member.2=b&member.1=a").unwrap(), ["a", "b"]);
    assert_eq!(list("1=a").unwrap_err().code(), "UnknownParameter");
}

#[test]
fn every_action_is_known_or_not() {
    for (action, served) in [
        ("RunInstances", true),
        ("DescribeInstances", true),
        ("CreateVpc", false),
        ("AcceptAddressTransfer", false),
    ] {
        match ec2::operations::SERVICE.lookup(action) {
            Known::Served(info) => assert!(served && info.name == action),
            Known::Unserved => assert!(!served, "{action}"),
            Known::Unknown => panic!("{action} is in the model"),
        }
    }
    for action in ["", "runInstances", "RunInstances ", "Nonsense"] {
        assert_eq!(ec2::operations::SERVICE.lookup(action), Known::Unknown);
    }
    assert_eq!(
        ec2::operations::OPERATIONS.len() + ec2::operations::UNSERVED.len(),
        830
    );
    let missing = Query::parse(b"Action=", Protocol::Ec2)
        .unwrap()
        .action()
        .unwrap_err();
    assert_eq!(missing.code(), "MissingAction");
}

#[test]
fn the_table_says_what_the_model_says() {
    let Known::Served(run) = ec2::operations::SERVICE.lookup("RunInstances") else {
        panic!()
    };
    assert_eq!(
        (run.permission, run.dry_run, run.client_token),
        ("ec2:RunInstances", true, Some("ClientToken"))
    );
    assert_eq!((run.paging, run.filters), (None, None));
    let Known::Served(types) = ec2::operations::SERVICE.lookup("DescribeInstanceTypes") else {
        panic!()
    };
    assert_eq!(types.paging.map(|p| (p.min, p.max)), Some((5, 100)));
    let Known::Served(instances) = ec2::operations::SERVICE.lookup("DescribeInstances") else {
        panic!()
    };
    let filters = instances.filters.unwrap();
    assert_eq!((filters.parameter, filters.names.len()), ("Filter", 136));
    for info in ec2::operations::OPERATIONS {
        let names = info.filters.map_or(&[][..], |f| f.names);
        assert!(names.is_sorted(), "{}: filters are searched by halves", info.name);
    }
    assert!(ec2::operations::OPERATIONS.is_sorted_by_key(|info| info.name));
    assert!(ec2::operations::UNSERVED.is_sorted());
}

/// RunInstances refuses what it can't do, and takes the defaults that clients send along.
#[test]
fn members_not_supported() {
    let Known::Served(info) = ec2::operations::SERVICE.lookup("RunInstances") else {
        panic!()
    };
    for (body, refused) in [
        (
            "EnclaveOptions.Enabled=false&HibernationOptions.Configured=false&EbsOptimized=false",
            None,
        ),
        ("EnclaveOptions.Enabled=true", Some("EnclaveOptions.Enabled")),
        ("Placement.Tenancy=default", None),
        ("Placement.Tenancy=dedicated", Some("Placement.Tenancy")),
        (
            "BlockDeviceMapping.2.Ebs.OutpostArn=arn",
            Some("BlockDeviceMapping.2.Ebs.OutpostArn"),
        ),
        ("NetworkInterface.1.DeleteOnTermination=true", None),
        (
            "NetworkInterface.1.DeleteOnTermination=false",
            Some("NetworkInterface.1.DeleteOnTermination"),
        ),
        (
            "LaunchTemplate.LaunchTemplateId=lt-1",
            Some("LaunchTemplate.LaunchTemplateId"),
        ),
        ("IamInstanceProfile.Name=", None),
    ] {
        let query = Query::parse(body.as_bytes(), Protocol::Ec2).unwrap();
        let error = info.check_members(&query).err();
        assert_eq!(error.as_ref().map(WireError::parameter), refused, "{body}");
        assert!(error.is_none_or(|e| e.code() == "UnsupportedOperation"));
    }
}
