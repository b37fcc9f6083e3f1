//! ModifySnapshotAttribute: who may make volumes of a snapshot, in either of the two ways to say it.

use async_trait::async_trait;
use cumulet_backend::api::snapshots::{self, Grantees, Sharing};
use cumulet_domain::Error;
use cumulet_wire::{
    Done,
    ec2::snapshots::{CreateVolumePermission, ModifySnapshotAttribute, ModifySnapshotAttributeRequest},
};

use super::describe_snapshot_attribute::PERMISSION;
use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id},
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
    let mut change = Sharing::default();
    if let Some(permission) = &input.create_volume_permission {
        grantees(&mut change.add, &permission.add)?;
        grantees(&mut change.remove, &permission.remove)?;
    }
    let lists = !input.user_ids.is_empty() || !input.group_names.is_empty();
    let into = match input.operation_type.as_deref() {
        Some("add") => &mut change.add,
        Some("remove") => &mut change.remove,
        None if !lists => &mut change.add,
        None => return Err(Fault::missing("OperationType")),
        Some(other) => return Err(Error::invalid("OperationType", other, "expecting add or remove").into()),
    };
    for user in &input.user_ids {
        add_user(into, user)?;
    }
    for group in &input.group_names {
        add_group(into, group)?;
    }
    if change == Sharing::default() {
        return Err(Fault::missing("CreateVolumePermission"));
    }
    Ok(change)
}

fn grantees(into: &mut Grantees, given: &[CreateVolumePermission]) -> Result<(), Fault> {
    for each in given {
        match (&each.user_id, &each.group) {
            (Some(user), None) => add_user(into, user)?,
            (None, Some(group)) => add_group(into, group)?,
            (Some(_), Some(_)) => return Err(Fault::combination("A permission is a user's or a group's")),
            (None, None) => return Err(Fault::missing("UserId")),
        }
    }
    Ok(())
}

fn add_user(into: &mut Grantees, user: &str) -> Result<(), Fault> {
    let account = user.parse();
    let account =
        account.map_err(|_| Error::invalid("UserId", user, "expecting the 12 digits of an account"))?;
    into.accounts.insert(account);
    Ok(())
}

fn add_group(into: &mut Grantees, group: &str) -> Result<(), Fault> {
    if group != "all" {
        return Err(Error::invalid("UserGroup", group, "expecting all").into());
    }
    into.all = true;
    Ok(())
}

#[cfg(test)]
mod tests {
    use cumulet_wire::ec2::snapshots::CreateVolumePermissionModifications;

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
