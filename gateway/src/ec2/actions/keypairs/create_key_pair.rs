//! CreateKeyPair: the private half is in the answer and nowhere else.

use async_trait::async_trait;
use cumulet_backend::api::key_pairs;
use cumulet_certs::KeyType;
use cumulet_wire::{
    Sensitive,
    ec2::keypairs::{CreateKeyPair, CreateKeyPairRequest, KeyPair},
};

use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, shown_tags, tags_for},
    },
    fault::Fault,
};

#[async_trait]
impl Action for CreateKeyPair {
    async fn run(ctx: &Ctx, input: CreateKeyPairRequest) -> Result<KeyPair, Fault> {
        let key_type = match input.key_type.as_deref() {
            None | Some("rsa") => KeyType::Rsa,
            Some("ed25519") => KeyType::Ed25519,
            Some(other) => return Err(Fault::invalid("KeyType", other, "expecting rsa or ed25519")),
        };
        match input.key_format.as_deref() {
            None | Some("pem") => {}
            Some("ppk") => {
                return Err(Fault::coded(
                    "UnsupportedOperation",
                    400,
                    "The key format ppk is not supported; use pem.",
                ));
            }
            Some(other) => return Err(Fault::invalid("KeyFormat", other, "expecting pem")),
        }
        let tags = tags_for("key-pair", input.tag_specifications)?;
        let made = key_pairs::create(&ctx.cloud, &ctx.who, &input.key_name, key_type, tags).await?;
        Ok(KeyPair {
            key_pair_id: Some(made.view.id().to_string()),
            tags: shown_tags(&made.view.tags),
            key_name: Some(made.view.row.name),
            key_fingerprint: Some(made.view.row.fingerprint),
            key_material: Some(Sensitive(made.private_pem.expose().clone())),
        })
    }
}
