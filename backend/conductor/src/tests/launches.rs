//! What a launch brings to its host, and what it says of itself when it runs.

use std::sync::Arc;

use cumulet_compute::instances::{self, UserData};
use cumulet_core::{CloudConfig, Quotas};
use cumulet_domain::{
    id::{HostId, NetworkInterfaceId},
    image::DiskFormat,
    instance::{State, StateReason},
    message::{Action, Power},
    spec::DiskSource,
    volume::{
        AttachmentState, Disk, DiskAsked, Mapped, Mapping, Provisioned, ROOT_DEVICE, VolumeStore, VolumeType,
    },
};
use cumulet_operations::specs as host_specs;
use cumulet_store::{
    entity::{
        columns::{Count, Key, Named},
        instance, interface_address, volume,
    },
    failed, volumes,
};
use sea_orm::EntityTrait;

use crate::tests::{
    interfaces::{SECOND, second_interface},
    *,
};

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
async fn disks_and_interfaces_come_to_the_host_as_lists() {
    let mut rig = Rig::start().await;
    let id = rig.launch(|_| ()).await;
    let command = rig.command(is_run).await;
    let Action::Run { spec, policy } = &command.action else {
        unreachable!()
    };
    let [disk] = spec.disks.as_slice() else {
        panic!("{:?}", spec.disks);
    };
    assert_eq!((disk.device.as_str(), disk.boot_order), ("/dev/xvda", Some(1)));
    assert_eq!(disk.serial(), format!("vol0{:016x}", id.number()));
    assert!(disk.image().is_some() && disk.size_gib > 0);
    let [nic] = spec.nics.as_slice() else {
        panic!("{:?}", spec.nics);
    };
    assert_eq!((nic.device_index, nic.vpc), (0, policy.vpc));
    assert_eq!(nic.interface.id, spec.metadata.interfaces[0].id);
    assert_eq!(command.version(), 1, "a worker of before understands it");
}

#[tokio::test]
async fn a_root_is_as_fast_as_its_type() {
    let mut rig = Rig::start().await;
    for (kind, asked) in [
        (VolumeType::Gp2, Provisioned::default()),
        (VolumeType::Gp3, Provisioned::default()),
        (
            VolumeType::Gp3,
            Provisioned {
                iops: Some(3000),
                throughput: Some(250),
            },
        ),
        (VolumeType::Standard, Provisioned::default()),
    ] {
        let root = Mapping {
            device: ROOT_DEVICE.into(),
            content: Mapped::Volume(DiskAsked {
                kind: Some(kind),
                provisioned: asked,
                ..DiskAsked::default()
            }),
        };
        rig.launch(|spec| spec.mappings = vec![root]).await;
        let command = rig.command(is_run).await;
        let Action::Run { spec, .. } = &command.action else {
            unreachable!()
        };
        let disk = &spec.disks[0];
        let size = u32::try_from(disk.size_gib).unwrap();
        assert_eq!(disk.throttle, kind.throttle(size, asked));
        assert_eq!(command.version(), 1, "a worker of before understands it");
    }
}

