//! RunInstances: one transaction claims the quota and writes the reservation, the instances, their volumes,
//! interfaces and addresses, tags, an operation each, and the client token. Its commit is the point of
//! no return; placement and all that is slow comes after it.

use std::sync::Arc;

use cumulet_core::{
    quota::{self, Claim},
    tag_room::room as tag_room,
};
use cumulet_domain::{
    Error, Result,
    account::{AccountId, Principal},
    id::{InstanceId, ReservationId, marker},
    instance::{Intent, State},
    metadata::MetadataOptions,
    time::Timestamp,
};
use cumulet_journal::{NewOperation, Operation as _, enqueue_new};
use cumulet_network::interface_view::InterfaceView;
use cumulet_operations::{self as operations, LaunchState, instance::target};
use cumulet_storage::{encryption, images, volumes as room};
use cumulet_store::{
    Invalidates,
    authority::{Grant, Permission},
    entity::{
        columns::{Amount, Count, Flag, Key, Named, Owner, Small},
        image, instance, interface, reservation, volume, volume_attachment,
    },
    failed, resource, tags, user_data, volumes,
};
use sea_orm::{DatabaseTransaction, EntityTrait};

use crate::{
    Compute, boxed,
    instances::{
        InstanceView, LaunchSpec, LaunchTags, ReservationView, UserData, addresses,
        launch_disks::{DataDisk, LaunchDisks},
        launch_plan::LaunchPlan,
        public_addresses, replay,
    },
};

/// The name under which client tokens of launches are kept.
pub(super) const OPERATION: &str = "RunInstances";

/// Rows of an instance beside its tags: itself, its interface and addresses, its groups, its operation.
const ROWS_EACH: usize = 5;

/// Instances whose tags are counted before it is known how many there will be.
const MOST_COUNTED: usize = 1000;

/// Launches instances: as many as fit, from `min` to `max`.
///
/// # Errors
/// `NotFound` for anything that is named and not there; `LimitExceeded`, `InsufficientCapacity`,
/// `InsufficientAddresses`, `InsufficientPublicAddresses` where those are asked for, `AddressInUse`; `IdempotentParameterMismatch`; those of the specification.
#[boxed]
pub async fn launch(compute: &Compute, who: &Principal, spec: LaunchSpec) -> Result<ReservationView> {
    let grant = compute.authorise(who, Permission::RUN_INSTANCES)?;
    spec.validate()?;
    spec.validate_keys(&encryption::key_of(compute, who.account))?;
    if let Some(token) = &spec.client_token
        && let Some(made) = token.find(compute.store.read(), who.account, OPERATION).await?
    {
        return replay::reservation(compute.store.read(), &grant, &made).await;
    }
    let wanted = &spec.tags;
    // About: the image may have more disks.
    let disks = 1 + spec.mappings.len();
    let each = wanted.instance.len() + wanted.network_interface.len() + wanted.volume.len() * disks;
    let count = usize::try_from(spec.max).unwrap_or(usize::MAX).min(MOST_COUNTED);
    let parts = compute.clone();
    let store = compute
        .store
        .writing((each + ROWS_EACH + 2 * spec.mappings.len()) * count);
    let (name, account) = (operations::Launch::NAME, Invalidates::Account(who.account));
    let asked = compute.ask(name, &store, account, move |txn| {
        Box::pin(async move {
            let view = Launch::new(&parts, &grant, &spec).run(txn).await?;
            let more = tags_of(&view, &spec.tags);
            tag_room(&parts, view.account, more).check(txn).await?;
            Ok(view)
        })
    });
    asked.await
}

/// How many tags a launch has written.
fn tags_of(made: &ReservationView, tags: &LaunchTags) -> usize {
    let each = tags.instance.len() + tags.network_interface.len();
    let of = |view: &Arc<InstanceView>| each + tags.volume.len() * view.disks.len();
    made.instances.iter().map(of).sum()
}

/// One launch under way.
struct Launch<'a> {
    compute: &'a Compute,
    grant: &'a Grant,
    account: AccountId,
    spec: &'a LaunchSpec,
    now: Timestamp,
    reservation: ReservationId,
}

impl<'a> Launch<'a> {
    fn new(compute: &'a Compute, grant: &'a Grant, spec: &'a LaunchSpec) -> Self {
        Launch {
            compute,
            grant,
            account: grant.account(),
            spec,
            now: compute.now(),
            reservation: compute.rng.id::<marker::Reservation>(),
        }
    }

