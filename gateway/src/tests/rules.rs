//! Rules of security groups at the door: what is nearly right, what is not there, and names in any case.

use cumulet_backend::store::groups;
use cumulet_domain::network::{Direction, Peer, Rule, Traffic};

use super::*;

const PERMISSION: &str = "IpPermissions.1.IpProtocol";

/// What can be asked away without ever having been there.
const FOREIGN: [(&str, &str, &str); 7] = [
    (
        "-1&IpPermissions.1.Ipv6Ranges.1.CidrIpv6=::/0",
        "cidrIpv6",
        "::/0",
    ),
    (
        "tcp&IpPermissions.1.FromPort=1&IpPermissions.1.ToPort=2&IpPermissions.1.Ipv6Ranges.1.CidrIpv6=2001:db8::/32",
        "cidrIpv6",
        "2001:db8::/32",
    ),
    (
        "icmpv6&IpPermissions.1.Ipv6Ranges.1.CidrIpv6=::/0",
        "ipProtocol",
        "58",
    ),
    (
        "58&IpPermissions.1.IpRanges.1.CidrIp=0.0.0.0/0",
        "ipProtocol",
        "58",
    ),
    (
        "-1&IpPermissions.1.PrefixListIds.1.PrefixListId=pl-63a5400a",
        "prefixListId",
        "pl-63a5400a",
    ),
    (
        "-1&IpPermissions.1.Groups.1.GroupId=sg-0123456789abcdef0&IpPermissions.1.Groups.1.UserId=111122223333",
        "userId",
        "111122223333",
    ),
    (
        "-1&IpPermissions.1.Groups.1.GroupId=sg-0123456789abcdef0&\
         IpPermissions.1.Groups.1.VpcPeeringConnectionId=pcx-1",
        "vpcPeeringConnectionId",
        "pcx-1",
    ),
];

async fn group(world: &World, name: &str, rest: &str) -> String {
    let body = format!("Action=CreateSecurityGroup&GroupName={name}&GroupDescription=d{rest}");
    one(&world.ask(&body).await, "groupId")
}

/// Everything that the account's groups say.
async fn all_rules(world: &World) -> String {
    world.ask("Action=DescribeSecurityGroups").await + &world.ask("Action=DescribeSecurityGroupRules").await
}

#[tokio::test]
async fn what_cant_be_here_is_taken_away_as_what_is_not_there() {
    let world = World::new().await;
    let vpc = world.another_vpc().await;
    let ours = group(&world, "ours", "").await;
    let theirs = group(&world, "theirs", &format!("&VpcId={vpc}")).await;
    let before = all_rules(&world).await;
    for way in ["Ingress", "Egress"] {
        for (rest, element, told) in FOREIGN {
            let ask = |verb: &str, id: &str| {
                format!("Action={verb}SecurityGroup{way}&GroupId={id}&{PERMISSION}={rest}")
            };
            let answer = world
                .try_as(&world.who, &ask("Revoke", &theirs))
                .await
                .unwrap_err();
            assert_eq!(
                (answer.code.as_ref(), answer.status, answer.message.as_str()),
                (
                    "InvalidPermission.NotFound",
                    400,
                    "The specified rule does not exist in this security group."
                ),
                "{way} {rest}"
            );
            // The default VPC: no error, and the answer says what was not there.
            let unknown = world.ask(&ask("Revoke", &ours)).await;
            assert_eq!(one(&unknown, "return"), "true", "{rest}");
            let set = one(&unknown, "unknownIpPermissionSet");
            assert_eq!(one(&set, element), told, "{way} {rest}");
            assert!(unknown.contains("<revokedSecurityGroupRuleSet/>"), "{unknown}");
            // To add it is another matter.
            let refused = world.refused(&ask("Authorize", &ours)).await;
            assert!(
                ["UnsupportedOperation", "InvalidParameterValue"].contains(&refused.as_str()),
                "{rest}: {refused}"
            );
        }
    }
    assert_eq!(all_rules(&world).await, before);
}

