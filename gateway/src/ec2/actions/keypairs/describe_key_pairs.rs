//! DescribeKeyPairs: the public halves. The operation has no pages.

use async_trait::async_trait;
use cumulet_backend::api::{
    Page, PageRequest,
    key_pairs::{self, KeyPairQuery, KeyPairView},
};
use cumulet_wire::{
    Timestamp,
    ec2::{
        keypairs::{DescribeKeyPairs, DescribeKeyPairsRequest, DescribeKeyPairsResult, KeyPairInfo},
        shared::Filter,
    },
};

use crate::{
    ec2::{
        ctx::{Ctx, ids, shown_tags},
        describe::Describe,
        filter::{Filters, Table, on, shown},
    },
    fault::Fault,
};

#[async_trait]
impl Describe for DescribeKeyPairs {
    type Row = KeyPairView;
    type Key = String;
    const FILTERS: Table<KeyPairView> = Table {
        defs: &[
            on(&["key-pair-id"], |row: &KeyPairView, sink| shown(row.id(), sink)),
            on(&["fingerprint"], |row, sink| sink(&row.row.fingerprint)),
            on(&["key-name"], |row, sink| sink(&row.row.name)),
        ],
        tags: Some(|row| &row.tags),
    };

    fn filters(input: &DescribeKeyPairsRequest) -> &[Filter] {
        &input.filters
    }

    async fn load(
        ctx: &Ctx,
        input: &DescribeKeyPairsRequest,
        _: &Filters<KeyPairView>,
        _: PageRequest<String>,
    ) -> Result<Page<KeyPairView, String>, Fault> {
        let query = KeyPairQuery {
            ids: ids(&input.key_pair_ids)?,
            names: input.key_names.clone(),
        };
        let rows = key_pairs::describe(&ctx.cloud, &ctx.who, &query).await?;
        Ok(Page { rows, next: None })
    }

    fn key(row: &KeyPairView) -> String {
        row.row.name.clone()
    }

    fn render(
        _: &Ctx,
        input: &DescribeKeyPairsRequest,
        rows: Vec<KeyPairView>,
        _: Option<String>,
    ) -> DescribeKeyPairsResult {
        let with_key = input.include_public_key == Some(true);
        let info = |view: KeyPairView| KeyPairInfo {
            key_pair_id: Some(view.id().to_string()),
            key_type: Some(view.row.kind),
            tags: shown_tags(&view.tags),
            public_key: Some(view.row.public_key).filter(|_| with_key),
            create_time: Some(Timestamp(view.row.created_at)),
            key_name: Some(view.row.name),
            key_fingerprint: Some(view.row.fingerprint),
        };
        DescribeKeyPairsResult {
            key_pairs: rows.into_iter().map(info).collect(),
        }
    }
}
