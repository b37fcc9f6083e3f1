//! Keyset pages: a page ends with the key that the next one starts after, so that rows which come and
//! go between two pages neither shift nor repeat the others.

/// Which page is wanted; by default all rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest<K = i64> {
    /// Rows at the most.
    pub limit: Option<u32>,
    /// The `next` of the page before.
    pub after: Option<K>,
}

impl<K> Default for PageRequest<K> {
    fn default() -> Self {
        PageRequest {
            limit: None,
            after: None,
        }
    }
}

impl<K> PageRequest<K> {
    /// How many rows to read: one more than wanted tells whether there is a next page.
    pub fn read_limit(&self) -> Option<u64> {
        self.limit.map(|limit| u64::from(limit.max(1)) + 1)
    }
}

/// A page of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T, K = i64> {
    /// The rows.
    pub rows: Vec<T>,
    /// Where the next page starts, if there is one.
    pub next: Option<K>,
}

impl<T, K> Page<T, K> {
    /// Cuts what was read with [`PageRequest::read_limit`] to the page.
    pub fn cut(mut rows: Vec<T>, request: &PageRequest<K>, key: impl Fn(&T) -> K) -> Self {
        let limit = request.limit.map_or(usize::MAX, |limit| limit.max(1) as usize);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(key);
        Page { rows, next }
    }

    /// The page with another row for each of its rows.
    pub fn map<U>(self, row: impl FnMut(T) -> U) -> Page<U, K> {
        self.replace(|rows| rows.into_iter().map(row).collect())
    }

    /// The page with other rows for its rows, in the same order.
    pub fn replace<U>(self, rows: impl FnOnce(Vec<T>) -> Vec<U>) -> Page<U, K> {
        Page {
            rows: rows(self.rows),
            next: self.next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_a_next_only_when_more_was_read() {
        for (read, limit, len, next) in [
            (3, None, 3, None),
            (3, Some(3), 3, None),
            (4, Some(3), 3, Some(2)),
            (0, Some(3), 0, None),
            (2, Some(0), 1, Some(0)),
        ] {
            let request = PageRequest { limit, after: None };
            let page = Page::cut((0..read).collect::<Vec<i64>>(), &request, |n| *n);
            assert_eq!((page.rows.len(), page.next), (len, next), "{read} {limit:?}");
        }
    }
}
