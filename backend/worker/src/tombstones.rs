//! Tombstones: the generations at which instances were destroyed here, or stopped without having been here,
//! for an hour: a command that comes late must not bring one back. Later than its deadline no command is
//! obeyed, and the longest, a launch's, is five minutes after it was asked for; the rest is for clocks that
//! differ. Volumes have them too (`volumes.rs`), in a file of their own.

use std::{
    collections::HashMap,
    fmt::Display,
    hash::Hash,
    io,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use cumulet_domain::{id::InstanceId, time::Timestamp};

use crate::files::{HostFiles, Log};

/// What a tombstone can be put up for.
pub(crate) trait Mortal: Copy + Eq + Hash + Display + FromStr {}

impl<Id: Copy + Eq + Hash + Display + FromStr> Mortal for Id {}

/// How long a tombstone stands.
const AGE: Duration = Duration::from_secs(3600);

/// Lines of a file that is not worth a look for old ones.
const FEW: usize = if cfg!(test) { 4 } else { 1024 };

/// What is known of something that is not here, or not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tombstone {
    /// No older command is carried out, and none that would run it at this generation.
    pub(crate) generation: u64,
    /// It was destroyed: what is left of it is rubbish. Otherwise only older commands are barred (an instance was
    /// stopped, a volume is used by something newer), and what may be here of it is to be kept.
    pub(crate) destroyed: bool,
}

#[derive(Debug)]
pub(crate) struct Tombstones<Id = InstanceId> {
    stones: HashMap<Id, (Tombstone, Timestamp)>,
    files: Arc<dyn HostFiles>,
    path: PathBuf,
    log: Box<dyn Log>,
    /// How many lines the file has, and how many it may have until it is written anew.
    lines: usize,
    room: usize,
}

impl<Id: Mortal> Tombstones<Id> {
    /// Reads the file (a line each: id, generation, time, and `stopped` if so) and forgets what is old. An
    /// audit opens it too, while the worker runs, and only reads: it is added to, or replaced as a whole.
    pub(crate) fn open(files: Arc<dyn HostFiles>, path: &Path, now: Timestamp) -> io::Result<Tombstones<Id>> {
        let text = match files.read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            other => String::from_utf8(other?).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?,
        };
        let known: HashMap<_, _> = text.lines().filter_map(parse).collect();
        let mut stones = Tombstones {
            stones: known,
            path: path.to_owned(),
            log: files.open_log(path)?,
            files,
            lines: text.lines().count(),
            room: 0,
        };
        stones.forget(now);
        Ok(stones)
    }

    fn forget(&mut self, now: Timestamp) {
        self.stones.retain(|_, (_, at)| now.since(*at) < AGE);
        self.room = (2 * self.stones.len()).max(FEW);
    }

    /// Writes the file anew, without what is old. For the worker that runs, and nobody else.
    pub(crate) fn compact(&mut self) -> io::Result<()> {
        let lines: String = self
            .stones
            .iter()
            .map(|(id, (stone, at))| line(*id, *stone, *at))
            .collect();
        // Opened before it takes the other's place: from then on there is nothing left that could fail.
        let fresh = self.path.with_extension("new");
        self.files.write_fresh(&fresh, lines.as_bytes())?;
        let log = self.files.open_log(&fresh)?;
        self.files.rename(&fresh, &self.path)?;
        self.log = log;
        self.lines = self.stones.len();
        Ok(())
    }

    pub(crate) fn get(&self, id: Id) -> Option<Tombstone> {
        self.stones.get(&id).map(|(stone, _)| *stone)
    }

    pub(crate) fn put(&mut self, id: Id, stone: Tombstone, now: Timestamp) -> io::Result<()> {
        // Each time it has doubled, so that one pays for few others.
        if self.lines >= self.room {
            self.forget(now);
            self.compact()?;
        }
        self.stones.insert(id, (stone, now));
        self.lines += 1;
        self.log.add(line(id, stone, now).as_bytes())
    }
}

/// How the line of what was not destroyed ends.
const STOPPED: &str = "stopped";

fn line(id: impl Mortal, stone: Tombstone, at: Timestamp) -> String {
    let (space, word) = if stone.destroyed { ("", "") } else { (" ", STOPPED) };
    format!("{id} {} {}{space}{word}\n", stone.generation, at.0)
}

fn parse<Id: Mortal>(line: &str) -> Option<(Id, (Tombstone, Timestamp))> {
    let mut words = line.split(' ');
    let id = words.next()?.parse().ok()?;
    let generation = words.next()?.parse().ok()?;
    let at = words.next()?.parse().ok()?;
    let destroyed = words.next() != Some(STOPPED);
    let stone = Tombstone {
        generation,
        destroyed,
    };
    Some((id, (stone, Timestamp(at))))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::files::DiskFiles;

    fn open(path: &Path, now: Timestamp) -> io::Result<Tombstones> {
        Tombstones::open(Arc::new(DiskFiles), path, now)
    }

    #[test]
    fn they_stand_for_an_hour_across_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tombstones");
        let id = InstanceId::new(1 << 40);
        let stone = |generation, destroyed| Tombstone {
            generation,
            destroyed,
        };
        let mut stones = open(&path, Timestamp(0)).unwrap();
        stones.put(id, stone(3, true), Timestamp(0)).unwrap();
        for last in [stone(7, false), stone(7, true)] {
            stones.put(id, last, Timestamp(1)).unwrap();
            let again = open(&path, Timestamp(1000)).unwrap();
            assert_eq!(again.get(id), Some(last));
        }
        let mut again = open(&path, Timestamp(1000)).unwrap();
        again.compact().unwrap();
        again
            .put(InstanceId::new(2), stone(1, true), Timestamp(1))
            .unwrap();
        assert_eq!(open(&path, Timestamp(1000)).unwrap().stones.len(), 2);
        let later = Timestamp(1).after(AGE);
        assert_eq!(open(&path, later).unwrap().get(id), None);
        assert_eq!(open(&path, later).unwrap().stones.len(), 0);
    }

    #[test]
    fn old_ones_leave_memory_and_file_while_the_worker_runs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tombstones");
        let mut stones = open(&path, Timestamp(0)).unwrap();
        let lines = || fs::read_to_string(&path).unwrap().lines().count();
        let mut now = Timestamp(0);
        for number in 1..100 {
            now = now.after(AGE / 3);
            let stone = Tombstone {
                generation: 1,
                destroyed: true,
            };
            stones.put(InstanceId::new(number), stone, now).unwrap();
            assert_eq!(stones.get(InstanceId::new(number)), Some(stone));
            // What is not old stands, and what is old does not pile up.
            assert!(number < 3 || stones.get(InstanceId::new(number - 2)).is_some());
            assert!(lines() <= 8 && stones.stones.len() <= 8, "{}", lines());
        }
        let again = open(&path, now).unwrap();
        assert_eq!(again.stones.len(), 3);
    }
}
