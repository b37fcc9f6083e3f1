//! Renderings of instances, kept with their views: a door writes an instance once for as long as it does not change.
//! All of a process are held within one budget, since they are several times what the views take. Doors ask for
//! them and leave them here; a view that is in nobody's cache has no use for one.

use std::sync::{
    OnceLock,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Bytes that all renderings of the process may have.
const MOST: usize = 12 << 20;

/// What they have.
static HELD: AtomicUsize = AtomicUsize::new(0);

/// What a door has written of a view, if it was kept.
#[derive(Debug, Default)]
pub struct Rendering(OnceLock<Held>);

impl Rendering {
    /// What was kept.
    #[must_use]
    pub fn get(&self) -> Option<&str> {
        self.0.get().map(|held| &*held.0)
    }

    /// Keeps what a door has written, where there is room for it and nothing is kept yet.
    pub fn keep(&self, text: &str) {
        if self.0.get().is_none()
            && let Some(held) = Held::new(text, MOST)
        {
            // Another thread may have been quicker, with the same.
            drop(self.0.set(held));
        }
    }
}

/// A copy is another view.
impl Clone for Rendering {
    fn clone(&self) -> Self {
        Rendering::default()
    }
}

/// It follows from the view.
impl PartialEq for Rendering {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Rendering {}

/// A text that is counted for as long as it is there.
#[derive(Debug)]
struct Held(Box<str>);

impl Held {
    fn new(text: &str, most: usize) -> Option<Self> {
        let room = |held: usize| held.checked_add(text.len()).filter(|sum| *sum <= most);
        HELD.fetch_update(Relaxed, Relaxed, room).ok()?;
        Some(Held(text.into()))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.fetch_sub(self.0.len(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_counted_until_it_goes() {
        let (first, copy) = (Rendering::default(), Rendering::default());
        assert_eq!(first.get(), None);
        first.keep("<item/>");
        first.keep("other");
        assert_eq!(first.get(), Some("<item/>"));
        assert_eq!(first.clone().get(), None);
        assert_eq!(first, copy);
        let big = "x".repeat(MOST - 3);
        copy.keep(&big);
        assert_eq!(copy.get(), None, "there is no room beside the first");
        drop(first);
    }
}
