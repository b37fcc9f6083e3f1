//! The process's metrics, for Prometheus: `GET /metrics` on the address of the key `metrics.listen`.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, Result};
use cumulet_backend::{conductor::Conductor, store::Store};
use cumulet_bus::Bus;
use cumulet_gateway::serve_metrics;
use cumulet_worker::Worker;
use metrics::{counter, describe_counter, describe_gauge, gauge, with_local_recorder};
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::sync::watch;

use crate::wiring::listen;

/// Who counts.
pub(crate) struct Sources {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) store: Option<Store>,
    pub(crate) conductor: Option<Conductor>,
    pub(crate) workers: Vec<Arc<Worker>>,
}

/// Serves until `shutdown` says so.
pub(crate) async fn serve(
    address: SocketAddr,
    sources: Sources,
    mut shutdown: watch::Receiver<bool>,
) -> Result<()> {
    let listener = listen::bind(&address.to_string(), "metrics.listen")?;
    let recorder = PrometheusBuilder::new().build_recorder();
    with_local_recorder(&recorder, describe);
    let render = move || {
        with_local_recorder(&recorder, || read(&sources));
        recorder.handle().render()
    };
    let mut server = serve_metrics(listener, Arc::new(render)).context("the metrics' server")?;
    tokio::select! {
        ended = server.ended() => return ended.context("the metrics' server"),
        _ = shutdown.wait_for(|stop| *stop) => {}
    }
    server.stop().await.context("the metrics' server")
}

/// The counters' names and meanings.
const COUNTERS: [(&str, &str); 22] = [
    ("cumulet_bus_sent_total", "Messages that were to be handed over"),
    (
        "cumulet_bus_confirmed_total",
        "Messages that the broker has taken",
    ),
    ("cumulet_bus_returned_total", "Messages that had nowhere to go"),
    (
        "cumulet_bus_redelivered_total",
        "Messages that were handed out again",
    ),
    (
        "cumulet_bus_dead_letters_total",
        "Messages that nobody could take; each wants to be looked at",
    ),
    (
        "cumulet_bus_refused_total",
        "Messages that were unreadable, of an unknown version, or of a sender that may not say so",
    ),
    (
        "cumulet_bus_reconnects_total",
        "Times that the connection was made again",
    ),
    ("cumulet_bus_blocked_total", "Times that the broker asked to wait"),
    (
        "cumulet_database_retries_total",
        "Transactions that were run again after a deadlock, a serialisation failure or a lost connection",
    ),
    (
        "cumulet_database_gave_up_total",
        "Transactions that were given up after the last try",
    ),
    (
        "cumulet_database_commits_resolved_total",
        "Commits whose connection was lost and that were found to have been done",
    ),
    (
        "cumulet_database_commits_unknown_total",
        "Commits of which nobody could say whether they were done",
    ),
    (
        "cumulet_conductor_reports_dropped_total",
        "Reports dropped because their host reports far more than any does",
    ),
    (
        "cumulet_operation_steps_total",
        "Steps of operations that were run, by operation and step",
    ),
    (
        "cumulet_operation_step_errors_total",
        "Steps that came to an error and run again, by operation and step",
    ),
    (
        "cumulet_operations_ended_total",
        "Operations that ended, by operation and how; not those whose place another one took",
    ),
    (
        "cumulet_worker_commands_stale_total",
        "Commands dropped because a newer one had been seen",
    ),
    (
        "cumulet_worker_commands_expired_total",
        "Commands dropped because their deadline had passed",
    ),
    (
        "cumulet_worker_commands_repeated_total",
        "Commands that came again, while the first waited or after it had been carried out",
    ),
    (
        "cumulet_worker_policy_failures_total",
        "Times that a VPC's policy could not be enforced; it is tried again",
    ),
    (
        "cumulet_worker_freezes_total",
        "Times that a guest's agent has frozen its file systems for the moment of a snapshot",
    ),
    (
        "cumulet_worker_freezes_failed_total",
        "Times that it did not though it was there: the snapshot is as after a loss of power",
    ),
];

