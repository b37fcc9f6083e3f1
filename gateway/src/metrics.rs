//! The metrics listener: the counters of a process at `GET /metrics`, in the text form of Prometheus.

use std::{io, net::TcpListener, sync::Arc};

use actix_web::{HttpResponse, web};

use crate::{
    limits::Limits,
    server::{Running, serve},
};

/// Counters as text, as they are at the moment.
pub type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// Serves what `render` answers. Needs a Tokio runtime.
///
/// # Errors
/// When the socket can't be listened on.
pub fn serve_metrics(listener: TcpListener, render: Render) -> io::Result<Running> {
    let routes = move |app: &mut web::ServiceConfig| {
        let render = render.clone();
        let answer = move || {
            let text = render();
            async {
                HttpResponse::Ok()
                    .content_type("text/plain; version=0.0.4")
                    .body(text)
            }
        };
        app.route("/metrics", web::get().to(answer));
    };
    let limits = Limits {
        connections: 64,
        ..Limits::default()
    };
    serve("metrics", vec![listener], 1, limits, Arc::new(routes))
}
