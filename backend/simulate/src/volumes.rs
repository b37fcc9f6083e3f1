//! Simulated clients' volumes: they are made, copied, attached, modified, detached and deleted, and snapshots of them are
//! taken, deleted and made volumes of, whatever their instances do meanwhile.

use std::fmt::Display;

use cumulet_backend::api::{
    ClientToken, Cloud as Api,
    snapshots::{self, NewSnapshot},
    volumes::{self, Detach, NewCopy, NewVolume},
};
use cumulet_domain::{
    Error, Result,
    account::Principal,
    id::VolumeId,
    volume::{EncryptionAsked, Provisioned, VolumeChange, VolumeType},
};
use futures::future::BoxFuture;

use crate::{client::Client, roles::Lost, run::setup::ZONE};

/// Volumes of a client at the most.
const MOST: usize = 4;

impl Client {
    /// Some operation on some volume; it need not be in the state for it.
    pub(crate) async fn some_volume(&mut self) {
        let dice = &self.world.dice;
        if self.volumes.len() < MOST && dice.chance(0.4) {
            return self.make_volume().await;
        }
        let Some(volume) = dice.pick(&self.volumes).copied() else {
            return;
        };
        match dice.number(0..9) {
            8.. if self.volumes.len() < MOST => self.copy_volume(volume).await,
            6.. => self.some_snapshot(volume).await,
            0..3 => {
                let Some(instance) = dice.pick(&self.mine).copied() else {
                    return;
                };
                let devices = ["/dev/sdf", "/dev/sdg", "/dev/sdh"];
                let device = dice.pick(&devices).copied().unwrap_or_default();
                let attach = move |cloud: Api, who: Principal| -> BoxFuture<'static, Result<()>> {
                    Box::pin(async move {
                        let done = volumes::attach(&cloud, &who, volume, instance, device).await;
                        done.map(drop)
                    })
                };
                self.note("attach", volume, self.ask(attach).await);
            }
            3 => {
                let change = self.some_change();
                let modify = move |cloud: Api, who: Principal| -> BoxFuture<'static, Result<()>> {
                    Box::pin(async move { volumes::modify(&cloud, &who, volume, change).await.map(drop) })
                };
                self.note("modify", volume, self.ask(modify).await);
            }
            4 => {
                let what = Detach {
                    volume,
                    instance: None,
                    device: None,
                };
                let detach = move |cloud: Api, who: Principal| -> BoxFuture<'static, Result<()>> {
                    Box::pin(async move { volumes::detach(&cloud, &who, what).await.map(drop) })
                };
                self.note("detach", volume, self.ask(detach).await);
            }
            _ => {
                let delete = move |cloud: Api, who: Principal| -> BoxFuture<'static, Result<()>> {
                    Box::pin(async move { volumes::delete(&cloud, &who, volume).await })
                };
                let answer = self.ask(delete).await;
                if matches!(answer, Ok(Ok(()) | Err(Error::NotFound { .. }))) {
                    self.volumes.retain(|other| *other != volume);
                }
                self.note("delete", volume, answer);
            }
        }
    }

    /// What a volume may be asked to become; not all of it can be.
    fn some_change(&self) -> VolumeChange {
        let dice = &self.world.dice;
        let number = |range| u32::try_from(dice.number(range)).unwrap_or(1);
        VolumeChange {
            size_gib: dice.chance(0.7).then(|| number(1..5)),
            kind: dice.chance(0.7).then_some(VolumeType::Gp3),
            throughput: dice.chance(0.5).then(|| number(125..300)),
            iops: None,
        }
    }

    /// A snapshot is taken of a volume, or one that there is is deleted.
    async fn some_snapshot(&mut self, volume: VolumeId) {
        if let Some(snapshot) = self.snapshots.pop_if(|_| self.world.dice.chance(0.3)) {
            let delete = move |cloud: Api, who: Principal| -> BoxFuture<'static, Result<()>> {
                Box::pin(async move { snapshots::delete(&cloud, &who, snapshot).await })
            };
            let answer = self.ask(delete).await;
            let done = matches!(answer, Ok(Ok(())));
            self.world
                .note(format_args!("client {}: delete {snapshot}: {done}", self.number));
            return;
        }
        let new = NewSnapshot {
            volume,
            description: String::new(),
            tags: Vec::new(),
        };
        let take = move |cloud: Api, who: Principal| -> BoxFuture<'static, Result<_>> {
            Box::pin(async move { Ok(snapshots::create(&cloud, &who, new).await?.id()) })
        };
        if let Ok(Ok(id)) = self.ask(take).await {
            self.world
                .note(format_args!("client {} takes {id} of {volume}", self.number));
            self.snapshots.push(id);
        }
    }

    /// Asks until an answer comes: the token makes it one volume. Some are made of a snapshot.
    async fn make_volume(&mut self) {
        let snapshot = match self.world.dice.chance(0.3) {
            true => self.world.dice.pick(&self.snapshots).copied(),
            false => None,
        };
        // What is made of a snapshot is encrypted where that is.
        let encrypted = (snapshot.is_none() && self.world.dice.chance(0.4)).then_some(true);
        let new = NewVolume {
            availability_zone: ZONE.into(),
            size_gib: Some(1),
            snapshot,
            kind: VolumeType::Gp2,
            provisioned: Provisioned::default(),
            encryption: EncryptionAsked { encrypted, key: None },
            tags: Vec::new(),
            client_token: Some(self.token()),
        };
        let make = move |cloud: Api, who: Principal| -> BoxFuture<'static, Result<VolumeId>> {
            let new = new.clone();
            Box::pin(async move { Ok(volumes::create(&cloud, &who, new).await?.id()) })
        };
        self.until_answered(make).await;
    }

    /// The same for a copy. Some of what is plain becomes encrypted.
    async fn copy_volume(&mut self, source: VolumeId) {
        let new = NewCopy {
            source,
            size_gib: None,
            kind: VolumeType::Gp2,
            provisioned: Provisioned::default(),
            encryption: EncryptionAsked {
                encrypted: self.world.dice.chance(0.3).then_some(true),
                key: None,
            },
            tags: Vec::new(),
            client_token: Some(self.token()),
        };
        let copy = move |cloud: Api, who: Principal| -> BoxFuture<'static, Result<VolumeId>> {
            let new = new.clone();
            Box::pin(async move { Ok(volumes::copy(&cloud, &who, new).await?.id()) })
        };
        self.until_answered(copy).await;
    }

    /// The client token of a volume that it is to have.
    fn token(&mut self) -> ClientToken {
        self.made += 1;
        ClientToken {
            token: format!("v{}-{}", self.number, self.made),
            request_hash: String::new(),
        }
    }

    async fn until_answered(
        &mut self,
        make: impl Fn(Api, Principal) -> BoxFuture<'static, Result<VolumeId>> + Clone,
    ) {
        for _ in 0..8 {
            match self.ask(make.clone()).await {
                Ok(Ok(id)) => {
                    self.world.note(format_args!("client {} has {id}", self.number));
                    return self.volumes.push(id);
                }
                Ok(Err(Error::Unavailable(_))) | Err(Lost) => self.wait().await,
                Ok(Err(_)) => return,
            }
        }
    }

    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        what: impl FnOnce(Api, Principal) -> BoxFuture<'static, Result<T>>,
    ) -> std::result::Result<Result<T>, Lost> {
        let who = self.who.clone();
        self.api.call(|cloud| what(cloud, who)).await
    }

    pub(crate) fn note(
        &self,
        what: &str,
        which: impl Display,
        answer: std::result::Result<Result<()>, Lost>,
    ) {
        let done = matches!(answer, Ok(Ok(())));
        self.world
            .note(format_args!("client {}: {what} {which}: {done}", self.number));
    }
}
