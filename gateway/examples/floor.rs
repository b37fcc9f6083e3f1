//! The floor of the benchmarks: a bare actix-web handler that answers every request with the bytes of a
//! file, as quickly as this server can. `floor HOST:PORT WORKERS FILE`

use std::{any::Any, io, time::Duration};

use actix_web::{
    App, HttpResponse, HttpServer,
    dev::Extensions,
    rt::net::TcpStream,
    web::{self, Bytes, Data},
};

#[actix_web::main]
async fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, workers, file] = &arguments[..] else {
        return Err(io::Error::other("usage: floor HOST:PORT WORKERS FILE"));
    };
    let workers = workers.parse().map_err(io::Error::other)?;
    let bytes = Data::new(Bytes::from(std::fs::read(file)?));
    HttpServer::new(move || {
        App::new()
            .app_data(bytes.clone())
            .default_service(web::to(answer))
    })
    .workers(workers)
    .keep_alive(Duration::from_secs(60))
    .on_connect(no_delay)
    .bind(address)?
    .run()
    .await
}

/// Reads the body, as any server of these requests has to.
async fn answer(_: Bytes, bytes: Data<Bytes>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/xml;charset=UTF-8")
        .body(Bytes::clone(&bytes))
}

fn no_delay(connection: &dyn Any, _: &mut Extensions) {
    if let Some(stream) = connection.downcast_ref::<TcpStream>() {
        // Only slower without it.
        let _ = stream.set_nodelay(true);
    }
}
