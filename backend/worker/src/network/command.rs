//! The runner of external programs: argument lists, input by pipe, a deadline, and the end of their standard
//! error in the error.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt as _,
    process::Command,
    runtime::Handle,
    time::{Instant, timeout},
};

use super::{NetworkError, Result, netns};

/// The longest piece of a program's complaint that goes into an error.
const DETAIL: usize = 600;

/// Runs programs for one host.
#[derive(Clone, Debug)]
pub(super) struct Commands {
    pub(super) deadline: Duration,
}

impl Commands {
    /// Lines for `ip -batch`, in a namespace or in the process's own. Stops at the first that fails.
    pub(super) async fn ip(&self, namespace: Option<&Path>, lines: &str) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        self.run(namespace, "ip", &["-batch", "-"], lines).await.map(drop)
    }

    /// Lines for `bridge -batch`, in a namespace. Stops at the first that fails.
    pub(super) async fn bridge(&self, namespace: &Path, lines: &str) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        self.run(Some(namespace), "bridge", &["-batch", "-"], lines)
            .await
            .map(drop)
    }

    /// One `ip` command.
    pub(super) async fn ip_once(&self, args: &[&str]) -> Result<String> {
        self.run(None, "ip", args, "").await
    }

    /// A transaction of nftables.
    pub(super) async fn nft(&self, namespace: Option<&Path>, text: &str) -> Result<()> {
        self.run(namespace, "nft", &["-f", "-"], text).await.map(drop)
    }

    /// Starts a program that stays, and comes back when it says that it has begun: its first process has ended well.
    /// It has nothing of ours open.
    pub(super) async fn daemon(&self, namespace: &Path, program: &str, args: &[&str]) -> Result<()> {
        let mut command = Command::new(find(program));
        command
            .args(args)
            .env_clear()
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let handle = Handle::current();
        let spawned = netns::run(Some(namespace), move || {
            let _runtime = handle.enter();
            command.spawn()
        });
        let began = async {
            let mut child = spawned.await?;
            child.wait().await.map_err(|e| NetworkError::io(program, e))
        };
        let status = timeout(self.deadline, began)
            .await
            .map_err(|_| NetworkError::Deadline(program.to_owned()))??;
        tracing::debug!(program, ?args, %status, "started a program");
        if status.success() {
            return Ok(());
        }
        Err(NetworkError::Command {
            program: program.to_owned(),
            detail: status.to_string(),
        })
    }

    /// Runs a program to its end; its output.
    pub(super) async fn run(
        &self,
        namespace: Option<&Path>,
        program: &str,
        args: &[&str],
        input: &str,
    ) -> Result<String> {
        let began = Instant::now();
        let done = timeout(
            self.deadline,
            self.run_undisturbed(namespace, program, args, input),
        )
        .await;
        let inside = namespace.is_some();
        tracing::debug!(program, ?args, inside, took = ?began.elapsed(), "ran a program");
        done.map_err(|_| NetworkError::Deadline(program.to_owned()))?
    }

    async fn run_undisturbed(
        &self,
        namespace: Option<&Path>,
        program: &str,
        args: &[&str],
        input: &str,
    ) -> Result<String> {
        let failed = |e| NetworkError::io(program, e);
        let mut command = Command::new(find(program));
        command
            .args(args)
            .env_clear()
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = match namespace {
            None => command.spawn().map_err(failed)?,
            Some(_) => {
                // A child is in the namespace of the thread that forks it.
                let handle = Handle::current();
                netns::run(namespace, move || {
                    let _runtime = handle.enter();
                    command.spawn()
                })
                .await?
            }
        };
        let stdin = child.stdin.take();
        let write = async {
            if let Some(mut stdin) = stdin {
                // A program that fails early closes the pipe; its words say why.
                let _ = stdin.write_all(input.as_bytes()).await;
                let _ = stdin.shutdown().await;
            }
        };
        let ((), output) = tokio::join!(write, child.wait_with_output());
        let output = output.map_err(failed)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let detail = String::from_utf8_lossy(&output.stderr);
        Err(NetworkError::Command {
            program: program.to_owned(),
            detail: detail.trim().chars().take(DETAIL).collect(),
        })
    }
}

/// System programs are where the system has them, not where a variable of the environment leads.
pub(super) fn find(program: &str) -> PathBuf {
    ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin"]
        .iter()
        .map(|dir| Path::new(dir).join(program))
        .find(|path| path.exists())
        .unwrap_or_else(|| program.into())
}
