//! The journal file of simulated guests, one line a change, so that a change costs the same however many
//! guests there are. It is compacted when it is opened.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Write},
    path::Path,
};

use cumulet_domain::id::InstanceId;
use serde::{Deserialize, Serialize};

use super::Guest;

/// A guest as it is after a change; `None` when it is gone.
#[derive(Deserialize)]
struct Line {
    instance: InstanceId,
    guest: Option<Guest>,
}

#[derive(Serialize)]
struct Written<'a> {
    instance: InstanceId,
    guest: Option<&'a Guest>,
}

#[derive(Debug)]
pub(super) struct Journal(File);

impl Journal {
    /// Opens the file and reads what is in it. A last line that was cut is no line.
    pub(super) fn open(path: &Path) -> io::Result<(Journal, BTreeMap<InstanceId, Guest>)> {
        let mut guests = BTreeMap::new();
        match File::open(path) {
            Ok(file) => {
                for line in BufReader::new(file).lines() {
                    let Ok(line) = serde_json::from_str::<Line>(&line?) else {
                        continue;
                    };
                    match line.guest {
                        Some(guest) => guests.insert(line.instance, guest),
                        None => guests.remove(&line.instance),
                    };
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let fresh = path.with_extension("new");
        let mut text = Vec::new();
        for (instance, guest) in &guests {
            write_line(&mut text, *instance, Some(guest))?;
        }
        fs::write(&fresh, text)?;
        fs::rename(&fresh, path)?;
        let file = OpenOptions::new().append(true).open(path)?;
        Ok((Journal(file), guests))
    }

    /// Adds a change. A simulated host that can't write only forgets.
    pub(super) fn append(&mut self, instance: InstanceId, guest: Option<&Guest>) {
        let mut line = Vec::with_capacity(256);
        let written = write_line(&mut line, instance, guest).and_then(|()| self.0.write_all(&line));
        if let Err(error) = written {
            tracing::warn!(%error, "the simulated host can't keep its guests");
        }
    }
}

fn write_line(out: &mut Vec<u8>, instance: InstanceId, guest: Option<&Guest>) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &Written { instance, guest })?;
    out.push(b'\n');
    Ok(())
}
