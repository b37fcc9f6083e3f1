//! DescribeKeyPairs: the public halves. The operation has no pages.

use async_trait::async_trait;
use cumulet_backend::api::{
    Page, PageRequest,
    key_pairs::{self, KeyPairQuery, KeyPairView},
};
use cumulet_wire::{
    Timestamp,
    ec2::keypairs::{DescribeKeyPairs, DescribeKeyPairsRequest, KeyPairInfo},
};

use crate::{
    ec2::{
        ctx::{Ctx, ids, shown_tags},
        describe::Describe,
        filter::{Filters, Keyed},
    },
    fault::Fault,
};

type Row = Keyed<String, KeyPairInfo>;

#[async_trait]
impl Describe for DescribeKeyPairs {
    type Row = Row;

    async fn load(
        ctx: &Ctx,
        input: &DescribeKeyPairsRequest,
        _: &Filters<Row>,
        _: PageRequest<String>,
    ) -> Result<Page<Row, String>, Fault> {
        let query = KeyPairQuery {
            ids: ids(&input.key_pair_ids)?,
            names: input.key_names.clone(),
        };
        let rows = key_pairs::describe(&ctx.cloud, &ctx.who, &query).await?;
        let with_key = input.include_public_key == Some(true);
        let row = |view: KeyPairView| Row::new(view.row.name.clone(), info(view, with_key));
        Ok(Page {
            rows: rows.into_iter().map(row).collect(),
            next: None,
        })
    }
}

fn info(view: KeyPairView, with_key: bool) -> KeyPairInfo {
    KeyPairInfo {
        key_pair_id: Some(view.id().to_string()),
        key_type: Some(view.row.kind.to_string()),
        tags: shown_tags(&view.tags),
        public_key: Some(view.row.public_key).filter(|_| with_key),
        create_time: Some(Timestamp(view.row.created_at)),
        key_name: Some(view.row.name),
        key_fingerprint: Some(view.row.fingerprint),
    }
}
