//! Damaged rows: what is the matter with the rows of one account, or of one host, holds up nobody else.

use cumulet_compute::instance_types;
use cumulet_domain::{instance::State, message::OffReason};
use sea_orm::ConnectionTrait as _;

use super::*;

impl Instances {
    async fn damage(&self, sql: String) {
        let write = self.conductor.store.write(move |txn| {
            let sql = sql.clone();
            Box::pin(async move { txn.execute_unprepared(&sql).await.map(drop).map_err(failed) })
        });
        write.await.unwrap();
    }

    async fn launch_of_a_stranger(&self) {
        let launch = api::launch(&self.rig.cloud, &self.rig.stranger, self.rig.spec());
        launch.await.unwrap();
    }
}

#[tokio::test]
async fn the_operations_of_others_go_on() {
    for damage in [
        "instances SET state = 'lost' WHERE account =",
        "instances SET generation = -1 WHERE account =",
        "instances SET http_tags = 7 WHERE account =",
        "interfaces SET mac = -1 WHERE account =",
        "interfaces SET device_index = -1 WHERE account =",
        "interface_addresses SET address = 'nowhere' WHERE account =",
        "operations SET attempts = -1 WHERE account =",
        "operations SET generation = -1 WHERE account =",
        "subnets SET cidr = '10.0.0.0/99' WHERE account =",
        "vpcs SET cidr = 'everything' WHERE account =",
        "volumes SET state = 'lost' WHERE account =",
    ] {
        let stage = Instances::new().await;
        stage.launch_of_a_stranger().await;
        let mine = stage.launched().await;
        let account = stage.rig.stranger.account.to_db();
        stage.damage(format!("UPDATE {damage} {account}")).await;
        stage.round().await;
        stage.end(mine, Ok(())).await;
        assert_eq!(stage.row(mine.to_db()).await.state.0, State::Running, "{damage}");
    }
}

#[tokio::test]
async fn a_host_whose_row_is_damaged_is_given_nothing() {
    for damage in ["vcpus_max = -1", "enabled = 7", "tunnel_address = -1"] {
        let stage = Instances::new().await;
        stage
            .damage(format!("UPDATE hosts SET {damage} WHERE id = 'host-1'"))
            .await;
        let (cloud, who) = (&stage.rig.cloud, &stage.rig.who);
        let types = instance_types::describe(cloud, who, &["t3.nano".to_owned()]).await;
        let room = instance_types::room(cloud, who, &types.unwrap()).await;
        assert!(room.unwrap()[0].iter().any(|room| room.available > 0), "{damage}");
        for _ in 0..3 {
            let id = stage.running().await;
            assert_eq!(
                stage.row(id.to_db()).await.host.as_deref(),
                Some("host-2"),
                "{damage}"
            );
        }
    }
}

#[tokio::test]
async fn a_host_is_compared_with_the_rows_that_can_be_read() {
    // The second is no part of what is compared, and fails where it is dealt with.
    for damage in ["state = 'lost'", "http_tags = 7"] {
        let stage = Instances::new().await;
        let (one, two) = (stage.running().await, stage.running().await);
        stage
            .damage("UPDATE instances SET host = 'host-1'".to_owned())
            .await;
        let damage = format!("UPDATE instances SET {damage} WHERE id = {}", one.to_db());
        stage.damage(damage.clone()).await;
        stage.rig.pass(std::time::Duration::from_secs(40));
        let off = |instance| InstanceReport {
            instance,
            generation: 1,
            power: Power::Off,
            off_reason: Some(OffReason::GuestShutdown),
        };
        let all = ReportContent::Full(vec![off(one), off(two)]);
        stage.say("host-1", all).await;
        assert_eq!(stage.row(two.to_db()).await.state.0, State::Stopping, "{damage}");
    }
}

#[tokio::test]
async fn a_peer_that_cannot_be_read_costs_itself_alone() {
    let stage = Instances::new().await;
    let (one, two) = (stage.running().await, stage.running().await);
    for (host, id) in [("host-1", one), ("host-2", two)] {
        let here = format!("UPDATE instances SET host = '{host}' WHERE id = {}", id.to_db());
        stage.damage(here).await;
    }
    let vpc = stage.row(one.to_db()).await.vpc.to_db();
    let conn = stage.conductor.store.read();
    for (confirmed, reached) in [("42", true), ("-1", false)] {
        let hosts = "UPDATE hosts SET confirmed_tunnel = 7 WHERE id = 'host-1'".to_owned();
        stage.damage(hosts).await;
        stage
            .damage(format!(
                "UPDATE hosts SET confirmed_tunnel = {confirmed} WHERE id = 'host-2'"
            ))
            .await;
        let policy = specs::policy(conn, &HostId("host-1".into()), vpc).await.unwrap();
        assert_eq!(policy.tunnel.is_some(), reached, "{confirmed}");
        assert_eq!(policy.interfaces.len(), 1, "{confirmed}");
    }
}
