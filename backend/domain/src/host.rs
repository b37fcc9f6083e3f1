//! Host profiles: what a host tells of itself beyond its capacity. Limits are checked where they come in;
//! scheduler filters and weighers go by them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Names and whole numbers, as Nova's monitors have them: percentages are 0 to 100.
pub type Metrics = BTreeMap<String, i64>;

/// A name at the most, in bytes; also what a database's column for names takes.
pub const MAX_NAME: usize = 255;

/// A capability's value at the most, in bytes.
pub const MAX_VALUE: usize = 8192;

/// Capabilities at the most.
pub const MAX_CAPABILITIES: usize = 128;

/// All capabilities together at the most, in bytes: half of what a text column holds on every database.
pub const MAX_CAPABILITY_BYTES: usize = 32 << 10;

/// Metrics at the most.
pub const MAX_METRICS: usize = 64;

/// A text of [`NotReady`] at the most, in characters; what is longer is cut.
pub const MAX_REASON: usize = 500;

/// Problems that a host tells of at the most; what is beyond is dropped.
pub const MAX_PROBLEMS: usize = 16;

/// A host's name at the most, in bytes.
pub const MAX_HOST_NAME: usize = 64;

/// A metric's number at the most, either way.
const MAX_METRIC: i64 = 1 << 53;

/// The driver of simulated hosts, which have no network of their own.
pub const SIMULATED: &str = "fake";

/// A text as one line of at most so many characters.
pub(crate) fn one_line(text: &str, most: usize) -> String {
    let shown = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    shown.take(most).collect::<String>().trim().to_owned()
}

/// Whether a text can be a host's name: it is part of paths and of queues' names.
///
/// # Errors
/// That it can't, in words. The text is not repeated: it may be long.
pub fn check_host_name(name: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if name.is_empty() || name.len() > MAX_HOST_NAME || name.starts_with('.') || !name.bytes().all(plain) {
        return Err(format!(
            "a host's name is 1 to {MAX_HOST_NAME} letters, digits, dashes, dots"
        ));
    }
    Ok(())
}

/// Why a host that is there takes no launches for now. It is told with each heartbeat, and over with the first one
/// that does not tell it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotReady {
    /// What is wrong, to be read after the host's name: "libvirt takes 31 s for a call". Tenants see it.
    pub reason: String,
    /// What helps, for the operator.
    #[serde(default)]
    pub cure: Option<String>,
}

impl NotReady {
    /// The same within the limits: one line, cut where it is too long. It is never dropped, because a host that
    /// tells it badly is no readier.
    #[must_use]
    pub fn within_limits(self) -> Self {
        let line = |text: &str| one_line(text, MAX_REASON);
        let reason = line(&self.reason);
        NotReady {
            reason: match reason.as_str() {
                "" => "it does not say why".into(),
                _ => reason,
            },
            cure: self.cure.as_deref().map(line).filter(|cure| !cure.is_empty()),
        }
    }
}

/// What a host is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostProfile {
    /// As AWS spells it: `x86_64` or `arm64`.
    #[serde(default)]
    pub architecture: Option<String>,
    /// As Nova names them, levels separated by colons: `hypervisor_type`, `cpu_info:features`.
    #[serde(default)]
    pub capabilities: BTreeMap<String, String>,
}

impl HostProfile {
    /// Whether this is within the limits, as everything has to be that comes from elsewhere.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self) -> Result<(), String> {
        if let Some(architecture) = &self.architecture {
            check_name("the architecture", architecture)?;
        }
        if self.capabilities.len() > MAX_CAPABILITIES {
            return Err(format!("more than {MAX_CAPABILITIES} capabilities"));
        }
        let mut bytes = 0;
        for (name, value) in &self.capabilities {
            check_name("a capability's name", name)?;
            if value.len() > MAX_VALUE || value.chars().any(char::is_control) {
                let what = "is not at most";
                return Err(format!(
                    "the capability {name} {what} {MAX_VALUE} printable bytes"
                ));
            }
            bytes += name.len() + value.len();
        }
        if bytes > MAX_CAPABILITY_BYTES {
            return Err(format!("capabilities of more than {MAX_CAPABILITY_BYTES} bytes"));
        }
        Ok(())
    }
}

