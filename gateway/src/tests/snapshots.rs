//! Snapshots as clients list them: by who may make volumes of them.

use super::*;

impl World {
    /// An account's snapshot of an empty volume, which these may make volumes of, as a request says it.
    async fn snapshot_for(&self, owner: &Principal, given: &str) -> String {
        let ask = async |body: &str| self.try_as(owner, body).await.unwrap();
        let volume = ask("Action=CreateVolume&AvailabilityZone=us-east-1a&Size=1").await;
        let volume = one(&volume, "volumeId");
        let made = ask(&format!("Action=CreateSnapshot&VolumeId={volume}")).await;
        let id = one(&made, "snapshotId");
        self.complete(&id).await;
        if !given.is_empty() {
            let to = format!("Attribute=createVolumePermission&CreateVolumePermission.Add.1.{given}");
            ask(&format!("Action=ModifySnapshotAttribute&SnapshotId={id}&{to}")).await;
        }
        id
    }

    async fn restorable(&self, who: &Principal, by: &[&str]) -> Vec<String> {
        let by: Vec<String> = (1..)
            .zip(by)
            .map(|(n, by)| format!("&RestorableBy.{n}={by}"))
            .collect();
        let xml = self
            .try_as(who, &format!("Action=DescribeSnapshots{}", by.concat()))
            .await;
        let mut found = all(&xml.unwrap(), "snapshotId");
        found.sort();
        found
    }
}

#[tokio::test]
async fn snapshots_are_listed_by_who_may_make_volumes_of_them() {
    let world = World::new().await;
    let (me, them) = (world.who.clone(), world.stranger());
    let (my_number, their_number) = (&*me.account.to_string(), &*them.account.to_string());
    let to = |account: &str| format!("UserId={account}");
    let mine = &*world.snapshot_for(&me, "").await;
    let given = &*world.snapshot_for(&me, &to(their_number)).await;
    let public = &*world.snapshot_for(&me, "Group=all").await;
    let theirs = &*world.snapshot_for(&them, "").await;
    let got = &*world.snapshot_for(&them, &to(my_number)).await;
    let got_by_all = &*world.snapshot_for(&them, "Group=all").await;
    for (who, by, expected) in [
        (&me, &["self"][..], &[mine, given, public, got][..]),
        (&me, &[my_number], &[mine, given, public, got]),
        (&me, &["all"], &[public, got_by_all]),
        // What I have given them: not what is theirs, nor what anybody has.
        (&me, &[their_number], &[given]),
        (&me, &["111111111111"], &[]),
        (&me, &[their_number, "all"], &[given, public, got_by_all]),
        (&me, &[], &[mine, given, public, got, got_by_all]),
        (&them, &["self"], &[theirs, got, got_by_all, given]),
        (&them, &[my_number], &[got]),
    ] {
        let mut expected: Vec<String> = expected.iter().map(|id| (*id).to_owned()).collect();
        expected.sort();
        assert_eq!(
            world.restorable(who, by).await,
            expected,
            "{} {by:?}",
            who.account
        );
    }
    for wrong in ["amazon", "1234", ""] {
        let asked = format!("Action=DescribeSnapshots&RestorableBy.1={wrong}");
        assert_eq!(world.refused(&asked).await, "InvalidParameterValue", "{wrong:?}");
    }
}