    async fn run(&self, txn: &DatabaseTransaction) -> Result<ReservationView> {
        // Another request with the same token may have come in since the first look.
        if let Some(token) = &self.spec.client_token
            && let Some(made) = token.find(txn, self.account, OPERATION).await?
        {
            return replay::reservation(txn, self.grant, &made).await;
        }
        let plan = LaunchPlan::make(txn, self.grant, self.spec, &self.compute.config).await?;
        let fitting = self.fitting(txn, &plan).await?;
        let claim = quota::claim(
            txn,
            self.account,
            i64::from(plan.kind.vcpus.0),
            i64::from(self.spec.min),
            fitting,
            self.compute.config.public_address_quota(),
        )
        .await?;
        let rows = (0..u32::try_from(claim.count).unwrap_or(0)).map(|index| self.instance(&plan, index));
        let mut rows = rows.collect::<Result<Vec<_>>>()?;
        self.insert(txn, &rows).await?;
        self.compute.made(&self.reservation);
        rows.iter().for_each(|row| self.compute.made(&id_of(row)));
        let disks = self.add_volumes(txn, &plan, &rows).await?;
        let interfaces = self.attach(txn, &plan, claim, &mut rows).await?;
        self.tag(txn, &rows, &interfaces, &disks).await?;
        self.enqueue(txn, &plan, &rows, &disks).await?;
        if let Some(token) = &self.spec.client_token {
            token
                .keep(
                    txn,
                    self.account,
                    OPERATION,
                    self.reservation.to_string(),
                    self.now,
                )
                .await?;
        }
        replay::view(
            (self.account, self.reservation),
            rows,
            interfaces,
            disks,
            &plan,
            &self.spec.tags.instance,
        )
    }

    /// An operation in the journal for each instance.
    async fn enqueue(
        &self,
        txn: &DatabaseTransaction,
        plan: &LaunchPlan,
        rows: &[instance::Model],
        disks: &[Vec<volume_attachment::Model>],
    ) -> Result<()> {
        let operation = |(row, disks): (&instance::Model, &Vec<volume_attachment::Model>)| {
            let id = self.compute.rng.id::<marker::Operation>();
            let data = disks.iter().filter(|disk| !disk.is_root());
            let state = LaunchState {
                hints: self.spec.hints.clone(),
                volumes: data.map(|disk| disk.volume.0).collect(),
                volumes_gib: plan.disks.host_gib(),
                shared: plan.disks.are_shared(),
                keeps_root: !plan.disks.root.delete_on_termination,
                ..LaunchState::default()
            };
            NewOperation::of::<operations::Launch>(id, target(row, row.generation.0), &state, self.now)
        };
        let new: Vec<NewOperation> = rows.iter().zip(disks).map(operation).collect::<Result<_>>()?;
        enqueue_new(txn, &new).await
    }

    /// How many of the wanted instances there is room for, on hosts and among public addresses.
    async fn fitting(&self, txn: &DatabaseTransaction, plan: &LaunchPlan) -> Result<i64> {
        let (compute, account) = (self.compute, self.account);
        let mut fitting = plan.fit(compute, txn, account, self.spec).await?;
        let each = plan.disks.counted();
        if each.0 > 0 {
            let wanted = (self.spec.min.into(), fitting.unsigned_abs());
            let room = room::fitting(txn, compute.config.quotas, account, each, wanted);
            fitting = room.await?.cast_signed();
        }
        public_addresses::limit(txn, compute, account, plan, self.spec, fitting).await
    }

    fn instance(&self, plan: &LaunchPlan, index: u32) -> Result<instance::Model> {
        let (spec, compute) = (self.spec, self.compute);
        let id = compute.rng.id::<marker::Instance>();
        let seal = |data: &UserData| user_data::seal(&compute.rng, &compute.sealer, id, data.expose());
        let options = spec.metadata.apply(image_options(&plan.image));
        Ok(instance::Model {
            id: Key(id),
            account: Owner(self.account),
            reservation: Key(self.reservation),
            launch_index: Count(index),
            image: plan.image.id,
            instance_type: plan.kind.name.clone(),
            vcpus: plan.kind.vcpus,
            memory_mib: plan.kind.memory_mib,
            disk_gib: plan.disks.root_gib,
            state: Named(State::Pending),
            intent: Named(Intent::Running),
            generation: Amount(1),
            metadata_revision: Amount(1),
            host: None,
            claimed: Flag(false),
            // Facts of the launch for programs of before; this one goes by the interfaces.
            vpc: plan.subnet.vpc,
            subnet: plan.subnet.id,
            availability_zone: plan.subnet.availability_zone.clone(),
            key_name: plan.key.as_ref().map(|key| key.name.clone()),
            public_key: plan.key.as_ref().map(|key| key.public_key.clone()),
            user_data: None,
            shutdown_behavior: Named(spec.shutdown_behavior),
            disable_api_termination: Flag(spec.disable_api_termination),
            disable_api_stop: Flag(spec.disable_api_stop),
            http_enabled: Flag(options.enabled),
            http_tokens_required: Flag(options.tokens_required),
            http_hop_limit: Small(options.hop_limit),
            http_tags: Flag(options.tags),
            client_token: spec.client_token.as_ref().map(|token| token.token.clone()),
            reason_code: None,
            reason_message: None,
            transition_reason: None,
            launched_at: self.now.0,
            created_at: self.now.0,
            running_since: None,
            terminated_at: None,
            placement_group: plan.group.as_ref().map(|group| group.id),
            partition_number: plan.partition(spec, index),
            sealed_user_data: spec.user_data.as_ref().map(seal).transpose()?,
        })
    }

