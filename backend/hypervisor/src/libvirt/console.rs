//! The tail of a guest's console log: of its file, and of the one before, if the log daemon has begun a new
//! one.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};

/// The last `max` bytes. No file is an empty console.
pub(super) fn tail(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let mut text = end_of(path, max)?;
    if text.len() < max {
        let mut former = OsString::from(path);
        former.push(".0");
        let mut before = end_of(Path::new(&former), max - text.len())?;
        before.append(&mut text);
        text = before;
    }
    Ok(text)
}

fn end_of(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub(max as u64)))?;
    let mut text = Vec::new();
    // It may grow meanwhile.
    file.take(max as u64).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_goes_back_into_the_former_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        assert_eq!(tail(&path, 10).unwrap(), b"");
        std::fs::write(&path, "new").unwrap();
        assert_eq!(tail(&path, 10).unwrap(), b"new");
        std::fs::write(dir.path().join("console.log.0"), "old, long").unwrap();
        assert_eq!(tail(&path, 7).unwrap(), b"longnew");
        assert_eq!(tail(&path, 2).unwrap(), b"ew");
    }
}
