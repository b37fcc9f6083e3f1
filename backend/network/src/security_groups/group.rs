//! Creating and deleting of security groups.

use cumulet_core::{RequestContext, tag_room::room as tag_room};
use cumulet_domain::{
    Error, ResourceKind, Result,
    account::Principal,
    error::Limit,
    id::{SecurityGroupId, VpcId, marker},
    tag::Tag,
};
use cumulet_store::{
    authority::{Grant, Permission},
    entity::{
        columns::{Flag, Key, Owner},
        interface_group, security_group, security_group_rule, vpc,
    },
    failed, groups, is_taken, lock, networks,
    resource::{self, Lock},
    rows, tags,
};
use sea_orm::{ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, PaginatorTrait, QueryFilter};

use crate::{
    boxed,
    default_network::egress_to_everywhere,
    security_groups::{GroupName, GroupView, MAX_GROUPS, describe},
};

/// A group that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewGroup {
    /// Unique in its VPC, in whatever case it is written.
    pub name: String,
    /// In the same characters as names.
    pub description: String,
    /// Without one the default VPC.
    pub vpc: Option<VpcId>,
    /// For the group.
    pub tags: Vec<Tag>,
}

/// Makes a group; its members reach everything and nothing reaches them.
///
/// # Errors
/// `Duplicate`, `NotFound` (the VPC), `NoDefaultVpc`, `LimitExceeded`, `InvalidParameter`.
#[boxed]
pub async fn create(cx: &RequestContext, who: &Principal, new: NewGroup) -> Result<GroupView> {
    let grant = cx.authorise(who, Permission::CREATE_SECURITY_GROUP)?;
    check_text("GroupName", &new.name)?;
    if new.name.starts_with("sg-") || new.name.eq_ignore_ascii_case("default") {
        let reason = "the name 'default' and names that start with 'sg-' are reserved";
        return Err(Error::invalid("GroupName", &new.name, reason));
    }
    check_text("GroupDescription", &new.description)?;
    tags::validate(&new.tags)?;
    let room = tag_room(cx, who.account, new.tags.len());
    let cx = cx.clone();
    let store = cx.store.clone();
    let write = store.write(move |txn| {
        Box::pin(async move {
            let view = insert(txn, &cx, &grant, new).await?;
            room.check(txn).await?;
            Ok(view)
        })
    });
    write.await
}

/// CreateSecurityGroup's rule for names and descriptions: up to 255 characters of
/// `a-z A-Z 0-9 spaces ._-:/()#,@[]+=&;{}!$*`.
pub(super) fn check_text(parameter: &str, text: &str) -> Result<()> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || b" ._-:/()#,@[]+=&;{}!$*".contains(&b);
    let blank = parameter == "GroupName" && text.trim() != text;
    if text.is_empty() || text.len() > 255 || !text.bytes().all(fine) || blank {
        let reason = "expecting 1 to 255 of a-z, A-Z, 0-9, spaces and ._-:/()#,@[]+=&;{}!$*";
        return Err(Error::invalid(parameter, text, reason));
    }
    Ok(())
}

async fn insert(
    txn: &DatabaseTransaction,
    cx: &RequestContext,
    grant: &Grant,
    new: NewGroup,
) -> Result<GroupView> {
    let account = grant.account();
    let now = cx.now();
    // Locked, so that those who count come one after the other.
    let vpc = vpc(txn, grant, new.vpc).await?;
    let count = security_group::Entity::find().filter(security_group::Column::Vpc.eq(vpc.id));
    if count.count(txn).await.map_err(failed)? >= MAX_GROUPS {
        return Err(Error::LimitExceeded {
            limit: Limit::SecurityGroups,
            max: MAX_GROUPS,
        });
    }
    let taken = |name: String| Error::Duplicate {
        kind: ResourceKind::SecurityGroup,
        name,
    };
    // Nobody else makes a group of the VPC now; equal names meet the unique key as well.
    if groups::name_is_taken(txn, vpc.id.to_db(), &new.name).await? {
        return Err(taken(new.name));
    }
    let id = cx.rng.id::<marker::SecurityGroup>();
    let row = security_group::Model {
        id: Key(id),
        account: Owner(account),
        vpc: vpc.id,
        name: new.name,
        description: new.description,
        is_default: Flag(false),
        created_at: now.0,
    };
    resource::show_new::<security_group::Entity>(grant, &row, &new.tags)?;
    let insert = security_group::Entity::insert(security_group::ActiveModel::from(row.clone()));
    insert.exec_without_returning(txn).await.map_err(|error| {
        if is_taken(&error) {
            taken(row.name.clone())
        } else {
            failed(error)
        }
    })?;
    cx.made(&id);
    let egress = groups::rule_row(&cx.rng, now, account, id, egress_to_everywhere(), "")?;
    groups::insert_rules(txn, vec![egress]).await?;
    tags::insert(
        txn,
        account,
        ResourceKind::SecurityGroup,
        &[row.id.to_db()],
        &new.tags,
    )
    .await?;
    let mut views = describe::views(txn, vec![row]).await?;
    views
        .pop()
        .ok_or_else(|| Error::Internal("a row has no view".into()))
}

