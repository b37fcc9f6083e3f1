//! Golden lines: with colour and without, and with what a tenant might put into them.

use std::io;

use super::*;
use crate::telemetry::screen::tests::Kept;

/// What is written while `work` logs.
fn logged(ansi: bool, work: impl FnOnce()) -> String {
    let (kept, lines) = (Kept::default(), Lines::new(|| (7, 4, 59)));
    let writer = kept.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(Level::TRACE)
        .with_ansi(ansi)
        .fmt_fields(lines)
        .event_format(lines)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, work);
    kept.take()
}

#[test]
fn a_line_has_time_level_message_and_fields() {
    let text = logged(false, || {
        tracing::info!("ready");
        tracing::warn!(
            host = "h1",
            reason = "two words",
            count = 3,
            ok = true,
            "a heartbeat is dropped"
        );
        tracing::error!(error = %io::Error::other("no such thing"), of = ?Some(1), "failed");
        tracing::info!(only = "fields");
        let (none, some) = (None::<u64>, Some(7_u64));
        tracing::info!(none, some, r#type = "t", "{} was made", "it");
    });
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "07:04:59 INFO  ready",
            "07:04:59 WARN  a heartbeat is dropped  host=h1 reason=\"two words\" count=3 ok=true",
            "07:04:59 ERROR failed  error=\"no such thing\" of=Some(1)",
            "07:04:59 INFO    only=fields",
            "07:04:59 INFO  it was made  some=7 type=t",
        ]
    );
}

#[test]
fn colour_marks_time_level_and_names() {
    let text = logged(true, || tracing::warn!(host = "h1", "late"));
    assert_eq!(
        text,
        "\x1b[2m07:04:59\x1b[0m \x1b[33mWARN \x1b[0m late  \x1b[2mhost=\x1b[0mh1\n"
    );
    let levels = logged(true, || {
        tracing::error!("a");
        tracing::info!("a");
    });
    assert!(levels.contains("\x1b[1;31mERROR\x1b[0m a\n") && levels.contains("\x1b[32mINFO \x1b[0m a\n"));
}

#[test]
fn libraries_and_what_is_for_developers_say_where_they_come_from() {
    let text = logged(false, || {
        tracing::info!(target: "sqlx::query", rows = 1, "slow");
        tracing::debug!(target: "cumulet_worker::steps", "begins");
        tracing::info!(target: "cumulet_worker::steps", "begins");
    });
    assert_eq!(
        text,
        "07:04:59 INFO  sqlx::query: slow  rows=1\n\
         07:04:59 DEBUG cumulet_worker::steps: begins\n\
         07:04:59 INFO  begins\n"
    );
}

#[test]
fn an_event_of_the_log_crate_has_its_own_target() {
    let text = logged(false, || {
        tracing::warn!(target: "log", { log.target = "actix_server::worker", log.line = 7 }, "worker died");
    });
    assert_eq!(text, "07:04:59 WARN  actix_server::worker: worker died\n");
}

#[test]
fn fields_of_spans_come_last_from_the_outermost_on() {
    let text = logged(false, || {
        let outer = tracing::info_span!("request", request_id = "0f-0e", user = tracing::field::Empty);
        let _in = outer.enter();
        let inner = tracing::info_span!("step");
        let _deep = inner.enter();
        tracing::info!("plain");
        outer.record("user", "a\nb");
        tracing::warn!(count = 1, "with");
        drop((_deep, _in));
        let _in = tracing::info_span!("request", request_id = "0f-0e").entered();
        tracing::info!(request_id = "0f-0e", why = "x", "refused");
    });
    assert_eq!(
        text,
        "07:04:59 INFO  plain  request_id=0f-0e\n\
         07:04:59 WARN  with  count=1 request_id=0f-0e user=\"a\\nb\"\n\
         07:04:59 INFO  refused  request_id=0f-0e why=x\n"
    );
}

#[test]
fn nobody_forges_a_line_or_steers_the_terminal() {
    let hostile = "x\n07:04:59 ERROR forged\r\u{1b}[2J\u{9b}1m\u{202e}";
    for ansi in [false, true] {
        let text = logged(ansi, || {
            tracing::info!("name {hostile}");
            tracing::info!(name = hostile, "a");
            tracing::info!(name = %hostile, "b");
            tracing::info!(name = ?hostile, "c");
            tracing::info!(name = ?[hostile], "d");
            let _in = tracing::info_span!("request", name = hostile).entered();
            tracing::info!("e");
        });
        assert_eq!(text.lines().count(), 6, "{text}");
        // The only escapes are ours.
        let bare = text
            .replace(FAINT, "")
            .replace(RESET, "")
            .replace(colour(Level::INFO), "");
        assert!(
            !bare
                .chars()
                .any(|c| c != '\n' && (c.is_control() || c == '\u{202e}')),
            "{bare:?}"
        );
        let visible = "x\\n07:04:59 ERROR forged\\r\\u{1b}[2J\\u{9b}1m\\u{202e}";
        assert!(
            bare.starts_with(&format!("07:04:59 INFO  name {visible}\n")),
            "{bare}"
        );
        assert_eq!(
            bare.matches(&format!("  name=\"{visible}\"\n")).count(),
            3,
            "{bare}"
        );
    }
}
