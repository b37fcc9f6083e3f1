//! What a launch brings to its host.

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
