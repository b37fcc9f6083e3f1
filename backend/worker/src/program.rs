//! Programs of QEMU's that are run for disks: nothing of this process's environment, a deadline, and what they complain
//! of as the error.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use cumulet_certs::SecretString;
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, Command},
};

use crate::failure::NO_ROOM;

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
}

/// Runs a program to its end.
pub(crate) async fn run(program: &Path, run: Run, deadline: Duration) -> io::Result<()> {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let done = async { start(program, run).await?.wait_with_output().await };
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("{name} did not end in time"));
    let output = tokio::time::timeout(deadline, done).await.map_err(late)??;
    complaint(&name, &output)
}

/// Starts a program, which has read what it is to read when this returns. It ends with what is returned.
pub(crate) async fn start(program: &Path, run: Run) -> io::Result<Child> {
    let mut command = Command::new(program);
    command
        .args(run.arguments)
        .env_clear()
        .env("LC_ALL", "C")
        .stdin(match run.stdin {
            Some(_) => Stdio::piped(),
            None => Stdio::null(),
        })
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    if let Some(dir) = run.dir {
        command.current_dir(dir);
    }
    let mut child = command.spawn()?;
    if let (Some(text), Some(mut input)) = (&run.stdin, child.stdin.take()) {
        // One that has ended already says itself why.
        drop(input.write_all(text.expose().as_bytes()).await);
    }
    Ok(child)
}

/// What a program that has failed complains of, as the error.
pub(crate) fn complaint(name: &str, output: &Output) -> io::Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: String = said.trim().chars().take(COMPLAINT).collect();
    let kind = if said.contains(NO_ROOM) {
        io::ErrorKind::StorageFull
    } else {
        io::ErrorKind::Other
    };
    Err(io::Error::new(kind, format!("{name}: {}: {said}", output.status)))
}
