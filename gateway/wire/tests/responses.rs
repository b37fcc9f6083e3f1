//! The rules of responses of the `ec2` protocol, by the exact text: a lenient parser proves nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed unwrap is the failure reported"
)]

use cumulet_wire::ec2::images::DeregisterImageResult;
use cumulet_wire::ec2::instances::{
    DescribeInstancesResult, Instance, InstanceAttribute, InstanceState, Reservation,
    TerminateInstancesResult,
};
use cumulet_wire::ec2::regions::{DescribeRegionsResult, Region};
use cumulet_wire::ec2::security_groups::{AuthorizeSecurityGroupIngressResult, DescribeSecurityGroupsResult};
use cumulet_wire::ec2::shared::Tag;
use cumulet_wire::ec2::tags::{DescribeTagsResult, TagDescription};
use cumulet_wire::response::{ec2_response, query_response};
use cumulet_wire::{Timestamp, XmlBody, iam, sts};

fn body<T: XmlBody>(action: &str, result: &T) -> String {
    let xml = ec2_response(action, "2016-11-15", "ID", result);
    let start = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{action}Response \
         xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>ID</requestId>"
    );
    let end = format!("</{action}Response>");
    xml.strip_prefix(&start)
        .and_then(|x| x.strip_suffix(&end))
        .expect("the root's form")
        .to_owned()
}

/// Rules 7 and 10: empty lists are written, absent scalars are not.
#[test]
fn empty_lists_are_written() {
    assert_eq!(
        body("DescribeInstances", &DescribeInstancesResult::default()),
        "<reservationSet/>"
    );
    assert_eq!(
        body("DescribeRegions", &DescribeRegionsResult::default()),
        "<regionInfo/>"
    );
    assert_eq!(
        body("DescribeSecurityGroups", &DescribeSecurityGroupsResult::default()),
        "<securityGroupInfo/>"
    );
    assert_eq!(
        body("TerminateInstances", &TerminateInstancesResult::default()),
        "<instancesSet/>"
    );
    assert_eq!(
        body("RunInstances", &Reservation::default()),
        "<groupSet/><instancesSet/>"
    );
    // Only the attribute asked for is answered.
    assert_eq!(
        body("DescribeInstanceAttribute", &InstanceAttribute::default()),
        ""
    );
}

/// Rules 4 and 5: items are `item`, containers are irregular, and RunInstances has no wrapper.
#[test]
fn containers_and_items() {
    let result = DescribeRegionsResult {
        regions: vec![
            Region {
                region_name: Some("r1".into()),
                ..Region::default()
            },
            Region::default(),
        ],
    };
    let xml = body("DescribeRegions", &result);
    assert_eq!(
        xml,
        "<regionInfo><item><geographySet/><regionName>r1</regionName></item>\
         <item><geographySet/></item></regionInfo>"
    );
    let reservation = Reservation {
        reservation_id: Some("r-1".into()),
        instances: vec![Instance {
            instance_id: Some("i-1".into()),
            ..Instance::default()
        }],
        ..Reservation::default()
    };
    let xml = body("RunInstances", &reservation);
    assert!(xml.contains("<reservationId>r-1</reservationId>"), "{xml}");
    assert!(
        xml.contains("<instancesSet><item>") && xml.contains("<instanceId>i-1</instanceId>"),
        "{xml}"
    );
    for set in [
        "blockDeviceMapping",
        "networkInterfaceSet",
        "groupSet",
        "productCodes",
    ] {
        assert!(xml.contains(&format!("<{set}/>")), "{set} in {xml}");
    }
    // One that is left out is a decision of `models/patches.toml`.
    assert!(!xml.contains("tagSet"), "{xml}");
}

/// Rules 8 and 9: `true`, plain numbers, three digits of a second.
#[test]
fn scalars() {
    let instance = Instance {
        ebs_optimized: Some(false),
        ami_launch_index: Some(0),
        launch_time: Some(Timestamp(1_767_323_045_000)),
        state: Some(InstanceState {
            code: Some(16),
            name: Some("running".into()),
        }),
        tags: Some(vec![Tag {
            key: Some("a<b>&\"c\"".into()),
            value: Some(String::new()),
        }]),
        ..Instance::default()
    };
    let reservation = Reservation {
        instances: vec![instance],
        ..Reservation::default()
    };
    let xml = body("RunInstances", &reservation);
    for part in [
        "<ebsOptimized>false</ebsOptimized>",
        "<amiLaunchIndex>0</amiLaunchIndex>",
        "<launchTime>2026-01-02T03:04:05.000Z</launchTime>",
        "<instanceState><code>16</code><name>running</name></instanceState>",
        "<tagSet><item><key>a&lt;b&gt;&amp;&quot;c&quot;</key><value></value></item></tagSet>",
    ] {
        assert!(xml.contains(part), "{part} in {xml}");
    }
}

/// Rule 6: `return` beside what else there is.
#[test]
fn returns() {
    let result = AuthorizeSecurityGroupIngressResult {
        r#return: Some(true),
        ..Default::default()
    };
    assert_eq!(
        body("AuthorizeSecurityGroupIngress", &result),
        "<return>true</return><securityGroupRuleSet/>"
    );
    let result = DeregisterImageResult {
        r#return: Some(true),
        ..Default::default()
    };
    assert!(body("DeregisterImage", &result).starts_with("<return>true</return>"));
}

/// Rule 10: the token of the next page stands there only if there is one.
#[test]
fn next_token() {
    let tags = vec![TagDescription {
        key: Some("k".into()),
        ..TagDescription::default()
    }];
    let last = DescribeTagsResult {
        tags: tags.clone(),
        next_token: None,
    };
    assert!(!body("DescribeTags", &last).contains("nextToken"));
    let more = DescribeTagsResult {
        tags,
        next_token: Some("t".into()),
    };
    assert!(body("DescribeTags", &more).contains("<nextToken>t</nextToken>"));
}

#[test]
fn the_query_protocol_wraps() {
    let identity = sts::GetCallerIdentityResponse {
        account: Some("000000000001".into()),
        arn: Some("arn:aws:iam::000000000001:user/admin".into()),
        user_id: Some("AIDA".into()),
    };
    assert_eq!(
        query_response(
            "https://sts.amazonaws.com/doc/2011-06-15/",
            "GetCallerIdentity",
            "ID",
            Some(&identity)
        ),
        "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
         <UserId>AIDA</UserId><Account>000000000001</Account><Arn>arn:aws:iam::000000000001:user/admin</Arn>\
         </GetCallerIdentityResult><ResponseMetadata><RequestId>ID</RequestId></ResponseMetadata>\
         </GetCallerIdentityResponse>"
    );
    let user = iam::User {
        tags: vec![iam::Tag {
            key: Some("k".into()),
            value: Some("v".into()),
        }],
        ..iam::User::default()
    };
    let xml = query_response(
        "https://iam.amazonaws.com/doc/2010-05-08/",
        "GetUser",
        "ID",
        Some(&iam::GetUserResponse { user: Some(user) }),
    );
    assert!(
        xml.contains("<Tags><member><Key>k</Key><Value>v</Value></member></Tags>"),
        "{xml}"
    );
}
