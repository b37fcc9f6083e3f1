//! Simulated clients' images: they are made of instances, whatever those do meanwhile, and deregistered with their
//! snapshots.

use cumulet_backend::api::{
    Cloud as Api,
    images::{self, CreatedImage},
};
use cumulet_domain::{Result, account::Principal};
use futures::future::BoxFuture;

use crate::client::Client;

impl Client {
    /// An image is made of some instance, which need not be in the state for it, or one that there is is deregistered.
    pub(crate) async fn some_image(&mut self) {
        if let Some(image) = self.images.pop_if(|_| self.world.dice.chance(0.4)) {
            let end = move |cloud: Api, who: Principal| -> BoxFuture<'static, Result<()>> {
                Box::pin(async move { images::deregister(&cloud, &who, image, true).await.map(drop) })
            };
            return self.note("deregister", image, self.ask(end).await);
        }
        let Some(instance) = self.world.dice.pick(&self.mine).copied() else {
            return;
        };
        self.made += 1;
        let new = CreatedImage {
            instance,
            name: format!("image {}-{}", self.number, self.made),
            description: String::new(),
            no_reboot: self.world.dice.chance(0.3),
            disks: Vec::new(),
            tags: Vec::new(),
            snapshot_tags: Vec::new(),
        };
        let make = move |cloud: Api, who: Principal| -> BoxFuture<'static, Result<_>> {
            Box::pin(async move { images::create(&cloud, &who, new).await })
        };
        if let Ok(Ok(id)) = self.ask(make).await {
            self.world
                .note(format_args!("client {} makes {id} of {instance}", self.number));
            self.images.push(id);
        }
    }
}
