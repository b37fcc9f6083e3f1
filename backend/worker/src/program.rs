//! Programs of QEMU's that are run for disks: nothing of this process's environment, a deadline, and what they complain
//! of as the error.

use std::{ffi::OsString, io, path::Path, path::PathBuf, process::Stdio, time::Duration};

use cumulet_certs::SecretString;
use tokio::{io::AsyncWriteExt as _, process::Command};

/// How long one run may take that copies nothing.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// What of the program's complaint is kept.
const COMPLAINT: usize = 500;

/// A run.
pub(crate) struct Run {
    pub(crate) arguments: Vec<OsString>,
    /// What it reads: arguments are for everybody to see.
    pub(crate) stdin: Option<SecretString>,
    /// Where it runs; `None`: where this process does.
    pub(crate) dir: Option<PathBuf>,
    pub(crate) deadline: Duration,
}

/// Runs a program to its end.
pub(crate) async fn run(program: &Path, run: Run) -> io::Result<()> {
    let name = program
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut command = Command::new(program);
    command
        .args(run.arguments)
        .env_clear()
        .env("LC_ALL", "C")
        .stdin(if run.stdin.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if let Some(dir) = run.dir {
        command.current_dir(dir);
    }
    let done = async {
        let mut child = command.spawn()?;
        if let (Some(text), Some(mut input)) = (&run.stdin, child.stdin.take()) {
            // One that has ended already says itself why.
            drop(input.write_all(text.expose().as_bytes()).await);
        }
        child.wait_with_output().await
    };
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("{name} did not end in time"));
    let output = tokio::time::timeout(run.deadline, done).await.map_err(late)??;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: String = said.trim().chars().take(COMPLAINT).collect();
    Err(io::Error::other(format!("{name}: {}: {said}", output.status)))
}
