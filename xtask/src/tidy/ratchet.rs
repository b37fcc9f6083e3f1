//! Exceptions to a rule, in a file that may only shrink: a new one needs a reviewer's yes, and one that
//! is no longer needed must go.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::Finding;

/// The exceptions of one rule: what, and the most that it may be.
#[derive(Debug)]
pub(super) struct Ratchet {
    path: PathBuf,
    /// Comments at the file's head, kept.
    head: String,
    limits: BTreeMap<String, usize>,
}

impl Ratchet {
    /// Reads `tests/ratchet/NAME.txt`: lines `KEY LIMIT`, and `#` comments before them. No file, no
    /// exceptions.
    pub(super) fn read(root: &Path, name: &str) -> Result<Self> {
        let path = root.join("tests/ratchet").join(format!("{name}.txt"));
        let text = if path.exists() {
            std::fs::read_to_string(&path)?
        } else {
            String::new()
        };
        Self::parse(path, &text)
    }

    fn parse(path: PathBuf, text: &str) -> Result<Self> {
        let (mut head, mut limits) = (String::new(), BTreeMap::new());
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            if line.starts_with('#') {
                writeln!(head, "{line}")?;
                continue;
            }
            let entry = line
                .rsplit_once(' ')
                .and_then(|(key, limit)| Some((key, limit.parse().ok()?)));
            let (key, limit) = entry.with_context(|| format!("{}: not KEY LIMIT: {line}", path.display()))?;
            if limits.insert(key.to_owned(), limit).is_some() {
                bail!("{}: twice: {key}", path.display());
            }
        }
        Ok(Self { path, head, limits })
    }

    /// Compares with what was measured: everything that exceeds the rule's own limit, and how much it is.
    pub(super) fn check(&self, measured: &BTreeMap<String, usize>, limit: usize, what: &str) -> Vec<Finding> {
        let over = measured
            .iter()
            .filter_map(|(key, &lines)| match self.limits.get(key) {
                None => Some(Finding::at(
                    key,
                    format!("{lines} {what}; the limit is {limit}: look for the missing idea"),
                )),
                Some(&was) if lines > was => Some(Finding::at(
                    key,
                    format!("{lines} {what}, and the ratchet allows {was}: it may only shrink"),
                )),
                Some(_) => None,
            });
        let gone = self
            .limits
            .keys()
            .filter(|key| !measured.contains_key(*key))
            .map(|key| {
                Finding::at(
                    key,
                    format!(
                        "is an exception in {} no more: cargo xtask tidy --shrink",
                        self.path.display()
                    ),
                )
            });
        over.chain(gone).collect()
    }

    /// Drops what is not needed and lowers the rest to what was measured.
    pub(super) fn shrink(&mut self, measured: &BTreeMap<String, usize>) -> Result<()> {
        let before = self.limits.clone();
        self.limits.retain(|key, _| measured.contains_key(key));
        for (key, limit) in &mut self.limits {
            *limit = measured.get(key).copied().unwrap_or(*limit).min(*limit);
        }
        if self.limits == before {
            return Ok(());
        }
        let mut text = self.head.clone();
        for (key, limit) in &self.limits {
            writeln!(text, "{key} {limit}")?;
        }
        std::fs::write(&self.path, text).with_context(|| format!("writing {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(of: &[(&str, usize)]) -> BTreeMap<String, usize> {
        of.iter()
            .map(|(key, lines)| ((*key).to_owned(), *lines))
            .collect()
    }

    #[test]
    fn only_what_is_listed_may_exceed_and_only_as_far() {
        let ratchet = Ratchet::parse(PathBuf::from("r.txt"), "# why\na.rs 70\nb.rs 80\nc.rs 90\n").unwrap();
        let found = ratchet.check(
            &measured(&[("a.rs", 70), ("b.rs", 81), ("d.rs", 61)]),
            60,
            "lines",
        );
        let found: Vec<&str> = found.iter().map(|f| f.0.as_str()).collect();
        assert_eq!(
            found,
            [
                "b.rs: 81 lines, and the ratchet allows 80: it may only shrink",
                "d.rs: 61 lines; the limit is 60: look for the missing idea",
                "c.rs: is an exception in r.txt no more: cargo xtask tidy --shrink",
            ]
        );
    }

    #[test]
    fn shrinking_never_raises_and_never_adds() {
        let path = std::env::temp_dir().join(format!("ratchet-{}.txt", std::process::id()));
        let mut ratchet = Ratchet::parse(path.clone(), "# why\na.rs 70\nb.rs 80\nc.rs 90\n").unwrap();
        ratchet
            .shrink(&measured(&[("a.rs", 65), ("b.rs", 99), ("d.rs", 61)]))
            .unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(text, "# why\na.rs 65\nb.rs 80\n");
    }

    #[test]
    fn a_broken_line_is_refused() {
        assert!(Ratchet::parse(PathBuf::new(), "a.rs many\n").is_err());
        assert!(Ratchet::parse(PathBuf::new(), "a.rs 1\na.rs 2\n").is_err());
    }
}
