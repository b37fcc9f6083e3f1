//! The image of a launch: its id, or `resolve:ssm:NAME`, an alias that is resolved as the launch is asked for.

use cumulet_backend::{api::aliases, authority::Permission};
use cumulet_domain::{
    id::ImageId,
    parameter::{Reference, Selector},
};

use crate::{
    ec2::ctx::{Ctx, required_id},
    fault::Fault,
};

/// What an alias begins with.
const RESOLVE: &str = "resolve:ssm:";

/// Characters of an alias that a refusal repeats.
const SHOWN: usize = 300;

/// The image that `ImageId` stands for. Whoever names an alias needs `ssm:GetParameters`, as on AWS.
///
/// # Errors
/// `MissingParameter`; `InvalidAMIID.Malformed`; `SsmInvalidParameter` for an alias that is not there, or not in the
/// version that is asked for.
pub(super) async fn image_id(ctx: &Ctx, text: Option<&str>) -> Result<ImageId, Fault> {
    let Some(alias) = text.and_then(|text| text.strip_prefix(RESOLVE)) else {
        return Ok(required_id(text, "ImageId")?);
    };
    let asked = Reference::parse(alias, ctx.region());
    let names = [asked.name];
    let rows = aliases::named(&ctx.cloud, &ctx.who, Permission::GET_PARAMETERS, &names).await?;
    let found = rows.first().filter(|row| match asked.selector {
        None => true,
        Some(Selector::Version(version)) => version == row.version.0,
        Some(Selector::Label(_)) => false,
    });
    found.map(|row| row.image.0).ok_or_else(|| {
        let shown: String = alias.chars().take(SHOWN).collect();
        let message = format!("The following aliases are invalid: {shown}");
        Fault::coded("SsmInvalidParameter", 400, message)
    })
}
