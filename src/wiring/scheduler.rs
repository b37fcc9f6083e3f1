//! The wiring of the scheduler, from its configuration.

use anyhow::Result;
use cumulet_backend::{
    api::SharedRng,
    scheduler::{Multipliers, Scheduler, Settings},
};

use crate::config::Config;

/// The scheduler, with its randomness.
pub(super) fn scheduler(config: &Config, rng: SharedRng) -> Result<Scheduler> {
    Ok(Scheduler::new(settings(config)?, rng))
}

fn settings(config: &Config) -> Result<Settings> {
    Ok(Settings {
        filters: Settings::filters(config.scheduler.enabled_filters.text())?,
        multipliers: Multipliers {
            ram: config.scheduler.ram_weight_multiplier.get()?,
            cpu: config.scheduler.cpu_weight_multiplier.get()?,
            disk: config.scheduler.disk_weight_multiplier.get()?,
            io_ops: config.scheduler.io_ops_weight_multiplier.get()?,
            metrics: config.scheduler.metrics_weight_multiplier.get()?,
            soft_affinity: config.scheduler.soft_affinity_weight_multiplier.get()?,
            soft_anti_affinity: config.scheduler.soft_anti_affinity_weight_multiplier.get()?,
        },
        host_subset_size: config.scheduler.host_subset_size.get()?,
        max_attempts: config.scheduler.max_attempts.get()?,
        metrics_weight_setting: Settings::metric_ratios(config.scheduler.metrics_weight_setting.text())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_configured_is_the_backends_default() {
        let config = Config::of(&[]);
        let (ours, theirs) = (settings(&config).unwrap(), Settings::default());
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
    }

    #[test]
    fn an_unknown_filter_is_named_with_those_there_are() {
        let config = Config::of(&[("scheduler.enabled_filters", "ram,RamFilter")]);
        let error = settings(&config).unwrap_err().to_string();
        assert!(error.contains("RamFilter") && error.contains("retry"), "{error}");
    }
}
