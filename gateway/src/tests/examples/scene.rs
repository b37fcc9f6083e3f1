//! The scene of the examples: two accounts, each with one of everything.

use std::collections::BTreeMap;

use cumulet_backend::api::aliases;
use cumulet_domain::ResourceKind;

use super::*;

/// Names in braces and the ids that they stand for.
pub(super) type Names = BTreeMap<&'static str, String>;

/// Two accounts.
pub(super) struct Scene {
    pub(super) world: World,
    /// What the account has that asks.
    pub(super) own: Names,
    /// What another one has.
    pub(super) theirs: Names,
}

impl Scene {
    pub(super) async fn new() -> Scene {
        let world = World::new().await;
        let zones = ["us-east-1a".to_owned()];
        let other = accounts::create_account(&world.cloud.parts(), "other", &zones)
            .await
            .unwrap();
        let them = Principal {
            account: other.id.0,
            ..world.stranger()
        };
        let image = add_image(&world.cloud.parts(), them.account).await;
        let theirs = fill(&world, &them, &image).await;
        let own = fill(&world, &world.who, &world.image).await;
        for name in ["oldest", "older", "latest"] {
            let name = format!("/aws/service/tiny/{name}");
            aliases::set(&world.cloud.parts(), &name, world.image.parse().unwrap())
                .await
                .unwrap();
        }
        Scene { world, own, theirs }
    }

    /// The parameters of an example.
    pub(super) fn parameters(&self, example: &Example) -> String {
        self.filled(example.parameters)
    }

    /// Parameters with what is named of the scene.
    pub(super) fn filled(&self, parameters: &str) -> String {
        replaced(parameters, &self.own)
    }

    /// The parameters of an example with each of its ids in turn replaced: by what, and of which kind.
    pub(super) fn each_id<'s>(
        &'s self,
        example: &'s Example,
        by: impl Fn(&'static str, &str) -> String + 's,
    ) -> impl Iterator<Item = (String, String, ResourceKind)> + 's {
        let named = self
            .own
            .iter()
            .filter(|(name, _)| example.parameters.contains(&format!("{{{name}}}")));
        named.map(move |(&name, id)| {
            let other = by(name, id);
            let mut names = self.own.clone();
            names.insert(name, other.clone());
            let kind = ResourceKind::of(id).unwrap();
            (replaced(example.parameters, &names), other, kind)
        })
    }
}

fn replaced(parameters: &str, names: &Names) -> String {
    let mut text = parameters.to_owned();
    for (name, id) in names {
        text = text.replace(&format!("{{{name}}}"), id);
    }
    assert!(!text.contains("={"), "{text} names what is not in the scene");
    text
}

/// One of everything.
async fn fill(world: &World, who: &Principal, image: &str) -> Names {
    let ask = async |body: &str| {
        let answer = world.try_as(who, body).await;
        answer.unwrap_or_else(|refusal| panic!("{body}: {refusal:?}"))
    };
    let group = ask("Action=CreateSecurityGroup&GroupName=web&GroupDescription=x").await;
    let group = one(&group, "groupId");
    let rule = ask(&format!(
        "Action=AuthorizeSecurityGroupIngress&GroupId={group}&IpPermissions.1.IpProtocol=-1&\
         IpPermissions.1.IpRanges.1.CidrIp=10.0.0.0/8"
    ))
    .await;
    let key = ask("Action=CreateKeyPair&KeyName=k&KeyType=ed25519").await;
    let placement = ask("Action=CreatePlacementGroup&GroupName=p&Strategy=spread").await;
    let launch = format!("Action=RunInstances&ImageId={image}&MinCount=2&MaxCount=2&InstanceType=t3.nano");
    let tags = "TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=a";
    let launched = ask(&format!("{launch}&{tags}")).await;
    let ids = all(&launched, "instanceId");
    world.settle(&ids[0], "running").await;
    world.settle(&ids[1], "stopped").await;
    let volume = "Action=CreateVolume&AvailabilityZone=us-east-1a&Size=4";
    let volumes = [
        one(&ask(volume).await, "volumeId"),
        one(&ask(volume).await, "volumeId"),
        one(&ask(volume).await, "volumeId"),
    ];
    ask(&format!("Action=ModifyVolume&VolumeId={}&Size=5", volumes[2])).await;
    let attach = format!(
        "Action=AttachVolume&VolumeId={}&InstanceId={}",
        volumes[1], ids[0]
    );
    ask(&format!("{attach}&Device=/dev/sdf")).await;
    let snapshot = ask(&format!("Action=CreateSnapshot&VolumeId={}", volumes[0])).await;
    let snapshot = one(&snapshot, "snapshotId");
    world.complete(&snapshot).await;
    // Of a snapshot of its own: the other may be deleted.
    let kept = ask(&format!("Action=CreateSnapshot&VolumeId={}", volumes[0])).await;
    let kept = one(&kept, "snapshotId");
    world.complete(&kept).await;
    let root = "RootDeviceName=/dev/xvda&BlockDeviceMapping.1.DeviceName=/dev/xvda";
    let made = ask(&format!(
        "Action=RegisterImage&Name=made&{root}&BlockDeviceMapping.1.Ebs.SnapshotId={kept}&\
         TagSpecification.1.ResourceType=image&TagSpecification.1.Tag.1.Key=a"
    ))
    .await;
    BTreeMap::from([
        ("image", image.to_owned()),
        ("instance", ids[0].clone()),
        ("stopped", ids[1].clone()),
        ("volume", volumes[0].clone()),
        ("attached", volumes[1].clone()),
        ("snapshot", snapshot),
        ("made-image", one(&made, "imageId")),
        ("modified", volumes[2].clone()),
        ("interface", one(&launched, "networkInterfaceId")),
        ("subnet", one(&launched, "subnetId")),
        ("vpc", one(&launched, "vpcId")),
        ("group", group),
        ("rule", one(&rule, "securityGroupRuleId")),
        ("key", one(&key, "keyPairId")),
        ("placement", one(&placement, "groupId")),
    ])
}