#[tokio::test]
async fn volumes_that_are_attached_come_to_the_host_beside_the_root() {
    let mut rig = Rig::start().await;
    let id = rig.running(|_| ()).await;
    let row = instance::Entity::find_by_id(Key(id));
    let row = row.one(rig.cloud.store.read()).await.unwrap().unwrap();
    let (mut made, mut attached) = (Vec::new(), Vec::new());
    for (number, device, state) in [
        (1, "/dev/sdf", AttachmentState::Attached),
        (2, "/dev/sdg", AttachmentState::Detaching),
        (3, "/dev/sdh", AttachmentState::Attaching),
    ] {
        let mut data = volumes::root(&row, &Disk::root(device), None);
        (data.id, data.image, data.size_gib) = (Key::from_db(number), None, Count(3));
        (data.iops, data.throughput) = (Some(Count(4000)), Some(Count(2)));
        data.host = Some("host-a".to_owned());
        data.made_at = (number == 3).then_some(1);
        made.push(data);
        let mut attachment = volumes::root_attachment(&row, device);
        (attachment.volume, attachment.boot_index) = (Key::from_db(number), None);
        attachment.state = Named(state);
        attached.push(attachment);
    }
    let insert = rig.cloud.store.write(move |txn| {
        let (made, attached) = (made.clone(), attached.clone());
        Box::pin(async move {
            for row in made.into_iter().map(volume::ActiveModel::from) {
                let insert = volume::Entity::insert(row).exec_without_returning(txn);
                insert.await.map_err(failed)?;
            }
            volumes::insert(txn, Vec::new(), &attached).await
        })
    });
    insert.await.unwrap();
    instances::stop(&rig.cloud, &rig.who, &[id], false).await.unwrap();
    let stop = rig.command(|action| matches!(action, Action::Stop { .. })).await;
    rig.answer(&stop, Power::Off, None).await;
    rig.until_state(id, State::Stopped).await;
    instances::start(&rig.cloud, &rig.who, &[id]).await.unwrap();
    let command = rig.command(is_run).await;
    let Action::Run { spec, .. } = &command.action else {
        unreachable!()
    };
    let devices: Vec<_> = spec.disks.iter().map(|disk| disk.device.as_str()).collect();
    assert_eq!(devices, ["/dev/xvda", "/dev/sdf", "/dev/sdh"]);
    for (disk, create) in spec.disks[1..].iter().zip([true, false]) {
        let format = DiskFormat::Qcow2;
        let source = DiskSource::Volume {
            store: VolumeStore::Local,
            format,
            create,
            generation: 1,
            from: None,
        };
        assert_eq!(disk.source, source);
        assert_eq!((disk.size_gib, disk.boot_order), (3, None));
        assert_eq!(
            (disk.throttle.bytes, disk.throttle.operations),
            (Some(2 << 20), Some(4000))
        );
    }
    assert_eq!(spec.disks[1].serial(), "vol00000000000000001");
    assert_eq!(
        command.version(),
        2,
        "a worker of before would run it without them"
    );
}

#[tokio::test]
async fn why_an_instance_has_no_public_address_is_told_as_long_as_it_runs() {
    let mut rig = Rig::start().await;
    rig.cloud.compute.cx.config = Arc::new(CloudConfig {
        public_addresses: 1,
        quotas: Quotas::default(),
        modification_cooldown: std::time::Duration::ZERO,
        volume_store: cumulet_domain::volume::VolumeStore::Local,
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

/// An instance's network is that of its interfaces: each VPC's policy has the ones in it, with their own addresses.
#[tokio::test]
async fn a_second_interface_is_served_in_its_own_vpc_and_goes_with_its_instance() {
    let mut rig = Rig::start().await;
    let id = rig.running(|_| ()).await;
    let first = rig.view(id).await.interfaces[0].clone();
    second_interface(&rig, id).await;

    let conn = rig.cloud.store.read();
    let host = HostId(rig.host().await.unwrap().id);
    let served = async |vpc| {
        let policy = host_specs::policy(conn, &host, vpc).await.unwrap();
        let own = policy.interfaces.into_iter().map(|one| (one.id, one.private_ip));
        own.collect::<Vec<_>>()
    };
    assert_eq!(
        served(first.row.vpc.to_db()).await,
        [(first.id(), first.private_ip())]
    );
    assert_eq!(
        served(SECOND.to_db()).await,
        [(NetworkInterfaceId::from_db(779), [10, 66, 0, 9].into())]
    );
    let second = rig.view(id).await.interfaces[1].clone();
    let secondary = &second.addresses.secondary;
    assert_eq!(second.private_ip(), std::net::Ipv4Addr::new(10, 66, 0, 9));
    assert_eq!(secondary.len(), 1);
    assert_eq!(secondary[0].private, std::net::IpAddr::from([10, 66, 0, 10]));

    instances::terminate(&rig.cloud, &rig.who, &[id]).await.unwrap();
    let command = rig
        .command(|action| matches!(action, Action::Destroy { .. }))
        .await;
    rig.answer(&command, Power::Absent, None).await;
    rig.until_state(id, State::Terminated).await;
    let left = interface_address::Entity::find()
        .all(rig.cloud.store.read())
        .await;
    assert_eq!(left.unwrap(), []);
}
