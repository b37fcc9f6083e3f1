//! The serial console of a simulated guest: a banner and an echo.

use cumulet_domain::{id::InstanceId, message::Power};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    sync::broadcast,
};

use crate::Event;

/// What is typed and not read yet.
const BUFFER: usize = 4096;

/// The console, until the guest goes off or its other end is dropped.
pub(super) fn serial(instance: InstanceId, events: broadcast::Receiver<Event>) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(BUFFER);
    tokio::spawn(async move {
        tokio::select! {
            // The client has gone.
            _ = echo(instance, ours) => {}
            () = gone(instance, events) => {}
        }
    });
    theirs
}

async fn echo(instance: InstanceId, mut end: DuplexStream) -> std::io::Result<()> {
    end.write_all(format!("cumulet-fake console: {instance}\r\n").as_bytes())
        .await?;
    let mut typed = [0; 512];
    loop {
        let count = end.read(&mut typed).await?;
        if count == 0 {
            return Ok(());
        }
        end.write_all(&typed[..count]).await?;
    }
}

/// Returns when the guest does not run any more, or it can't be told.
async fn gone(instance: InstanceId, mut events: broadcast::Receiver<Event>) {
    loop {
        match events.recv().await {
            Ok(Event::Changed(status)) if status.instance == instance && status.power != Power::On => return,
            Ok(_) => {}
            Err(_) => return,
        }
    }
}
