//! The generations at which instances were destroyed here, for an hour: a command that comes late must not
//! bring one back. Later than its deadline no command is obeyed, and the longest, a launch's, is five minutes
//! after it was asked for; the rest is for clocks that differ.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use cumulet_domain::{id::InstanceId, time::Timestamp};

/// How long a tombstone stands.
const AGE: Duration = Duration::from_secs(3600);

/// Lines of a file that is not worth a look for old ones.
const FEW: usize = if cfg!(test) { 4 } else { 1024 };

#[derive(Debug)]
pub(crate) struct Tombstones {
    generations: HashMap<InstanceId, (u64, Timestamp)>,
    path: PathBuf,
    file: File,
    /// How many lines the file has, and how many it may have until it is written anew.
    lines: usize,
    room: usize,
}

impl Tombstones {
    /// Reads the file (a line each: id, generation, time) and forgets what is old. An audit opens it too,
    /// while the worker runs, and only reads: it is added to, or replaced as a whole.
    pub(crate) fn open(path: &Path, now: Timestamp) -> io::Result<Tombstones> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            other => other?,
        };
        let generations: HashMap<_, _> = text.lines().filter_map(parse).collect();
        let mut stones = Tombstones {
            generations,
            path: path.to_owned(),
            file: append(path)?,
            lines: text.lines().count(),
            room: 0,
        };
        stones.forget(now);
        Ok(stones)
    }

    fn forget(&mut self, now: Timestamp) {
        self.generations.retain(|_, (_, at)| now.since(*at) < AGE);
        self.room = (2 * self.generations.len()).max(FEW);
    }

    /// Writes the file anew, without what is old. For the worker that runs, and nobody else.
    pub(crate) fn compact(&mut self) -> io::Result<()> {
        let lines: String = self
            .generations
            .iter()
            .map(|(id, (generation, at))| line(*id, *generation, *at))
            .collect();
        crate::files::write(&self.path, lines.as_bytes())?;
        self.file = append(&self.path)?;
        self.lines = self.generations.len();
        Ok(())
    }

    pub(crate) fn get(&self, instance: InstanceId) -> Option<u64> {
        self.generations.get(&instance).map(|(generation, _)| *generation)
    }

    pub(crate) fn put(&mut self, instance: InstanceId, generation: u64, now: Timestamp) -> io::Result<()> {
        // Each time it has doubled, so that one pays for few others.
        if self.lines >= self.room {
            self.forget(now);
            self.compact()?;
        }
        self.generations.insert(instance, (generation, now));
        self.lines += 1;
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
    fn they_stand_for_an_hour_across_restarts() {
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
        again.compact().unwrap();
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

    #[test]
    fn old_ones_leave_memory_and_file_while_the_worker_runs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tombstones");
        let mut stones = Tombstones::open(&path, Timestamp(0)).unwrap();
        let lines = || fs::read_to_string(&path).unwrap().lines().count();
        let mut now = Timestamp(0);
        for number in 1..100 {
            now = now.after(AGE / 3);
            stones.put(InstanceId::new(number), 1, now).unwrap();
            assert_eq!(stones.get(InstanceId::new(number)), Some(1));
            // What is not old stands, and what is old does not pile up.
            assert!(number < 3 || stones.get(InstanceId::new(number - 2)).is_some());
            assert!(lines() <= 8 && stones.generations.len() <= 8, "{}", lines());
        }
        let again = Tombstones::open(&path, now).unwrap();
        assert_eq!(again.generations.len(), 3);
    }
}
