//! How an image wants to be started, and how an instance of it is.

use super::*;

#[tokio::test]
async fn an_image_and_its_instances_show_how_they_are_started() {
    for (mode, by) in [
        (BootMode::LegacyBios, "legacy-bios"),
        (BootMode::Uefi, "uefi"),
        (BootMode::UefiPreferred, "uefi"),
    ] {
        let mut world = World::new().await;
        let parts = world.cloud.parts();
        let new = images::NewImage {
            boot_mode: mode,
            ..new_image(world.who.account, "other")
        };
        world.image = images::add(&parts, new).await.unwrap().id().to_string();
        let image = format!("Action=DescribeImages&ImageId.1={}", world.image);
        assert_eq!(all(&world.ask(&image).await, "bootMode"), [mode.name()]);
        let id = world.run(1, "").await.remove(0);
        let shown = world.ask("Action=DescribeInstances").await;
        assert_eq!(all(&shown, "bootMode"), [mode.name()]);
        assert_eq!(all(&shown, "currentInstanceBootMode"), [by]);
        for (name, value) in [("boot-mode", mode.name()), ("current-instance-boot-mode", by)] {
            let filter = format!("Action=DescribeInstances&Filter.1.Name={name}&Filter.1.Value.1={value}");
            assert_eq!(
                all(&world.ask(&filter).await, "instanceId"),
                [id.as_str()],
                "{filter}"
            );
        }
    }
}