/// Whether metrics are within the limits.
///
/// # Errors
/// What is wrong, in words.
pub fn check_metrics(metrics: &Metrics) -> Result<(), String> {
    if metrics.len() > MAX_METRICS {
        return Err(format!("more than {MAX_METRICS} metrics"));
    }
    metrics.iter().try_for_each(|(name, value)| {
        check_name("a metric's name", name)?;
        let possible = if name.ends_with(".percent") {
            0..=100
        } else {
            -MAX_METRIC..=MAX_METRIC
        };
        if !possible.contains(value) {
            return Err(format!("the metric {name} is {value}"));
        }
        Ok(())
    })
}

/// Whether a text can be a name of something.
///
/// # Errors
/// That it can't, in words. The text is not repeated: it may be long.
pub fn check_name(what: &str, name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(format!("{what} is not 1 to {MAX_NAME} printable bytes"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(pairs: impl IntoIterator<Item = (String, String)>) -> HostProfile {
        HostProfile {
            architecture: Some("x86_64".into()),
            capabilities: pairs.into_iter().collect(),
        }
    }

    fn named(n: usize) -> String {
        format!("capability-{n}")
    }

    #[test]
    fn what_is_within_the_limits_passes_and_what_is_not_is_told() {
        let most = (0..MAX_CAPABILITIES).map(|n| (named(n), "x".into()));
        assert_eq!(profile(most).check(), Ok(()));
        assert_eq!(HostProfile::default().check(), Ok(()));
        let long = "x".repeat(MAX_VALUE);
        assert_eq!(profile([("a".into(), long.clone())]).check(), Ok(()));
        let many = (0..=MAX_CAPABILITIES).map(|n| (named(n), "x".into()));
        let much = (0..5).map(|n| (named(n), long.clone()));
        for (wrong, told) in [
            (profile(many), "more than 128"),
            (profile(much), "bytes"),
            (profile([("a".into(), format!("{long}x"))]), "capability a"),
            (profile([("a".into(), "x\ny".into())]), "capability a"),
            (profile([(String::new(), "x".into())]), "name"),
            (profile([("a".repeat(256), "x".into())]), "name"),
            (profile([("a\0".into(), "x".into())]), "name"),
        ] {
            let error = wrong.check().unwrap_err();
            assert!(error.contains(told) && error.len() < 400, "{error}");
        }
        let odd = HostProfile {
            architecture: Some("x".repeat(256)),
            ..HostProfile::default()
        };
        assert!(odd.check().is_err());
    }

    #[test]
    fn a_reason_is_one_line_that_is_not_too_long_and_never_lost() {
        let of = |reason: &str, cure: Option<&str>| {
            let told = NotReady {
                reason: reason.into(),
                cure: cure.map(str::to_owned),
            };
            let told = told.within_limits();
            (told.reason, told.cure)
        };
        let said = |reason: &str, cure: Option<&str>| (reason.to_owned(), cure.map(str::to_owned));
        assert_eq!(of("slow", Some("wait")), said("slow", Some("wait")));
        assert_eq!(of("a\nb\0", Some("\n")), said("a b", None));
        assert_eq!(of(" ", None), said("it does not say why", None));
        assert_eq!(
            of(&"ä".repeat(MAX_REASON + 1), None).0.chars().count(),
            MAX_REASON
        );
    }

    #[test]
    fn metrics_have_limits_too() {
        let of = |n: usize| (0..n).map(|n| (named(n), 1)).collect::<Metrics>();
        assert_eq!(check_metrics(&of(MAX_METRICS)), Ok(()));
        assert!(check_metrics(&of(MAX_METRICS + 1)).is_err());
        assert!(check_metrics(&[("x".repeat(256), 1)].into()).is_err());
        assert!(check_metrics(&[(String::new(), 1)].into()).is_err());
    }
}
