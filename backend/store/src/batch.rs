//! Batched loads by many ids. Lists are cut into chunks and filled up to a power of two with their last id,
//! so that a handful of prepared statements serves every length.

/// Ids in one statement at the most.
const CHUNK: usize = 1024;

/// The chunks of `ids`, filled up.
pub fn chunks(ids: &[i64]) -> impl Iterator<Item = Vec<i64>> {
    ids.chunks(CHUNK).map(|chunk| {
        let mut ids = chunk.to_vec();
        if let Some(last) = ids.last().copied() {
            ids.resize(chunk.len().next_power_of_two(), last);
        }
        ids
    })
}

/// Loads rows of entity `$entity` whose column `$column` is one of `$ids` (and `$extra` holds).
#[macro_export]
macro_rules! load_in {
    ($conn:expr, $entity:ident, $column:ident, $ids:expr $(, $extra:expr)* $(,)?) => {{
        use sea_orm::{ColumnTrait as _, EntityTrait as _, QueryFilter as _};
        let mut rows = Vec::new();
        for chunk in $crate::batch::chunks($ids) {
            let query = $crate::entity::$entity::Entity::find()
                .filter($crate::entity::$entity::Column::$column.is_in(chunk))
                $(.filter($extra))*;
            rows.extend($crate::rows::all(query, $conn).await?);
        }
        rows
    }};
}
pub use crate::load_in;

/// The ids of `wanted` that `found` lacks, each once, in their order, as the error wants them.
pub fn missing<T: PartialEq + std::fmt::Display>(wanted: &[T], found: impl Fn(&T) -> bool) -> Option<String> {
    let mut missing: Vec<&T> = Vec::new();
    for id in wanted {
        if !found(id) && !missing.contains(&id) {
            missing.push(id);
        }
    }
    let text = missing
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_filled_to_powers_of_two_and_lose_nothing() {
        for (len, sizes) in [
            (0, vec![]),
            (1, vec![1]),
            (3, vec![4]),
            (1024, vec![1024]),
            (1500, vec![1024, 512]),
        ] {
            let ids: Vec<i64> = (0..len).collect();
            let all: Vec<Vec<i64>> = chunks(&ids).collect();
            assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), sizes);
            let mut flat: Vec<i64> = all.into_iter().flatten().collect();
            flat.dedup();
            assert_eq!(flat, ids);
        }
    }

    #[test]
    fn missing_ids_are_named_once() {
        assert_eq!(missing(&[1, 2, 3, 2], |n| *n == 1).as_deref(), Some("2, 3"));
        assert_eq!(missing(&[1], |_| true), None);
    }
}