/// The VPC of a new group, locked.
async fn vpc(txn: &impl ConnectionTrait, grant: &Grant, id: Option<VpcId>) -> Result<vpc::Model> {
    if let Some(id) = id {
        return resource::find::<vpc::Entity>(txn, grant, id, Lock::Exclusive).await;
    }
    let default = networks::is_default_vpc(grant);
    let row = resource::one::<vpc::Entity>(txn, grant, default, Lock::Exclusive).await?;
    row.ok_or(Error::NoDefaultVpc)
}

/// Deletes a group and answers which it was.
///
/// # Errors
/// `NotFound`; `Protected` for a default group; `InUse` while an interface is in it or another group's
/// rule names it.
#[boxed]
pub async fn delete(cx: &RequestContext, who: &Principal, which: &GroupName) -> Result<SecurityGroupId> {
    let grant = cx.authorise(who, Permission::DELETE_SECURITY_GROUP)?;
    let (which, call) = (which.clone(), cx.clone());
    let write = cx.store.write(move |txn| {
        Box::pin(async move {
            let row = changing(txn, &grant, &which).await?;
            remove(txn, &row).await?;
            let id = row.id.0;
            call.made(&id);
            Ok(id)
        })
    });
    let id = write.await?;
    cx.wake.hosts();
    Ok(id)
}

async fn remove(txn: &DatabaseTransaction, row: &security_group::Model) -> Result<()> {
    use security_group_rule::Column as C;
    let id = row.id.0.to_string();
    if row.is_default.0 {
        let reason = "the default group of a VPC can't be deleted".into();
        return Err(Error::Protected { id, reason });
    }
    let members = interface_group::Entity::find().filter(interface_group::Column::SecurityGroup.eq(row.id));
    let members = members.count(txn).await.map_err(failed)?;
    let named = security_group_rule::Entity::find()
        .filter(C::PeerGroup.eq(row.id))
        .filter(C::SecurityGroup.ne(row.id));
    let named = rows::one(named, txn).await?;
    let by = match (members, named) {
        (0, None) => None,
        (0, Some(rule)) => Some(rule.security_group.0.to_string()),
        (n, _) => Some(format!("{n} network interfaces")),
    };
    if let Some(by) = by {
        return Err(Error::InUse {
            kind: ResourceKind::SecurityGroup,
            id,
            by,
        });
    }
    let rules = security_group_rule::Entity::find().filter(C::SecurityGroup.eq(row.id));
    let rules: Vec<i64> = rows::all(rules, txn)
        .await?
        .iter()
        .map(|rule| rule.id.to_db())
        .collect();
    let delete = security_group_rule::Entity::delete_many().filter(C::SecurityGroup.eq(row.id));
    delete.exec(txn).await.map_err(failed)?;
    tags::remove(txn, ResourceKind::SecurityGroupRule, &rules).await?;
    security_group::Entity::delete_by_id(row.id)
        .exec(txn)
        .await
        .map_err(failed)?;
    tags::remove(txn, ResourceKind::SecurityGroup, &[row.id.to_db()]).await
}

/// A group of the account, for a transaction that changes it, its rules or who is in it. Its VPC has the next
/// policy from now on, and is locked by that: no other transaction changes groups of the VPC until this one
/// ends.
pub(super) async fn changing(
    txn: &impl ConnectionTrait,
    grant: &Grant,
    which: &GroupName,
) -> Result<security_group::Model> {
    let row = find(txn, grant, which).await?;
    groups::bump_policy(txn, [row.vpc]).await?;
    if lock::needed(txn) {
        // It may have been deleted before the lock was had.
        return find(txn, grant, which).await;
    }
    Ok(row)
}

/// A group of the account.
async fn find(txn: &impl ConnectionTrait, grant: &Grant, which: &GroupName) -> Result<security_group::Model> {
    let name = match which {
        GroupName::Id(id) => {
            return resource::find::<security_group::Entity>(txn, grant, *id, Lock::None).await;
        }
        GroupName::Name(name) => name,
    };
    let vpc = networks::default_vpc(txn, grant)
        .await?
        .ok_or(Error::NoDefaultVpc)?;
    let vpc = vpc.id.0;
    let mut rows = groups::by_names(txn, grant, vpc, std::slice::from_ref(name)).await?;
    resource::show::<security_group::Entity>(txn, grant, &rows).await?;
    rows.pop()
        .ok_or_else(|| Error::Internal("a row that was there is gone".into()))
}
