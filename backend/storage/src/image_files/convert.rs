//! The conversion of an image file by `qemu-img`, in a jail. What it is given is a copy of the file that was inspected,
//! and its format by name; what it makes is inspected in its turn by whoever asked.

use std::{
    fs::Permissions,
    io,
    os::unix::fs::{PermissionsExt as _, fchown},
    time::Duration,
};

use cumulet_domain::image::FileFormat;
use nix::unistd::geteuid;

use super::{
    Stage,
    inspect::{Inspected, Rejected},
    jail::{Jail, RESULT, SOURCE, find},
    partial::Partial,
};

/// How long a conversion may take.
const DEADLINE: Duration = Duration::from_secs(6 * 3600);

/// What of the program's complaint is kept.
const COMPLAINT: usize = 500;

const GIB: u64 = 1 << 30;

/// Who converts.
#[derive(Clone, Copy, Debug)]
pub struct Converter {
    /// The user number of the process, which nobody else on this host has.
    pub uid: u32,
    /// Bytes that the result may come to, where that is less than what the disk and the room say.
    pub most: u64,
}

impl Converter {
    /// A process of this user number.
    pub const fn new(uid: u32) -> Converter {
        Converter { uid, most: u64::MAX }
    }

    /// That there can be a jail, before anything is copied.
    pub(super) fn check(self) -> Result<(), Rejected> {
        if !geteuid().is_root() || self.uid == 0 {
            return Err(Rejected::Conversion(
                "that is done in a jail, which takes root and another user for it; qemu-img convert -O qcow2 makes a file \
                 that can be imported without"
                    .into(),
            ));
        }
        let programs = [
            ("qemu-img", "qemu-utils"),
            ("prlimit", "util-linux"),
            ("setpriv", "util-linux"),
        ];
        for (program, package) in programs {
            find(program, package).map_err(Rejected::Conversion)?;
        }
        Ok(())
    }

    /// Converts the one into the other, a qcow2.
    pub(super) fn convert(
        self,
        source: &Partial,
        result: &Partial,
        inspected: Inspected,
        progress: &mut impl FnMut(Stage),
    ) -> Result<(), Rejected> {
        let jail = self.jail(source, result, inspected)?;
        self.give(source, result)?;
        let mut output = Output::default();
        let total = inspected.virtual_bytes;
        progress(Stage::Converting { done: 0, total });
        let program = find("qemu-img", "qemu-utils").map_err(Rejected::Conversion)?;
        let input = opened(inspected.format);
        let arguments = ["convert", "-p", "-O", "qcow2", &input, RESULT];
        let status = jail.run(&program, &arguments, |bytes| {
            if let Some(hundredths) = output.hear(bytes) {
                let done = u128::from(total) * u128::from(hundredths) / 10_000;
                let done = u64::try_from(done).unwrap_or(total);
                progress(Stage::Converting { done, total });
            }
        });
        // From here on it is nobody's but ours, whatever became of it.
        fchown(&result.file, Some(geteuid().as_raw()), Some(0))?;
        let status = status.map_err(|why| Rejected::Conversion(format!("qemu-img: {why}")))?;
        if status.success() {
            return Ok(());
        }
        let said = output.said();
        Err(Rejected::Conversion(format!("qemu-img: {status}: {said}")))
    }

    /// Limits by what the disk can need: a little more than its bytes, and never all of the room that there is.
    fn jail(self, source: &Partial, result: &Partial, inspected: Inspected) -> io::Result<Jail> {
        let disk = inspected.virtual_bytes;
        let room = rustix::fs::fstatvfs(&result.file)?;
        let room = room.f_bavail.saturating_mul(room.f_frsize) / 10 * 9;
        let (whole, given) = (disk.div_ceil(GIB), source.file.metadata()?.len().div_ceil(GIB));
        Ok(Jail {
            uid: self.uid,
            source: source.path.clone(),
            result: result.path.clone(),
            // Holes of a TiB took half a minute of one, compressed data of a GiB ten seconds.
            cpu_seconds: 300 + whole + 60 * given,
            file_bytes: (disk + disk / 1024 + (64 << 20)).min(room).min(self.most),
            deadline: DEADLINE,
        })
    }

