//! The answer to a request, without a server around it. Its body is a whole document, or the pieces of one that is
//! too long to be held.

use std::{borrow::Cow, io};

use bytes::Bytes;
use futures::stream::BoxStream;

#[cfg(test)]
use crate::fault::Fault;
use crate::fences::Admission;

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// What `Content-Type` says.
    pub content_type: &'static str,
    /// The document.
    pub body: Body,
    /// What `x-amzn-errortype` says, where the protocol has that.
    pub error_type: Option<Cow<'static, str>>,
    /// Whether it is not to be had quickly: a client that is refused one request too many, or a stranger with a
    /// large body, and asks again at once would have the cloud do nothing else.
    pub held_back: bool,
}

impl Reply {
    /// An answer that is no error.
    pub(crate) fn ok(content_type: &'static str, body: Body) -> Self {
        Reply {
            status: 200,
            content_type,
            body,
            error_type: None,
            held_back: false,
        }
    }

    /// The same, not to be had quickly.
    pub(crate) fn held_back(self) -> Self {
        Reply {
            held_back: true,
            ..self
        }
    }
}

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
