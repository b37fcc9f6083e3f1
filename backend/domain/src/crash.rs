//! Named crash points: places where a test may kill the whole process, to prove that what comes after a
//! restart is right. Without the feature `crash-points` a point is nothing at all.

/// Dies here, at once and without unwinding, when the environment's `CUMULET_CRASH_AT` is `name`.
#[cfg(feature = "crash-points")]
pub fn point(name: &str) {
    static WANTED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let wanted = WANTED.get_or_init(|| std::env::var("CUMULET_CRASH_AT").ok());
    if wanted.as_deref() == Some(name) {
        std::process::abort();
    }
}

/// A place where a test may kill the process: `crash_point!("run.8.disk")`.
#[cfg(feature = "crash-points")]
#[macro_export]
macro_rules! crash_point {
    ($name:expr) => {
        $crate::crash::point($name)
    };
}

/// A place where a test may kill the process: nothing, since the feature is off.
#[cfg(not(feature = "crash-points"))]
#[macro_export]
macro_rules! crash_point {
    ($name:expr) => {{}};
}