    async fn insert(&self, txn: &DatabaseTransaction, rows: &[instance::Model]) -> Result<()> {
        for row in rows {
            resource::show_new::<instance::Entity>(self.grant, row, &self.spec.tags.instance)?;
        }
        let row = reservation::Model {
            id: Key(self.reservation),
            account: Owner(self.account),
            created_at: self.now.0,
        };
        let insert = reservation::Entity::insert(reservation::ActiveModel::from(row));
        insert.exec_without_returning(txn).await.map_err(failed)?;
        // 42 columns a row; SQLite takes 32,766 parameters.
        for rows in rows.chunks(500) {
            let rows = rows.iter().cloned().map(instance::ActiveModel::from);
            let insert = instance::Entity::insert_many(rows)
                .exec_without_returning(txn)
                .await;
            insert.map_err(failed)?;
        }
        Ok(())
    }

    async fn attach(
        &self,
        txn: &DatabaseTransaction,
        plan: &LaunchPlan,
        claim: Claim,
        rows: &mut [instance::Model],
    ) -> Result<Vec<InterfaceView>> {
        let made = addresses::attach(txn, self.compute, self.spec, plan, claim, rows, self.now).await?;
        let tags = &self.spec.tags.network_interface;
        for InterfaceView { row, .. } in &made {
            resource::show_new::<interface::Entity>(self.grant, row, tags)?;
        }
        Ok(made)
    }

    /// Makes the volumes of each instance; its attachments, in the instances' order, each one's root first.
    async fn add_volumes(
        &self,
        txn: &DatabaseTransaction,
        plan: &LaunchPlan,
        rows: &[instance::Model],
    ) -> Result<Vec<Vec<volume_attachment::Model>>> {
        let LaunchDisks {
            root,
            root_key,
            data,
            store,
            ..
        } = &plan.disks;
        let (mut made, mut attached) = (Vec::new(), Vec::with_capacity(rows.len()));
        for row in rows {
            let key = root_key.of(self.compute, volumes::root_id(row))?;
            made.push(volumes::root(row, root, key));
            let mut disks = vec![volume_attachment::Model {
                delete_on_termination: Flag(root.delete_on_termination),
                ..volumes::root_attachment(row, &root.device)
            }];
            for DataDisk { disk, gib, key } in data {
                let id = self.compute.rng.id::<marker::Volume>();
                let key = key.of(self.compute, id)?;
                made.push(volume::Model {
                    store: volume::kept_as(*store),
                    ..volumes::data(row, id, (disk, *gib), key)
                });
                disks.push(volumes::data_attachment(row, id, disk));
                self.compute.made(&id);
            }
            attached.push(disks);
        }
        for volume in &made {
            resource::show_new::<volume::Entity>(self.grant, volume, &self.spec.tags.volume)?;
        }
        volumes::insert(txn, made, &attached.concat()).await?;
        Ok(attached)
    }

    async fn tag(
        &self,
        txn: &DatabaseTransaction,
        rows: &[instance::Model],
        interfaces: &[InterfaceView],
        disks: &[Vec<volume_attachment::Model>],
    ) -> Result<()> {
        use cumulet_domain::ResourceKind;
        let instances: Vec<i64> = rows.iter().map(|row| row.id.to_db()).collect();
        let interfaces: Vec<i64> = interfaces
            .iter()
            .map(|interface| interface.row.id.to_db())
            .collect();
        let volumes: Vec<i64> = disks.iter().flatten().map(|disk| disk.volume.to_db()).collect();
        let wanted = &self.spec.tags;
        for (kind, ids, new) in [
            (ResourceKind::Instance, &instances, &wanted.instance),
            (
                ResourceKind::NetworkInterface,
                &interfaces,
                &wanted.network_interface,
            ),
            (ResourceKind::Volume, &volumes, &wanted.volume),
        ] {
            if !new.is_empty() {
                tags::insert(txn, self.account, kind, ids, new).await?;
            }
        }
        Ok(())
    }
}

/// The metadata options of a launch that says nothing of them: an image may ask for tokens, which then may come by way
/// of a container.
fn image_options(row: &image::Model) -> MetadataOptions {
    let asks_for_tokens = row.imds_support.as_deref() == Some(images::IMDS_V2);
    match asks_for_tokens {
        false => MetadataOptions::default(),
        true => MetadataOptions {
            tokens_required: true,
            hop_limit: 2,
            ..MetadataOptions::default()
        },
    }
}

/// The number of a printed reservation id, from a client token's row.
pub(super) fn reservation_of(text: &str) -> Result<ReservationId> {
    text.parse::<ReservationId>()
        .map_err(|error| Error::internal(&error))
}

/// The id of a row.
pub(super) fn id_of(row: &instance::Model) -> InstanceId {
    row.id.0
}
