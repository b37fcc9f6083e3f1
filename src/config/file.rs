//! The configuration's file: TOML, whose keys are flattened to dotted names. A name that there is not is an
//! error, which names the nearest that there is.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result, anyhow, bail};
use strsim::damerau_levenshtein;

use super::{KEYS, Texts};

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<Texts> {
    let context = || format!("the configuration {}", path.display());
    let text = std::fs::read_to_string(path).with_context(context)?;
    parse(&text).with_context(context)
}

fn parse(text: &str) -> Result<Texts> {
    let table: toml::Table = text.parse().context("this is not TOML")?;
    let mut values = BTreeMap::new();
    for (name, value) in table {
        match value {
            toml::Value::Table(section) => {
                for (inner, value) in section {
                    put(&mut values, &format!("{name}.{inner}"), &value)?;
                }
            }
            value => put(&mut values, &name, &value)?,
        }
    }
    Ok(values)
}

fn put(values: &mut Texts, name: &str, value: &toml::Value) -> Result<()> {
    let key = KEYS.iter().find(|key| key.name == name);
    let key = key.ok_or_else(|| unknown(name))?;
    let text = match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => number.to_string(),
        toml::Value::Boolean(flag) => flag.to_string(),
        _ => bail!("{name} is a single value, not a list or a section"),
    };
    values.insert(key.name, text);
    Ok(())
}

fn unknown(name: &str) -> anyhow::Error {
    let meant = nearest(name).map_or_else(String::new, |key| format!(" (is {key:?} meant?)"));
    anyhow!("there is no key {name:?}{meant}; `cumulet config` lists them")
}

/// The key whose name takes the fewest changes, where that is at most a third of what was written. A section
/// that was left out counts as one.
fn nearest(name: &str) -> Option<&'static str> {
    let changes = |key: &str| {
        let whole = damerau_levenshtein(name, key);
        match key.split_once('.') {
            Some((_, own)) => whole.min(damerau_levenshtein(name, own) + 1),
            None => whole,
        }
    };
    let all = KEYS.iter().map(|key| (changes(key.name), key.name));
    let (changes, key) = all.min()?;
    (changes <= name.chars().count().div_ceil(3)).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_sets_keys_of_any_single_kind() {
        let values =
            parse("region = \"eu-1\"\n[scheduler]\ncpu_allocation_ratio = 4.5\n[auth]\nsigv2 = true")
                .unwrap();
        assert_eq!(values["region"], "eu-1");
        assert_eq!(values["scheduler.cpu_allocation_ratio"], "4.5");
        assert_eq!(values["auth.sigv2"], "true");
        for (text, named) in [("listen = [1]", "listen"), ("=", "TOML")] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest() {
        for (text, name, nearest) in [
            ("regoin = 1", "regoin", Some("region")),
            ("[htpp]\nworkers = 1", "htpp.workers", Some("http.workers")),
            ("[http]\nworker = 1", "http.worker", Some("http.workers")),
            ("workers = 1", "workers", Some("http.workers")),
            (
                "[network]\ntunnel_adress = 1",
                "network.tunnel_adress",
                Some("network.tunnel_address"),
            ),
            ("colour = 1", "colour", Some("log.colour")),
            ("weather = 1", "weather", None),
            ("[a.b]\nc = 1", "a.b", None),
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            assert!(error.contains(&format!("no key {name:?}")), "{error}");
            match nearest {
                Some(key) => assert!(error.contains(&format!("is {key:?} meant?")), "{error}"),
                None => assert!(!error.contains("meant"), "{error}"),
            }
        }
    }
}
