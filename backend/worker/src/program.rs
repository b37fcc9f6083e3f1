//! Programs of QEMU's and Ceph's that are run for disks: nothing of this process's environment, a deadline, and what they
//! complain of as the error.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use cumulet_certs::SecretString;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
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

/// What a program has said, which has ended or was ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) stdout: Vec<u8>,
    /// Its exit status; `None`: a signal has ended it.
    pub(crate) status: Option<i32>,
    /// What it complains of, where it has failed.
    pub(crate) complaint: Option<String>,
}

fn name(program: &Path) -> String {
    let name = program.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// What comes of a program within its time, by its name.
async fn in_time<T>(
    name: &str,
    done: impl Future<Output = io::Result<T>>,
    deadline: Duration,
) -> io::Result<T> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("{name} did not end in time"));
    tokio::time::timeout(deadline, done).await.map_err(late)?
}

/// Runs a program to its end.
pub(crate) async fn run(program: &Path, run: Run, deadline: Duration) -> io::Result<()> {
    let name = name(program);
    let done = async { start(program, run).await?.wait_with_output().await };
    let output = in_time(&name, done, deadline).await?;
    complaint(&name, &output)
}

/// Runs a program to its end that reads nothing, for what it prints. Only one that can't be run or does not end is an
/// error.
pub(crate) async fn ask(program: &Path, arguments: Vec<OsString>, deadline: Duration) -> io::Result<Said> {
    let name = name(program);
    let mut command = command(program, arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let output = in_time(
        &name,
        async { command.spawn()?.wait_with_output().await },
        deadline,
    )
    .await?;
    Ok(said(&name, output))
}

/// The same for the first bytes that it prints: then it is ended.
pub(crate) async fn beginning(
    program: &Path,
    arguments: Vec<OsString>,
    bytes: usize,
    deadline: Duration,
) -> io::Result<Said> {
    let name = name(program);
    let mut command = command(program, arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let begun = async {
        let mut child = command.spawn()?;
        let mut stdout = Vec::new();
        if let Some(printed) = child.stdout.take() {
            printed.take(bytes as u64).read_to_end(&mut stdout).await?;
        }
        if stdout.len() == bytes {
            child.start_kill()?;
        }
        let mut said = said(&name, child.wait_with_output().await?);
        said.stdout = stdout;
        Ok(said)
    };
    in_time(&name, begun, deadline).await
}

fn said(name: &str, output: Output) -> Said {
    Said {
        status: output.status.code(),
        complaint: complaint(name, &output).err().map(|error| error.to_string()),
        stdout: output.stdout,
    }
}

/// A program with nothing of this process's environment. It ends with whoever has it.
fn command(program: &Path, arguments: Vec<OsString>) -> Command {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("LC_ALL", "C")
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Starts a program, which has read what it is to read when this returns. It ends with what is returned.
pub(crate) async fn start(program: &Path, run: Run) -> io::Result<Child> {
    let mut command = command(program, run.arguments);
    command.stdout(Stdio::null()).stdin(match run.stdin {
        Some(_) => Stdio::piped(),
        None => Stdio::null(),
    });
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
