//! Scheduler settings, in Nova's names, with its defaults where it has them.

use cumulet_domain::{Error, Result};

use super::{
    filters::{self, Filter},
    fleet::Pairs,
};

/// What each weigher counts for: positive spreads, negative stacks, 0 leaves it out.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Multipliers {
    pub ram: f64,
    pub cpu: f64,
    pub disk: f64,
    pub io_ops: f64,
    pub metrics: f64,
    pub soft_affinity: f64,
    pub soft_anti_affinity: f64,
}

impl Default for Multipliers {
    fn default() -> Self {
        Multipliers {
            ram: 1.0,
            cpu: 1.0,
            disk: 1.0,
            io_ops: -1.0,
            metrics: 1.0,
            soft_affinity: 1.0,
            soft_anti_affinity: 1.0,
        }
    }
}

/// The scheduler's configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The filters, in the order in which they run.
    pub filters: Vec<&'static dyn Filter>,
    /// What the weighers count for.
    pub multipliers: Multipliers,
    /// One of so many of the best hosts is taken.
    pub host_subset_size: usize,
    /// Hosts that a launch is tried on at the most.
    pub max_attempts: usize,
    /// What each of a host's metrics counts for.
    pub metrics_weight_setting: Vec<(String, f64)>,
}

/// What a host counts that does not tell a metric which is wanted (Nova's `weight_of_unavailable`).
const UNAVAILABLE: f64 = -10_000.0;

impl Default for Settings {
    fn default() -> Self {
        Settings {
            filters: filters::DEFAULT.to_vec(),
            multipliers: Multipliers::default(),
            host_subset_size: 1,
            max_attempts: 3,
            metrics_weight_setting: Vec::new(),
        }
    }
}

impl Settings {
    /// The filters with these names, separated by commas.
    ///
    /// # Errors
    /// `InvalidParameter`, with the names that there are.
    pub fn filters(names: &str) -> Result<Vec<&'static dyn Filter>> {
        let mut found: Vec<&'static dyn Filter> = Vec::new();
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let filter = filters::ALL.iter().find(|filter| filter.name() == name);
            let Some(filter) = filter else {
                let known: Vec<_> = filters::ALL.iter().map(|filter| filter.name()).collect();
                let reason = format!("there is no such filter; there are {}", known.join(", "));
                return Err(Error::invalid("scheduler.enabled_filters", name, reason));
            };
            if found.iter().any(|other| other.name() == name) {
                let reason = "the filter is named twice";
                return Err(Error::invalid("scheduler.enabled_filters", name, reason));
            }
            found.push(*filter);
        }
        Ok(found)
    }

    /// Ratios of metrics: `name=ratio`, separated by commas.
    ///
    /// # Errors
    /// `InvalidParameter` for what is not one.
    pub fn metric_ratios(text: &str) -> Result<Vec<(String, f64)>> {
        let one = |part: &str| {
            let pair = part.split_once('=').and_then(|(name, ratio)| {
                let (name, ratio) = (name.trim(), ratio.trim().parse::<f64>().ok()?);
                (!name.is_empty() && ratio.is_finite()).then(|| (name.to_owned(), ratio))
            });
            pair.ok_or_else(|| {
                let reason = "expected name=ratio, separated by commas";
                Error::invalid("scheduler.metrics_weight_setting", part, reason)
            })
        };
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(one).collect()
    }

    /// What a host's metrics come to.
    #[allow(clippy::cast_precision_loss)] // a weight needs no more than 53 bits
    pub fn metrics(&self, told: &std::collections::BTreeMap<String, i64>) -> f64 {
        let mut sum = 0.0;
        for (name, ratio) in &self.metrics_weight_setting {
            match told.get(name) {
                Some(value) => sum += *value as f64 * ratio,
                None => return UNAVAILABLE,
            }
        }
        sum
    }
}

/// The names and values of a JSON object of texts; nothing of what is none.
pub(super) fn pairs(json: Option<&str>) -> Pairs {
    json.and_then(|json| serde_json::from_str(json).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_named_and_unknown_ones_refused_with_those_there_are() {
        let found = Settings::filters(" ram, disk ,retry").unwrap();
        let names: Vec<_> = found.iter().map(|filter| filter.name()).collect();
        assert_eq!(names, ["ram", "disk", "retry"]);
        let error = Settings::filters("ram,rma").unwrap_err().to_string();
        assert!(
            error.contains("(rma)") && error.contains("availability_zone"),
            "{error}"
        );
        assert!(Settings::filters("ram,ram").is_err());
        assert!(Settings::filters("").unwrap().is_empty());
    }

    #[test]
    fn every_filter_has_a_name_of_its_own_and_the_default_is_among_them() {
        let mut names: Vec<_> = filters::ALL.iter().map(|filter| filter.name()).collect();
        assert!(
            filters::DEFAULT
                .iter()
                .all(|filter| names.contains(&filter.name()))
        );
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn metrics_come_to_the_sum_of_their_ratios() {
        let settings = Settings {
            metrics_weight_setting: Settings::metric_ratios("cpu.percent=-1.5, net=2").unwrap(),
            ..Settings::default()
        };
        let told = [("cpu.percent".to_owned(), 20), ("net".to_owned(), 7)].into();
        assert!((settings.metrics(&told) - -16.0).abs() < 1e-9);
        let less = [("net".to_owned(), 7)].into();
        assert!((settings.metrics(&less) - UNAVAILABLE).abs() < 1e-9);
        for wrong in ["cpu", "=1", "cpu=x", "cpu=inf"] {
            assert!(Settings::metric_ratios(wrong).is_err(), "{wrong}");
        }
    }
}
