//! The body of an answer: a whole document, or the pieces of one that is too long to be held.

use std::io;

use bytes::Bytes;
use futures::stream::BoxStream;

#[cfg(test)]
use crate::fault::Fault;
use crate::fences::Admission;

/// What is sent to the client.
pub enum Body {
    /// A document.
    Whole(String),
    /// The pieces of one. After an error nothing more comes, and what came is not whole.
    Pieces(BoxStream<'static, io::Result<Bytes>>),
}

impl Body {
    /// The same, which counts as a request in flight until the client has all of it.
    pub(crate) fn admitted(self, admission: Admission) -> Self {
        use futures::StreamExt as _;
        match self {
            Body::Whole(text) => Body::Whole(text),
            Body::Pieces(pieces) => Body::Pieces(Box::pin(pieces.map(move |piece| {
                let _ = &admission;
                piece
            }))),
        }
    }

    /// All of it. For clients in the same process, which read it at once.
    ///
    /// # Errors
    /// What ended it.
    #[cfg(test)]
    pub(crate) async fn text(self) -> Result<String, Fault> {
        use cumulet_domain::Error;
        use futures::TryStreamExt as _;
        let mut pieces = match self {
            Body::Whole(text) => return Ok(text),
            Body::Pieces(pieces) => pieces,
        };
        let mut whole = Vec::new();
        while let Some(piece) = pieces.try_next().await.map_err(|e| Error::internal(&e))? {
            whole.extend_from_slice(&piece);
        }
        Ok(String::from_utf8(whole).map_err(|error| Error::internal(&error))?)
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Body::Whole(text) => f.debug_tuple("Whole").field(&text.len()).finish(),
            Body::Pieces(_) => f.write_str("Pieces"),
        }
    }
}
