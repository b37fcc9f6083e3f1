//! What the bus's tests share: a broker of their own, and messages.
#![allow(dead_code, unreachable_pub, clippy::expect_used, clippy::panic)] // each test binary uses some of it

pub mod broker;

use std::{future::Future, time::Duration};

use cumulet_bus::{Bus, Delivered, Delivery, HostMailbox, ReportMailbox};
use cumulet_domain::{
    id::{HostId, InstanceId, OperationId},
    message::{Action, Command, Report, ReportContent},
    time::{Clock, SystemClock, Timestamp},
};

/// Far longer than anything here should take.
pub const SOON: Duration = Duration::from_secs(20);

pub fn host(name: &str) -> HostId {
    HostId(name.into())
}

pub fn instance(n: u64) -> InstanceId {
    InstanceId::new(n)
}

pub fn command(n: u64) -> Command {
    Command {
        operation: Some(OperationId::new(n)),
        deadline: SystemClock.now().after(Duration::from_secs(300)),
        action: Action::Reboot {
            instance: instance(n),
            generation: n,
        },
        keys: Vec::new(),
        storage: None,
    }
}

pub fn number(command: &Command) -> u64 {
    command.action.instance().expect("about an instance").1
}

pub fn report(name: &str, n: i64) -> Report {
    Report {
        host: host(name),
        at: Timestamp(n),
        content: ReportContent::Full(vec![]),
    }
}

pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(SOON, future).await {
        Ok(value) => value,
        Err(_) => panic!("not in time: {what}"),
    }
}

pub async fn next_command(mailbox: &mut HostMailbox) -> Delivered<Command> {
    match soon("a command", mailbox.next()).await {
        Some(Delivery::Command(command)) => command,
        other => panic!("{other:?}"),
    }
}

pub async fn next_report(mailbox: &mut ReportMailbox) -> Delivered<Report> {
    soon("a report", mailbox.next()).await.expect("open")
}

/// Sends until the bus takes it; every attempt ends in time.
pub async fn send_until_taken(bus: &dyn Bus, name: &str, n: u64) {
    let sending = async {
        loop {
            let began = std::time::Instant::now();
            let sent = bus.send(&host(name), command(n)).await;
            assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
            match sent {
                Ok(()) => return,
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), sending)
        .await
        .expect("the bus should take it again");
}
