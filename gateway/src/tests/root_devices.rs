//! A root device is called as its image says, at every door, and never after the guest's bus.

use cumulet_backend::store::Invalidates;
use sea_orm::ConnectionTrait as _;

use super::*;

/// The rows say so by themselves, as a program of before has written them.
async fn write(world: &World, device: &'static str) {
    let write = world.cloud.store.write_with(Invalidates::Everything, move |txn| {
        Box::pin(async move {
            for (table, column) in [("images", "root_device"), ("volume_attachments", "device")] {
                let sql = format!("UPDATE {table} SET {column} = '{device}'");
                txn.execute_unprepared(&sql).await.map_err(failed)?;
            }
            Ok(())
        })
    });
    write.await.unwrap();
}

#[tokio::test]
async fn every_door_names_a_root_as_its_image_does() {
    for (kept, named) in [
        ("/dev/xvda", "/dev/xvda"),
        ("/dev/sda1", "/dev/sda1"),
        ("/dev/sda", "/dev/sda"),
        ("/dev/vda", "/dev/xvda"),
    ] {
        let world = World::new().await;
        write(&world, kept).await;
        let mapping =
            format!("&BlockDeviceMapping.1.DeviceName={named}&BlockDeviceMapping.1.Ebs.VolumeSize=20");
        let id = world.run(1, &mapping).await.remove(0);
        world.settle(&id, "running").await;
        write(&world, kept).await;
        for (asked, element) in [
            ("Action=DescribeImages".to_owned(), "rootDeviceName"),
            ("Action=DescribeImages".to_owned(), "deviceName"),
            ("Action=DescribeInstances".to_owned(), "rootDeviceName"),
            ("Action=DescribeInstances".to_owned(), "deviceName"),
            ("Action=DescribeVolumes".to_owned(), "device"),
            (
                format!("Action=DescribeInstanceAttribute&InstanceId={id}&Attribute=blockDeviceMapping"),
                "deviceName",
            ),
        ] {
            let answer = world.ask(&asked).await;
            assert_eq!(all(&answer, element), [named], "{kept}: {asked}: {answer}");
            assert!(!answer.contains("/dev/vda"), "{asked}: {answer}");
        }
        let name = "Action=DescribeInstanceAttribute&Attribute=rootDeviceName";
        let answer = world.ask(&format!("{name}&InstanceId={id}")).await;
        let shown = format!("<rootDeviceName><value>{named}</value></rootDeviceName>");
        assert!(answer.contains(&shown), "{answer}");
        let by_name =
            format!("Action=DescribeInstances&Filter.1.Name=root-device-name&Filter.1.Value.1={named}");
        assert_eq!(all(&world.ask(&by_name).await, "instanceId"), [id]);
    }
}
