//! ModifySnapshotAttribute: who may make volumes of a snapshot, in either of the two ways to say it.

use async_trait::async_trait;
use cumulet_backend::api::snapshots::{self, Sharing};
use cumulet_domain::Error;
use cumulet_wire::{
    Done,
    ec2::snapshots::{ModifySnapshotAttribute, ModifySnapshotAttributeRequest},
};

use super::describe_snapshot_attribute::PERMISSION;
use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id},
        sharing::{Flat, asked},
    },
    fault::Fault,
};

#[async_trait]
impl Action for ModifySnapshotAttribute {
    async fn run(ctx: &Ctx, input: ModifySnapshotAttributeRequest) -> Result<Done, Fault> {
        let id = id(&input.snapshot_id)?;
        let change = change(&input)?;
        snapshots::share(&ctx.cloud, &ctx.who, id, change).await?;
        Ok(Done)
    }
}

fn change(input: &ModifySnapshotAttributeRequest) -> Result<Sharing, Fault> {
    if let Some(other) = input.attribute.as_deref().filter(|name| *name != PERMISSION) {
        return Err(Error::invalid("Attribute", other, format!("expecting {PERMISSION}")).into());
    }
    let permission = input.create_volume_permission.as_ref();
    let flat = Flat {
        operation: input.operation_type.as_deref(),
        users: &input.user_ids,
        groups: &input.group_names,
    };
    let change = asked(
        permission
            .iter()
            .flat_map(|both| &both.add)
            .map(|each| (&each.user_id, &each.group)),
        permission
            .iter()
            .flat_map(|both| &both.remove)
            .map(|each| (&each.user_id, &each.group)),
        flat,
    )?;
    if change == Sharing::default() {
        return Err(Fault::missing("CreateVolumePermission"));
    }
    Ok(change)
}

#[cfg(test)]
mod tests {
    use cumulet_wire::ec2::snapshots::{CreateVolumePermission, CreateVolumePermissionModifications};

    use super::*;

    #[test]
    fn both_ways_to_say_it_are_understood() {
        let user = |user: &str| CreateVolumePermission {
            user_id: Some(user.into()),
            group: None,
        };
        let nested = ModifySnapshotAttributeRequest {
            create_volume_permission: Some(CreateVolumePermissionModifications {
                add: vec![user("123456789012")],
                remove: vec![CreateVolumePermission {
                    user_id: None,
                    group: Some("all".into()),
                }],
            }),
            ..Default::default()
        };
        let change_of =
            |input: &ModifySnapshotAttributeRequest| change(input).map_err(|fault| fault.answer().code);
        let found = change_of(&nested).unwrap();
        assert_eq!((found.add.accounts.len(), found.remove.all), (1, true));
        let flat =
            |operation: Option<&str>, users: &[&str], groups: &[&str]| ModifySnapshotAttributeRequest {
                operation_type: operation.map(str::to_owned),
                user_ids: users.iter().map(|user| (*user).to_owned()).collect(),
                group_names: groups.iter().map(|group| (*group).to_owned()).collect(),
                ..Default::default()
            };
        let found = change_of(&flat(Some("remove"), &["123456789012"], &["all"])).unwrap();
        assert_eq!(
            (found.remove.accounts.len(), found.remove.all, found.add.all),
            (1, true, false)
        );
        for (input, code) in [
            (flat(None, &[], &[]), "MissingParameter"),
            (flat(None, &["123456789012"], &[]), "MissingParameter"),
            (flat(Some("add"), &[], &[]), "MissingParameter"),
            (flat(Some("set"), &["123456789012"], &[]), "InvalidParameterValue"),
            (flat(Some("add"), &["somebody"], &[]), "InvalidParameterValue"),
            (flat(Some("add"), &[], &["some"]), "InvalidParameterValue"),
        ] {
            assert_eq!(change_of(&input).unwrap_err(), code, "{input:?}");
        }
    }
}