/// `058` had been taken once, and is kept as a protocol that nobody can add any more.
#[tokio::test]
async fn what_is_kept_of_icmpv6_is_taken_away_by_its_own_description() {
    let world = World::new().await;
    let id = group(&world, "g", "").await;
    let rule = Rule {
        direction: Direction::Ingress,
        traffic: Traffic::Protocol(58),
        peer: Peer::Cidr("10.0.0.0/8".parse().unwrap()),
    };
    let (cloud, account) = (&world.cloud, world.who.account);
    let row = groups::rule_row(&cloud.rng, NOW, account, id.parse().unwrap(), rule, "").unwrap();
    let write = cloud
        .store
        .write(move |txn| Box::pin(groups::insert_rules(txn, vec![row])));
    write.await.unwrap();
    let shown = world
        .ask(&format!("Action=DescribeSecurityGroups&GroupId.1={id}"))
        .await;
    assert_eq!(one(&one(&shown, "ipPermissions"), "ipProtocol"), "58");
    let revoke = "&IpPermissions.1.IpProtocol=58&IpPermissions.1.IpRanges.1.CidrIp=10.0.0.0/8";
    let gone = world
        .ask(&format!("Action=RevokeSecurityGroupIngress&GroupId={id}{revoke}"))
        .await;
    assert!(gone.contains("<unknownIpPermissionSet/>"), "{gone}");
    let shown = world
        .ask(&format!("Action=DescribeSecurityGroups&GroupId.1={id}"))
        .await;
    assert!(shown.contains("<ipPermissions/>"), "{shown}");
}

#[tokio::test]
async fn what_has_no_form_is_refused_also_where_it_is_taken_away() {
    let world = World::new().await;
    let group = group(&world, "g", "").await;
    for (rest, code) in [
        (
            "-1&IpPermissions.1.Ipv6Ranges.1.CidrIpv6=nonsense",
            "InvalidParameterValue",
        ),
        (
            "-1&IpPermissions.1.Ipv6Ranges.1.CidrIpv6=::/200",
            "InvalidParameterValue",
        ),
        (
            "-1&IpPermissions.1.PrefixListIds.1.PrefixListId=nonsense",
            "InvalidParameterValue",
        ),
        (
            "-1&IpPermissions.1.Groups.1.GroupId=nonsense",
            "InvalidGroupId.Malformed",
        ),
        (
            "-1&IpPermissions.1.Groups.1.GroupId=sg-0123456789abcdef0",
            "InvalidGroup.NotFound",
        ),
        (
            "-1&IpPermissions.1.Groups.1.GroupName=nobody",
            "InvalidGroup.NotFound",
        ),
        ("-1", "MissingParameter"),
    ] {
        for call in ["RevokeSecurityGroupIngress", "RevokeSecurityGroupEgress"] {
            let body = format!("Action={call}&GroupId={group}&{PERMISSION}={rest}");
            assert_eq!(world.refused(&body).await, code, "{body}");
        }
    }
}

#[tokio::test]
async fn a_revoke_takes_what_is_there_and_tells_the_rest() {
    let world = World::new().await;
    let vpc = world.another_vpc().await;
    let tcp = |n: u32, port: u32| {
        format!(
            "&IpPermissions.{n}.IpProtocol=tcp&IpPermissions.{n}.FromPort={port}&IpPermissions.{n}.ToPort={port}&\
             IpPermissions.{n}.IpRanges.1.CidrIp=10.0.0.0/8"
        )
    };
    for (place, default) in [(String::new(), true), (format!("&VpcId={vpc}"), false)] {
        let id = group(&world, if default { "a" } else { "b" }, &place).await;
        world
            .ask(&format!(
                "Action=AuthorizeSecurityGroupIngress&GroupId={id}{}",
                tcp(1, 22)
            ))
            .await;
        let both = format!(
            "Action=RevokeSecurityGroupIngress&GroupId={id}{}{}",
            tcp(1, 22),
            tcp(2, 23)
        );
        if default {
            let answer = world.ask(&both).await;
            let (gone, unknown) = (
                one(&answer, "revokedSecurityGroupRuleSet"),
                one(&answer, "unknownIpPermissionSet"),
            );
            assert_eq!(
                (one(&gone, "fromPort"), all(&unknown, "fromPort")),
                ("22".into(), vec!["23".into()])
            );
        } else {
            assert_eq!(world.refused(&both).await, "InvalidPermission.NotFound");
            let left = tcp(1, 22);
            let answer = world
                .ask(&format!("Action=RevokeSecurityGroupIngress&GroupId={id}{left}"))
                .await;
            assert!(answer.contains("<unknownIpPermissionSet/>"), "{answer}");
        }
        let shown = world
            .ask(&format!("Action=DescribeSecurityGroups&GroupId.1={id}"))
            .await;
        assert!(shown.contains("<ipPermissions/>"), "{shown}");
    }
}

