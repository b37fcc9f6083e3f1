//! The generations at which instances were destroyed here, for a day: a command that comes late must not
//! bring one back. Commands have deadlines far shorter than that.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::Duration,
};

use cumulet_domain::{id::InstanceId, time::Timestamp};

/// How long a tombstone stands.
const AGE: Duration = Duration::from_secs(24 * 3600);

/// Tombstones that stand at the most; beyond it the file is written anew without the old ones.
const MANY: usize = 100_000;

#[derive(Debug)]
pub(crate) struct Tombstones {
    generations: HashMap<InstanceId, (u64, Timestamp)>,
    file: File,
}

impl Tombstones {
    /// Reads the file (a line each: id, generation, time) and forgets what is old. The file is only added
    /// to: an audit opens it too, while the worker runs.
    pub(crate) fn open(path: &Path, now: Timestamp) -> io::Result<Tombstones> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            other => other?,
        };
        let mut generations: HashMap<_, _> = text.lines().filter_map(parse).collect();
        generations.retain(|_, (_, at)| now.since(*at) < AGE);
        let file = append(path)?;
        Ok(Tombstones { generations, file })
    }

    /// Writes the file anew, without what is old. For the worker that runs, and nobody else.
    pub(crate) fn compact(&mut self, path: &Path) -> io::Result<()> {
        let lines: String = self
            .generations
            .iter()
            .map(|(id, (generation, at))| line(*id, *generation, *at))
            .collect();
        crate::files::write(path, lines.as_bytes())?;
        self.file = append(path)?;
        Ok(())
    }

    pub(crate) fn get(&self, instance: InstanceId) -> Option<u64> {
        self.generations.get(&instance).map(|(generation, _)| *generation)
    }

    pub(crate) fn put(&mut self, instance: InstanceId, generation: u64, now: Timestamp) -> io::Result<()> {
        if self.generations.len() >= MANY {
            self.generations.retain(|_, (_, at)| now.since(*at) < AGE / 24);
        }
        self.generations.insert(instance, (generation, now));
        self.file.write_all(line(instance, generation, now).as_bytes())
    }
}

fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600).open(path)
}

fn line(instance: InstanceId, generation: u64, at: Timestamp) -> String {
    format!("{instance} {generation} {}\n", at.0)
}

fn parse(line: &str) -> Option<(InstanceId, (u64, Timestamp))> {
    let mut words = line.split(' ');
    let instance = words.next()?.parse().ok()?;
    let generation = words.next()?.parse().ok()?;
    let at = words.next()?.parse().ok()?;
    Some((instance, (generation, Timestamp(at))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_stand_for_a_day_across_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tombstones");
        let id = InstanceId::new(1 << 40);
        let mut stones = Tombstones::open(&path, Timestamp(0)).unwrap();
        stones.put(id, 3, Timestamp(0)).unwrap();
        stones.put(id, 7, Timestamp(1)).unwrap();
        for _ in 0..2 {
            assert_eq!(Tombstones::open(&path, Timestamp(1000)).unwrap().get(id), Some(7));
        }
        let mut again = Tombstones::open(&path, Timestamp(1000)).unwrap();
        again.compact(&path).unwrap();
        again.put(InstanceId::new(2), 1, Timestamp(1)).unwrap();
        assert_eq!(
            Tombstones::open(&path, Timestamp(1000))
                .unwrap()
                .generations
                .len(),
            2
        );
        let later = Timestamp(1).after(AGE);
        assert_eq!(Tombstones::open(&path, later).unwrap().get(id), None);
        assert_eq!(Tombstones::open(&path, later).unwrap().generations.len(), 0);
    }
}
