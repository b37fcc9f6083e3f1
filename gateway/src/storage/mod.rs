//! The storage door: images and snapshots for hosts that do not have the directories which they are kept in. A host
//! carries a grant, which a command has brought it, and gets what that names and nothing else; what it brings gets a
//! name when it is what it is said to be. The protocol is `cumulet_domain::storage`'s.
//!
//! - `requests`: a request's grant, numbers and place in the queue.
//! - `pieces`: what is read. `uploads`: what is brought.
//! - `refusal`: what is not.

mod pieces;
mod refusal;
mod requests;
mod uploads;

#[cfg(test)]
pub(crate) mod tests;

use std::{io, net::TcpListener, path::PathBuf, sync::Arc, time::Duration};

use actix_web::web::{self, ServiceConfig};
use cumulet_backend::api::snapshots::{SnapshotStore, Uploads};
use cumulet_certs::Sealer;
use cumulet_domain::{storage::PREFIX, time::Clock};

use crate::{
    limits::Limits,
    server::{Routes, Running, serve},
};
use pieces::Named;
use requests::Turns;

/// Connections at the most: each host keeps a few.
const CONNECTIONS: usize = 1024;

/// How long a piece may take to come.
const PIECE_TIME: Duration = Duration::from_secs(60);

/// See the module.
pub struct StorageDoor {
    /// Opens grants.
    pub sealer: Arc<Sealer>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The directory of images' files.
    pub images: PathBuf,
    /// The directory of snapshots.
    pub snapshots: PathBuf,
}

impl std::fmt::Debug for StorageDoor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StorageDoor").finish_non_exhaustive()
    }
}

/// What all requests share.
struct Shared {
    sealer: Arc<Sealer>,
    clock: Arc<dyn Clock>,
    images: PathBuf,
    uploads: Arc<Uploads>,
    named: Named,
    turns: Turns,
}

impl StorageDoor {
    /// Starts to serve on these sockets. Needs a Tokio runtime.
    ///
    /// # Errors
    /// When a socket can't be listened on.
    pub fn start(self, listeners: Vec<TcpListener>) -> io::Result<Running> {
        let limits = Limits {
            connections: CONNECTIONS,
            body: PIECE_TIME,
            ..Limits::default()
        };
        self.start_within(listeners, limits)
    }

    /// The same within these limits.
    pub(crate) fn start_within(self, listeners: Vec<TcpListener>, limits: Limits) -> io::Result<Running> {
        serve("storage", listeners, 1, limits, self.routes())
    }

    fn routes(self) -> Routes {
        let shared = web::Data::new(Shared {
            sealer: self.sealer,
            clock: self.clock,
            images: self.images,
            uploads: Arc::new(Uploads::new(SnapshotStore::at(&self.snapshots))),
            named: Named::default(),
            turns: Turns::default(),
        });
        Arc::new(move |app: &mut ServiceConfig| {
            let upload = web::resource("/snapshots/{snapshot}/{part}/{number}")
                .route(web::put().to(uploads::put))
                .route(web::delete().to(uploads::give_up));
            let scope = web::scope(PREFIX)
                .route("/images/{image}", web::get().to(pieces::image))
                .route("/manifests/{manifest}", web::get().to(pieces::manifest))
                .route(
                    "/manifests/{manifest}/segments/{segment}",
                    web::get().to(pieces::segment),
                )
                .route("/snapshots/{snapshot}", web::post().to(uploads::finish))
                .service(upload);
            app.app_data(shared.clone()).service(scope);
        })
    }
}
