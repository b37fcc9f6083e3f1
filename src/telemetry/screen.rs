//! The status line: the terminal's last line, rewritten in place while the log scrolls above it.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

/// Back to the line's begin, and everything after it gone.
const ERASE: &str = "\r\x1b[K";

/// A terminal with at most one status line.
pub(super) struct Screen(Mutex<Shown>);

struct Shown {
    out: Box<dyn Write + Send>,
    /// The status line that stands there; empty where none does.
    line: String,
}

impl Screen {
    pub(super) fn new(out: impl Write + Send + 'static) -> Self {
        let (out, line) = (Box::new(out), String::new());
        Screen(Mutex::new(Shown { out, line }))
    }

    /// Replaces the status line, by nothing where `line` is empty. A terminal that is gone is not an error.
    pub(super) fn show(&self, line: &str) {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.line != line {
            line.clone_into(&mut shown.line);
            drop(shown.put(format!("{ERASE}{line}").as_bytes()));
        }
    }

    /// Writes whole lines above the status line, in one piece.
    pub(super) fn write(&self, lines: &[u8]) -> io::Result<()> {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.line.is_empty() {
            return shown.put(lines);
        }
        let text = [ERASE.as_bytes(), lines, shown.line.as_bytes()].concat();
        shown.put(&text)
    }
}

impl Shown {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.flush()
    }
}

/// A screen as the log writes to it.
pub(super) struct Above(pub(super) Arc<Screen>);

impl Write for Above {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Keeps what is written.
    #[derive(Clone, Default)]
    pub(in super::super) struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Kept {
        /// What was written since the last call.
        pub(in super::super) fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
        }
    }

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_log_goes_above_the_status_line() {
        let kept = Kept::default();
        let screen = Arc::new(Screen::new(kept.clone()));
        screen.write(b"one\n").unwrap();
        assert_eq!(kept.take(), "one\n");
        screen.show("half");
        screen.show("half");
        assert_eq!(kept.take(), "\r\x1b[Khalf");
        Above(screen.clone()).write_all(b"two\n").unwrap();
        assert_eq!(kept.take(), "\r\x1b[Ktwo\nhalf");
        screen.show("");
        screen.show("");
        screen.write(b"three\n").unwrap();
        assert_eq!(kept.take(), "\r\x1b[Kthree\n");
    }
}
