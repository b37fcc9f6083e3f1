//! DeleteKeyPair: succeeds where there is none, too.

use async_trait::async_trait;
use cumulet_backend::api::key_pairs::{self, KeyPairRef};
use cumulet_wire::ec2::keypairs::{DeleteKeyPair, DeleteKeyPairRequest, DeleteKeyPairResult};

use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id},
    },
    fault::Fault,
};

#[async_trait]
impl Action for DeleteKeyPair {
    async fn run(ctx: &Ctx, input: DeleteKeyPairRequest) -> Result<DeleteKeyPairResult, Fault> {
        let which = match (input.key_pair_id, input.key_name) {
            (Some(_), Some(_)) => {
                return Err(Fault::combination(
                    "Either KeyName or KeyPairId may be given, not both",
                ));
            }
            (Some(text), None) => KeyPairRef::Id(id(&text)?),
            (None, Some(name)) => KeyPairRef::Name(name),
            (None, None) => return Err(Fault::missing("KeyName")),
        };
        let gone = key_pairs::delete(&ctx.cloud, &ctx.who, which).await?;
        Ok(DeleteKeyPairResult {
            r#return: Some(true),
            key_pair_id: gone.map(|view| view.id().to_string()),
        })
    }
}
