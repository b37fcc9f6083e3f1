//! What a launch brings to its host, and what it says of itself when it runs.

use cumulet_domain::instance::StateReason;

use super::*;
use crate::api::instances::UserData;

#[tokio::test]
async fn user_data_that_is_sealed_in_the_database_comes_to_the_host() {
    let mut rig = Rig::start().await;
    let data = b"#!/bin/sh\n\xff\x00".to_vec();
    let id = rig
        .launch(|spec| spec.user_data = UserData::new(data.clone()).unwrap())
        .await;
    let command = rig.command(is_run).await;
    let Action::Run { spec, .. } = &command.action else {
        unreachable!()
    };
    assert_eq!((spec.id, &spec.metadata.user_data), (id, &Some(data)));
}

#[tokio::test]
async fn why_an_instance_has_no_public_address_is_told_as_long_as_it_runs() {
    let mut rig = Rig::start().await;
    rig.cloud.config = Arc::new(CloudConfig {
        public_addresses: 1,
        ..(*rig.cloud.config).clone()
    });
    for (with, code) in [(true, None), (false, Some(StateReason::ADDRESS_QUOTA))] {
        let id = rig.launch(|_| ()).await;
        let command = rig.command(is_run).await;
        rig.answer(&command, Power::On, None).await;
        let view = rig.until_state(id, State::Running).await;
        assert_eq!(view.public_ip().is_some(), with);
        assert_eq!(view.state_reason().map(|reason| reason.code).as_deref(), code);
        if !with {
            instances::stop(&rig.cloud, &rig.who, &[id], false).await.unwrap();
            let command = rig.command(|action| matches!(action, Action::Stop { .. })).await;
            rig.answer(&command, Power::Off, None).await;
            let view = rig.until_state(id, State::Stopped).await;
            assert_eq!(view.state_reason().unwrap().code, "Client.UserInitiatedShutdown");
        }
    }
}
