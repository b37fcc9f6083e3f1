//! The configuration: typed keys, declared in `keys.rs`. Each key has a default, a line in the TOML file and
//! an environment variable; the environment wins over the file, the command line over both. `cumulet config`
//! prints the table.

mod file;
mod keys;

use std::{collections::BTreeMap, fmt, marker::PhantomData, path::Path, str::FromStr};

use anyhow::{Result, anyhow};

pub(crate) use keys::{Config, KEYS};

/// What a process says of one key, whatever its type.
#[derive(Debug)]
pub(crate) struct Key {
    /// Dotted: `section.key` of the TOML file.
    pub(crate) name: &'static str,
    pub(crate) default: &'static str,
    doc: &'static str,
}

impl Key {
    /// What the key means.
    pub(crate) fn doc(&self) -> &'static str {
        self.doc.trim_start()
    }

    /// The environment variable: `CUMULET_` and the name in capitals, dots as underscores.
    pub(crate) fn variable(&self) -> String {
        format!("CUMULET_{}", self.name.to_uppercase().replace('.', "_"))
    }
}

/// Values that were given, by their keys' names.
type Texts = BTreeMap<&'static str, String>;

impl Config {
    /// Defaults, then the file, then the environment.
    pub(crate) fn load(file: Option<&Path>) -> Result<Self> {
        let mut texts = file.map(file::read).transpose()?.unwrap_or_default();
        let from_env = KEYS
            .iter()
            .filter_map(|key| Some((key.name, std::env::var(key.variable()).ok()?)));
        texts.extend(from_env);
        Ok(Config::of_texts(texts))
    }

    /// Defaults, and these values instead.
    #[cfg(test)]
    pub(crate) fn of(given: &[(&'static str, &str)]) -> Self {
        for (name, _) in given {
            assert!(KEYS.iter().any(|key| key.name == *name), "{name}");
        }
        Config::of_texts(
            given
                .iter()
                .map(|(name, text)| (*name, (*text).to_owned()))
                .collect(),
        )
    }
}

/// A key's value: a text that is read as a `T` where it is needed. What is wrong with it is an error there
/// and not before, because processes of other roles may have the same file, and nothing to do with the key.
pub(crate) struct Setting<T> {
    name: &'static str,
    text: String,
    kind: PhantomData<fn() -> T>,
}

impl<T> Setting<T> {
    fn new(name: &'static str, default: &str, given: &mut Texts) -> Self {
        Setting {
            name,
            text: given.remove(name).unwrap_or_else(|| default.to_owned()),
            kind: PhantomData,
        }
    }

    /// The key's name, for sentences about it.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// The text itself.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Whether nothing is configured.
    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Puts another value in its place, if there is one.
    pub(crate) fn replace(&mut self, text: Option<String>) {
        if let Some(text) = text {
            self.text = text;
        }
    }
}

impl<T: FromStr<Err: fmt::Display>> Setting<T> {
    /// The value.
    ///
    /// # Errors
    /// Names the key, where its text is none.
    pub(crate) fn get(&self) -> Result<T> {
        let Setting { name, text, .. } = self;
        text.parse()
            .map_err(|error| anyhow!("configuration: {name} = {text:?}: {error}"))
    }

    /// The value, or `None` where nothing is configured.
    ///
    /// # Errors
    /// Names the key, where its text is none.
    pub(crate) fn given(&self) -> Result<Option<T>> {
        match self.is_empty() {
            true => Ok(None),
            false => self.get().map(Some),
        }
    }
}

/// Only the name: some values have a password in them.
impl<T> fmt::Debug for Setting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_type_is_named_with_its_key() {
        let config = Config::of(&[("http.workers", "many")]);
        let error = config.http.workers.get().unwrap_err().to_string();
        assert!(
            error.contains("http.workers") && error.contains("many"),
            "{error}"
        );
    }

    #[test]
    fn every_key_is_there_once_and_says_what_it_means() {
        for key in KEYS {
            let same = KEYS.iter().filter(|other| other.name == key.name);
            assert_eq!(same.count(), 1, "{}", key.name);
            // Lines are joined by one blank.
            let doc = key.doc();
            assert!(
                doc.ends_with(['.', ')']) && !doc.contains("  "),
                "{}: {doc}",
                key.name
            );
        }
    }

    #[test]
    fn what_is_given_takes_a_defaults_place() {
        let mut config = Config::of(&[("libvirt.disk_mib", "7")]);
        assert_eq!(config.libvirt.disk_mib.get().unwrap(), 7);
        assert_eq!(config.network.tunnel_port.get().unwrap(), 4789);
        assert_eq!(config.network.tunnel_address.given().unwrap(), None);
        config.listen.replace(None);
        assert_eq!(config.listen.text(), "127.0.0.1:8773");
        config.listen.replace(Some("[::1]:1".into()));
        assert_eq!(
            (config.listen.name(), config.listen.text()),
            ("listen", "[::1]:1")
        );
    }

    #[test]
    fn values_do_not_print() {
        let config = Config::of(&[("bus", "amqp://user:canary@broker")]);
        assert!(!format!("{config:?}").contains("canary"));
    }
}
