//! ModifyInstanceMetadataOptions: how the instance may ask the metadata service.

use async_trait::async_trait;
use cumulet_backend::api::instances::{self, MetadataChange};
use cumulet_wire::ec2::instances::{
    ModifyInstanceMetadataOptions, ModifyInstanceMetadataOptionsRequest, ModifyInstanceMetadataOptionsResult,
};

use crate::{
    ec2::{
        action::Action,
        ctx::{Ctx, id},
        render,
    },
    fault::Fault,
};

#[async_trait]
impl Action for ModifyInstanceMetadataOptions {
    async fn run(
        ctx: &Ctx,
        input: ModifyInstanceMetadataOptionsRequest,
    ) -> Result<ModifyInstanceMetadataOptionsResult, Fault> {
        let id = id(&input.instance_id)?;
        let change = Asked {
            tokens: input.http_tokens.as_deref(),
            hop_limit: input.http_put_response_hop_limit,
            endpoint: input.http_endpoint.as_deref(),
            tags: input.instance_metadata_tags.as_deref(),
        }
        .change("")?;
        if change == MetadataChange::default() {
            return Err(Fault::missing("HttpTokens"));
        }
        let view = instances::modify_metadata_options(&ctx.cloud, &ctx.who, id, change).await?;
        Ok(ModifyInstanceMetadataOptionsResult {
            instance_id: Some(view.id().to_string()),
            instance_metadata_options: Some(render::instance::metadata_options(&view)),
        })
    }
}

/// Metadata options as they are asked for, here and by RunInstances.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked<'a> {
    pub(super) tokens: Option<&'a str>,
    pub(super) hop_limit: Option<i32>,
    pub(super) endpoint: Option<&'a str>,
    pub(super) tags: Option<&'a str>,
}

impl Asked<'_> {
    /// The change; `prefix` goes before the parameters' names in errors.
    pub(super) fn change(self, prefix: &str) -> Result<MetadataChange, Fault> {
        let choose = |name: &str, value: Option<&str>, on: &str, off: &str| match value {
            None => Ok(None),
            Some(value) if value == on => Ok(Some(true)),
            Some(value) if value == off => Ok(Some(false)),
            Some(value) => Err(Fault::invalid(
                &format!("{prefix}{name}"),
                value,
                format!("expecting {on} or {off}"),
            )),
        };
        let hop_limit = self.hop_limit.map(|n| match u8::try_from(n) {
            Ok(n @ 1..=64) => Ok(n),
            _ => Err(Fault::invalid(
                &format!("{prefix}HttpPutResponseHopLimit"),
                &n.to_string(),
                "expecting a number from 1 to 64",
            )),
        });
        Ok(MetadataChange {
            enabled: choose("HttpEndpoint", self.endpoint, "enabled", "disabled")?,
            tokens_required: choose("HttpTokens", self.tokens, "required", "optional")?,
            hop_limit: hop_limit.transpose()?,
            tags: choose("InstanceMetadataTags", self.tags, "enabled", "disabled")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_switches() {
        let asked = Asked {
            tokens: Some("required"),
            hop_limit: Some(3),
            endpoint: Some("disabled"),
            tags: None,
        };
        let change = asked.change("").unwrap();
        assert_eq!(change.tokens_required, Some(true));
        assert_eq!(change.enabled, Some(false));
        assert_eq!((change.hop_limit, change.tags), (Some(3), None));
        for bad in [
            Asked {
                tokens: Some("maybe"),
                ..Asked::default()
            },
            Asked {
                hop_limit: Some(0),
                ..Asked::default()
            },
            Asked {
                hop_limit: Some(65),
                ..Asked::default()
            },
            Asked {
                hop_limit: Some(-1),
                ..Asked::default()
            },
            Asked {
                endpoint: Some("Enabled"),
                ..Asked::default()
            },
        ] {
            assert!(bad.change("MetadataOptions.").is_err(), "{bad:?}");
        }
    }
}