fn describe() {
    for (name, meaning) in COUNTERS {
        describe_counter!(name, meaning);
    }
    describe_gauge!("cumulet_bus_blocked", "1 while the broker asks to wait");
    describe_gauge!(
        "cumulet_worker_policies_unenforced",
        "VPCs whose newest policy is not enforced on a host: a revoked rule may still be open there"
    );
    describe_gauge!(
        "cumulet_worker_peers_left_out",
        "Other hosts that are left out of VPCs' policies because what is told of them can't be"
    );
    describe_gauge!(
        "cumulet_worker_guests_frozen",
        "Guests whose file systems may be frozen after a snapshot, since their agents did not answer; it is tried again"
    );
}

fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::from(u32::MAX), f64::from)
}

/// What the journal's engine has done, by the operations' own lists of steps.
fn operations() {
    let counts = cumulet_backend::conductor::counts();
    for (name, label, all) in [
        ("cumulet_operation_steps_total", "step", counts.steps()),
        ("cumulet_operation_step_errors_total", "step", counts.errors()),
        ("cumulet_operations_ended_total", "how", counts.ends()),
    ] {
        for one in all {
            counter!(name, "operation" => one.operation, label => one.what).absolute(one.times);
        }
    }
}

fn read(sources: &Sources) {
    let bus = sources.bus.counters();
    counter!("cumulet_bus_sent_total").absolute(bus.sent);
    counter!("cumulet_bus_confirmed_total").absolute(bus.confirmed);
    counter!("cumulet_bus_returned_total").absolute(bus.returned);
    counter!("cumulet_bus_redelivered_total").absolute(bus.redelivered);
    counter!("cumulet_bus_dead_letters_total").absolute(bus.dead);
    counter!("cumulet_bus_refused_total").absolute(bus.refused);
    counter!("cumulet_bus_reconnects_total").absolute(bus.reconnects);
    counter!("cumulet_bus_blocked_total").absolute(bus.blocked);
    gauge!("cumulet_bus_blocked").set(f64::from(u8::from(bus.is_blocked)));
    if let Some(store) = &sources.store {
        operations();
        let database = store.counters();
        counter!("cumulet_database_retries_total").absolute(database.retried);
        counter!("cumulet_database_gave_up_total").absolute(database.gave_up);
        counter!("cumulet_database_commits_resolved_total").absolute(database.resolved);
        counter!("cumulet_database_commits_unknown_total").absolute(database.unknown);
    }
    if let Some(conductor) = &sources.conductor {
        counter!("cumulet_conductor_reports_dropped_total").absolute(conductor.dropped_reports());
    }
    if sources.workers.is_empty() {
        return;
    }
    let sum = sources.workers.iter().fold((0, 0, 0), |sum, worker| {
        let (stale, expired, repeated) = worker.counters().read();
        (sum.0 + stale, sum.1 + expired, sum.2 + repeated)
    });
    counter!("cumulet_worker_commands_stale_total").absolute(sum.0);
    counter!("cumulet_worker_commands_expired_total").absolute(sum.1);
    counter!("cumulet_worker_commands_repeated_total").absolute(sum.2);
    let alarms = sources.workers.iter().fold((0, 0, 0), |sum, worker| {
        let (failures, failing, left_out) = worker.alarms();
        (sum.0 + failures, sum.1 + failing, sum.2 + left_out)
    });
    counter!("cumulet_worker_policy_failures_total").absolute(alarms.0);
    gauge!("cumulet_worker_policies_unenforced").set(count(alarms.1));
    gauge!("cumulet_worker_peers_left_out").set(count(alarms.2));
    let quiesced = sources.workers.iter().fold((0, 0, 0), |sum, worker| {
        let more = worker.quiesced();
        (sum.0 + more.frozen, sum.1 + more.failed, sum.2 + more.left)
    });
    counter!("cumulet_worker_freezes_total").absolute(quiesced.0);
    counter!("cumulet_worker_freezes_failed_total").absolute(quiesced.1);
    gauge!("cumulet_worker_guests_frozen").set(count(quiesced.2));
}
