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
        filters: Settings::filters(config.text("scheduler.enabled_filters"))?,
        multipliers: Multipliers {
            ram: config.get("scheduler.ram_weight_multiplier")?,
            cpu: config.get("scheduler.cpu_weight_multiplier")?,
            disk: config.get("scheduler.disk_weight_multiplier")?,
            io_ops: config.get("scheduler.io_ops_weight_multiplier")?,
            metrics: config.get("scheduler.metrics_weight_multiplier")?,
            soft_affinity: config.get("scheduler.soft_affinity_weight_multiplier")?,
            soft_anti_affinity: config.get("scheduler.soft_anti_affinity_weight_multiplier")?,
        },
        host_subset_size: config.get("scheduler.host_subset_size")?,
        max_attempts: config.get("scheduler.max_attempts")?,
        metrics_weight_setting: Settings::metric_ratios(config.text("scheduler.metrics_weight_setting"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_configured_is_the_backends_default() {
        let config = Config::load(None, &[]).unwrap();
        let (ours, theirs) = (settings(&config).unwrap(), Settings::default());
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
    }

    #[test]
    fn an_unknown_filter_is_named_with_those_there_are() {
        let given = [("scheduler.enabled_filters", Some("ram,RamFilter".into()))];
        let error = settings(&Config::load(None, &given).unwrap())
            .unwrap_err()
            .to_string();
        assert!(error.contains("RamFilter") && error.contains("retry"), "{error}");
    }
}