/// Nearly right text, through every member that has a protocol, a port or a block: nothing is opened, and what
/// was sent is named.
#[tokio::test]
async fn nearly_right_text_never_opens_more() {
    let world = World::new().await;
    let group = group(&world, "g", "").await;
    let before = all_rules(&world).await;
    let protocols = [
        "06", "%2B6", "006", "017", "%2B17", "01", "058", "00", "-0", "-01", "%20tcp", "tcp%20", "tcp%0A",
        "%096", "256", "-2", "all", "6.0", "0x6", "null",
    ];
    let ports = [
        "022",
        "%2B22",
        "%2022",
        "22%20",
        "2%202",
        "0x16",
        "22.0",
        "2e1",
        "-022",
        "-0",
        "٢٢",
        "99999999999",
    ];
    let blocks = [
        "010.0.0.0/8",
        "10.0.0.0/08",
        "10.0.0.0/%2B8",
        "10.0.0.0/8%20",
        "%2010.0.0.0/8",
        "10.0.0/8",
        "10/8",
        "10.0.0.0",
        "0/0",
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "10.0.0.0/255.0.0.0",
        "0x0a.0.0.0/8",
        "10.0.0.0/8/8",
    ];
    let rule = |protocol: &str, from: &str, to: &str, block: &str| {
        [
            format!(
                "{PERMISSION}={protocol}&IpPermissions.1.FromPort={from}&IpPermissions.1.ToPort={to}&\
                 IpPermissions.1.IpRanges.1.CidrIp={block}"
            ),
            format!("IpProtocol={protocol}&FromPort={from}&ToPort={to}&CidrIp={block}"),
        ]
    };
    let mut wrong = Vec::new();
    wrong.extend(protocols.map(|text| (text, rule(text, "8080", "8080", "0.0.0.0/0"))));
    wrong.extend(ports.map(|text| (text, rule("tcp", text, "22", "0.0.0.0/0"))));
    wrong.extend(ports.map(|text| (text, rule("tcp", "22", text, "0.0.0.0/0"))));
    wrong.extend(blocks.map(|text| (text, rule("tcp", "22", "22", text))));
    for (text, forms) in wrong {
        let sent = text
            .replace("%20", " ")
            .replace("%2B", "+")
            .replace("%0A", "\n")
            .replace("%09", "\t");
        for call in [
            "AuthorizeSecurityGroupIngress",
            "AuthorizeSecurityGroupEgress",
            "RevokeSecurityGroupIngress",
        ] {
            for form in &forms {
                let body = format!("Action={call}&GroupId={group}&{form}");
                let answer = world.try_as(&world.who, &body).await.err();
                let answer = answer.unwrap_or_else(|| panic!("{body} was accepted"));
                assert_eq!(
                    (answer.code.as_ref(), answer.status),
                    ("InvalidParameterValue", 400),
                    "{body}: {answer:?}"
                );
                let control = sent.contains(char::is_control);
                assert!(control || answer.message.contains(&sent), "{body}: {answer:?}");
            }
        }
    }
    assert_eq!(all_rules(&world).await, before);
}