    /// Gives the files to the jail's user: one to read, one to write. Both are ours and in a folder of ours.
    fn give(self, source: &Partial, result: &Partial) -> Result<(), Rejected> {
        let given = [(source, 0o400), (result, 0o600)]
            .into_iter()
            .try_for_each(|(partial, mode)| {
                partial.file.set_permissions(Permissions::from_mode(mode))?;
                fchown(&partial.file, Some(self.uid), Some(self.uid))
            });
        given.map_err(|error| {
            Rejected::Conversion(format!(
                "a file can't be given to the user {} (the key images.convert_uid): {error}",
                self.uid
            ))
        })
    }
}

/// The file in QEMU's words: the format by name, its file a plain one, no file behind it whatever it says.
fn opened(format: FileFormat) -> String {
    let more = match format {
        FileFormat::Raw => r#""driver":"raw""#,
        FileFormat::Qcow2 => r#""driver":"qcow2","backing":null"#,
        FileFormat::Vmdk => r#""driver":"vmdk","backing":null"#,
        // Programs differ in which of its two sizes counts: what we inspect is this one.
        FileFormat::Vhd => r#""driver":"vpc","force_size_calc":"current_size""#,
        FileFormat::Vhdx => r#""driver":"vhdx""#,
    };
    format!(r#"json:{{{more},"read-only":true,"file":{{"driver":"file","filename":"{SOURCE}"}}}}"#)
}

/// What `qemu-img convert -p` writes: `    (12.34/100%)` and a carriage return again and again, and complaints.
#[derive(Debug, Default)]
struct Output {
    begun: Vec<u8>,
    complaint: Vec<u8>,
}

impl Output {
    /// The newest progress in it, in hundredths of a percent.
    fn hear(&mut self, bytes: &[u8]) -> Option<u64> {
        let mut newest = None;
        for byte in bytes {
            if !matches!(byte, b'\r' | b'\n') {
                // A line without an end is cut: it is no progress.
                if self.begun.len() < COMPLAINT {
                    self.begun.push(*byte);
                }
                continue;
            }
            let line = std::mem::take(&mut self.begun);
            match hundredths(&line) {
                Some(hundredths) => newest = Some(hundredths),
                None => self.complain(&line),
            }
        }
        newest
    }

    fn complain(&mut self, line: &[u8]) {
        let line = line.trim_ascii();
        if !line.is_empty() && self.complaint.len() < COMPLAINT {
            let between: &[u8] = if self.complaint.is_empty() { b"" } else { b"; " };
            self.complaint.extend_from_slice(between);
            self.complaint.extend_from_slice(line);
        }
    }

    /// What it complained of, as a text for people.
    fn said(mut self) -> String {
        let rest = std::mem::take(&mut self.begun);
        if hundredths(&rest).is_none() {
            self.complain(&rest);
        }
        let said = String::from_utf8_lossy(&self.complaint);
        said.chars().filter(|c| !c.is_control()).take(COMPLAINT).collect()
    }
}

/// `(12.34/100%)` is 1234.
fn hundredths(line: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(line).ok()?.trim();
    let (whole, part) = text.strip_prefix('(')?.strip_suffix("/100%)")?.split_once('.')?;
    let (whole, part): (u64, u64) = (whole.parse().ok()?, part.parse().ok()?);
    Some((whole.min(100) * 100 + part.min(99)).min(10_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_and_complaints_are_kept() {
        let mut output = Output::default();
        assert_eq!(output.hear(b"    (0.00/100%)\r    (1.0"), Some(0));
        assert_eq!(output.hear(b"3/100%)\r"), Some(103));
        assert_eq!(
            output.hear(b"qemu-img: error while writing\n    (2.00/100%)\r"),
            Some(200)
        );
        assert_eq!(output.hear(b"    (100.00/100%)\r\n"), Some(10_000));
        assert_eq!(output.hear(&[b'x'; 100_000]), None);
        let said = output.said();
        assert!(said.starts_with("qemu-img: error while writing; xxx"), "{said}");
        assert!(said.len() <= COMPLAINT);
        for line in ["(1/100%)", "(a.b/100%)", "(1.0/100", "", "(-1.00/100%)"] {
            assert_eq!(hundredths(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn formats_are_told_and_nothing_is_behind_them() {
        let told = opened(FileFormat::Vmdk);
        assert_eq!(
            told,
            r#"json:{"driver":"vmdk","backing":null,"read-only":true,"file":{"driver":"file","filename":"/source"}}"#
        );
    }
}