#[tokio::test]
async fn the_same_permission_twice_is_told_from_one_that_is_there() {
    let world = World::new().await;
    let group = group(&world, "g", "").await;
    let ssh = |n: u32, protocol: &str, block: &str| {
        format!(
            "&IpPermissions.{n}.IpProtocol={protocol}&IpPermissions.{n}.FromPort=22&IpPermissions.{n}.ToPort=22&\
             IpPermissions.{n}.IpRanges.1.CidrIp={block}"
        )
    };
    let add = |rest: String| format!("Action=AuthorizeSecurityGroupIngress&GroupId={group}{rest}");
    let itself =
        |n: u32, how: &str| format!("&IpPermissions.{n}.IpProtocol=-1&IpPermissions.{n}.Groups.1.{how}");
    for rest in [
        ssh(1, "tcp", "10.0.0.0/8") + &ssh(2, "tcp", "10.0.0.0/8"),
        ssh(1, "tcp", "10.0.0.0/8") + &ssh(2, "6", "10.1.2.3/8"),
        ssh(1, "tcp", "10.0.0.0/8") + "&IpPermissions.1.IpRanges.2.CidrIp=10.0.0.0/8",
        itself(1, &format!("GroupId={group}")) + &itself(2, "GroupName=G"),
    ] {
        let answer = world.try_as(&world.who, &add(rest.clone())).await.unwrap_err();
        assert_eq!(
            (answer.code.as_ref(), answer.message.as_str()),
            (
                "InvalidParameterValue",
                "The same permission must not appear multiple times"
            ),
            "{rest}"
        );
    }
    let icmp = "&IpPermissions.1.IpProtocol=icmp&IpPermissions.1.FromPort=-1&IpPermissions.1.ToPort=-1&\
                IpPermissions.1.IpRanges.1.CidrIp=0.0.0.0/0";
    for (rest, text) in [
        (
            ssh(1, "tcp", "10.0.0.0/8"),
            "peer: 10.0.0.0/8, TCP, from port: 22, to port: 22, ALLOW".to_owned(),
        ),
        (
            icmp.into(),
            "peer: 0.0.0.0/0, ICMP, type: ALL, code: ALL, ALLOW".into(),
        ),
        (
            itself(1, &format!("GroupId={group}")),
            format!("peer: {group}, ALL, ALLOW"),
        ),
    ] {
        world.ask(&add(rest.clone())).await;
        let answer = world.try_as(&world.who, &add(rest)).await.unwrap_err();
        assert_eq!(
            (answer.code.as_ref(), answer.message),
            (
                "InvalidPermission.Duplicate",
                format!("the specified rule \"{text}\" already exists")
            )
        );
    }
}

#[tokio::test]
async fn names_are_the_same_in_any_case_and_pairs_have_ids_alone() {
    let world = World::new().await;
    let web = group(&world, "Web-1", "").await;
    for name in ["web-1", "WEB-1", "Web-1"] {
        let again = format!("Action=CreateSecurityGroup&GroupName={name}&GroupDescription=d");
        assert_eq!(world.refused(&again).await, "InvalidGroup.Duplicate", "{name}");
        let shown = world
            .ask(&format!("Action=DescribeSecurityGroups&GroupName.1={name}"))
            .await;
        assert_eq!(
            (one(&shown, "groupId"), one(&shown, "groupName")),
            (web.clone(), "Web-1".into()),
            "{name}"
        );
    }
    // In another VPC the name is free.
    let vpc = world.another_vpc().await;
    group(&world, "WEB-1", &format!("&VpcId={vpc}")).await;
    let both = "Action=DescribeSecurityGroups&GroupName.1=web-1&GroupName.2=WEB-1&GroupName.3=DEFAULT";
    assert_eq!(all(&world.ask(both).await, "groupName").len(), 2);
    let nobody = "Action=DescribeSecurityGroups&GroupName.1=web-1&GroupName.2=nobody";
    let answer = world.try_as(&world.who, nobody).await.unwrap_err();
    assert_eq!(answer.message, "The security group 'nobody' does not exist");
    world
        .ask("Action=AuthorizeSecurityGroupIngress&GroupName=wEB-1&SourceSecurityGroupName=WEB-1")
        .await;
    let shown = world
        .ask(&format!("Action=DescribeSecurityGroups&GroupId.1={web}"))
        .await;
    let pair = one(&one(&shown, "ipPermissions"), "groups");
    assert_eq!(one(&pair, "groupId"), web);
    assert!(!pair.contains("groupName"), "{pair}");
    let by_name =
        "Action=DescribeSecurityGroups&Filter.1.Name=ip-permission.group-name&Filter.1.Value.1=Web-1";
    assert_eq!(all(&world.ask(by_name).await, "groupName"), ["Web-1"]);
    world.run(1, "&SecurityGroup.1=weB-1").await;
    let gone = world.refused("Action=DeleteSecurityGroup&GroupName=WEB-1").await;
    assert_eq!(gone, "DependencyViolation");
}

/// Asked for by a filter, what can't be here is not there: every documented filter is known.
#[tokio::test]
async fn what_cant_be_here_is_asked_for_in_vain() {
    let world = World::new().await;
    for way in ["", "egress."] {
        for (name, value) in [
            ("ipv6-cidr", "::/0"),
            ("ipv6-cidr", "*"),
            ("prefix-list-id", "pl-63a5400a"),
        ] {
            let xml = world
                .ask(&format!(
                    "Action=DescribeSecurityGroups&Filter.1.Name={way}ip-permission.{name}&Filter.1.Value.1={value}"
                ))
                .await;
            assert!(xml.contains("<securityGroupInfo/>"), "{way}{name}: {xml}");
        }
    }
}
