//! A jail for the one program that reads a stranger's file with a parser that is not ours. It has namespaces of its own
//! (no network, no other process), a root that holds the system's programs and libraries and two files and nothing
//! else, a user that owns nothing, no environment, and limits on memory, processor time, files and processes. Made by
//! a thread which is confined itself, so that nothing of it is left when the program ends, however it ends: it is the
//! first process of its namespace, and takes along whatever it has started.

use std::{
    fs::{self, File},
    io::{self, PipeReader, Read},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    unistd::{chdir, pivot_root},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::{AsFd, OwnedFd},
    process::{Pid, PidfdFlags, pidfd_open},
};

/// What the file that is read is called in the jail.
pub(super) const SOURCE: &str = "/source";
/// What the file that is written is called in the jail.
pub(super) const RESULT: &str = "/result";

/// Where the new root is put together, in the thread's own view of the mounts: a folder that every system has, below
/// which nothing is that is needed.
const ROOT: &str = "/sys";

/// What of the system is there, read-only. Links are links there, too.
const SYSTEM: [&str; 7] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// Where programs are.
const FOLDERS: [&str; 5] = ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin"];

/// Bytes of memory: threads' stacks and the tables of a disk of 16 TiB. What is used is far less.
const MEMORY: u64 = 2 << 30;
const OPEN_FILES: u64 = 64;
const THREADS: u64 = 128;

/// Who is jailed with what.
#[derive(Clone, Debug)]
pub(super) struct Jail {
    /// The user and the group.
    pub(super) uid: u32,
    /// The one file that can be read, by that user.
    pub(super) source: PathBuf,
    /// The one file that can be written, by that user.
    pub(super) result: PathBuf,
    /// Seconds of processor time.
    pub(super) cpu_seconds: u64,
    /// Bytes that a file may come to.
    pub(super) file_bytes: u64,
    /// How long it may take.
    pub(super) deadline: Duration,
}

/// Where a program of the system is, which the jail has in the same place.
pub(super) fn find(program: &str, package: &str) -> Result<PathBuf, String> {
    let found = FOLDERS.iter().map(|folder| Path::new(folder).join(program));
    let found = found.into_iter().find(|path| path.is_file());
    found.ok_or_else(|| format!("there is no program {program}; install the package {package}"))
}

impl Jail {
    /// Runs a program in the jail to its end. `heard` gets what it writes to its output and its errors, as it comes.
    ///
    /// # Errors
    /// What kept it from beginning, or that it did not end in time: in words.
    pub(super) fn run(
        &self,
        program: &Path,
        arguments: &[&str],
        mut heard: impl FnMut(&[u8]),
    ) -> Result<ExitStatus, String> {
        let begun = |error| format!("{} could not be started: {error}", program.display());
        let (output, input) = io::pipe().map_err(begun)?;
        let mut command = self.command(program, arguments)?;
        command
            .stdin(File::open("/dev/null").map_err(begun)?) // opened here: the jail has no devices
            .stdout(input.try_clone().map_err(begun)?)
            .stderr(input);
        let (told, told_here) = mpsc::channel();
        // Its end is the program's, which is told to die with this thread.
        let (ended, until) = mpsc::channel::<()>();
        let jail = self.clone();
        let thread = thread::Builder::new().name("image jail".into()).spawn(move || {
            drop(told.send(jail.begin(command)));
            until.recv().unwrap_or_default(); // nothing is ever said
        });
        let thread = thread.map_err(begun)?;
        let began = told_here
            .recv()
            .unwrap_or_else(|_| Err("its thread has ended".into()));
        let done = began.and_then(|child| attend(child, output, Instant::now() + self.deadline, &mut heard));
        drop(ended);
        drop(thread.join()); // it only waited
        done
    }

    /// The program, as a user that may nothing, with limits.
    fn command(&self, program: &Path, arguments: &[&str]) -> Result<Command, String> {
        let mut command = Command::new(find("prlimit", "util-linux")?);
        let limits = [
            ("as", MEMORY),
            ("cpu", self.cpu_seconds),
            ("fsize", self.file_bytes),
            ("nofile", OPEN_FILES),
            ("nproc", THREADS),
            ("core", 0),
        ];
        command
            .args(limits.map(|(name, limit)| format!("--{name}={limit}")))
            .arg(find("setpriv", "util-linux")?)
            .args([format!("--reuid={}", self.uid), format!("--regid={}", self.uid)])
            .args(["--clear-groups", "--no-new-privs", "--bounding-set=-all"])
            .args(["--inh-caps=-all", "--pdeathsig=KILL"])
            .arg(program)
            .args(arguments)
            .env_clear()
            .env("LC_ALL", "C")
            .env("MALLOC_ARENA_MAX", "2"); // each arena is 64 MiB of addresses
        Ok(command)
    }

    /// Confines the thread that calls it, and starts the command from there.
    fn begin(&self, mut command: Command) -> Result<Child, String> {
        self.confine()
            .map_err(|error| format!("a jail can't be made here: {error}"))?;
        command
            .spawn()
            .map_err(|error| format!("prlimit could not be started: {error}"))
    }

    fn confine(&self) -> io::Result<()> {
        let own = CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWPID;
        let nothing = None::<&str>;
        unshare(own)?;
        mount(
            nothing,
            "/",
            nothing,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            nothing,
        )?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(
            Some("jail"),
            ROOT,
            Some("tmpfs"),
            flags,
            Some("size=64k,mode=755"),
        )?;
        let root = Path::new(ROOT);
        for name in SYSTEM {
            show(&Path::new("/").join(name), &root.join(name))?;
        }
        for (file, name, more) in [
            (&self.source, SOURCE, flags | MsFlags::MS_RDONLY),
            (&self.result, RESULT, flags),
        ] {
            let place = root.join(name.trim_start_matches('/'));
            File::create(&place)?;
            bind(file, &place, more)?;
        }
        let sealed = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | flags;
        mount(nothing, ROOT, nothing, sealed, nothing)?;
        // The old root lies over the new one for a moment, and is gone.
        chdir(ROOT)?;
        pivot_root(".", ".")?;
        umount2(".", MntFlags::MNT_DETACH)?;
        chdir("/")?;
        Ok(())
    }
}

/// Shows a folder of the system in the jail: itself, read-only, or as the link that it is.
fn show(folder: &Path, place: &Path) -> io::Result<()> {
    match fs::symlink_metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if found.is_symlink() => symlink(fs::read_link(folder)?, place),
        Ok(_) => {
            fs::create_dir(place)?;
            bind(
                folder,
                place,
                MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            )
        }
    }
}

fn bind(from: &Path, place: &Path, flags: MsFlags) -> io::Result<()> {
    let nothing = None::<&str>;
    mount(Some(from), place, nothing, MsFlags::MS_BIND, nothing)?;
    let again = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags;
    mount(nothing, place, nothing, again, nothing)?;
    Ok(())
}

/// Hears a program until it ends, and ends it where it takes too long.
fn attend(
    mut child: Child,
    output: PipeReader,
    deadline: Instant,
    heard: &mut impl FnMut(&[u8]),
) -> Result<ExitStatus, String> {
    let done = hear(&child, output, deadline, heard);
    if !matches!(done, Ok(true)) {
        drop(child.kill()); // it may have ended by now
    }
    let status = child
        .wait()
        .map_err(|error| format!("the end of a program: {error}"))?;
    match done {
        Ok(true) => Ok(status),
        Ok(false) => Err("it did not end in time".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// Whether the program ended before the deadline.
fn hear(
    child: &Child,
    mut output: PipeReader,
    deadline: Instant,
    heard: &mut impl FnMut(&[u8]),
) -> io::Result<bool> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let ended: OwnedFd = pidfd_open(pid.ok_or(io::ErrorKind::NotFound)?, PidfdFlags::empty())?;
    let mut buffer = [0; 4096];
    while wait_for(&output, deadline)? {
        let count = output.read(&mut buffer)?;
        if count == 0 {
            // It has closed its output, which is not yet its end.
            return wait_for(&ended, deadline);
        }
        heard(&buffer[..count]);
    }
    Ok(false)
}

/// Whether there is something to be read before the deadline.
fn wait_for(file: &impl AsFd, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let left = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        match poll(&mut [PollFd::new(file, PollFlags::IN)], Some(&left)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            other => return other.map(|_| true).map_err(io::Error::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const UID: u32 = 1_900_065_536;

    /// What a shell says in a jail, and how it ends; nothing where this is no place for one.
    fn said(script: &str, change: impl Fn(&mut Jail)) -> Option<(Result<ExitStatus, String>, String)> {
        if !nix::unistd::geteuid().is_root() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let [source, result] = ["source", "result"].map(|name| dir.path().join(name));
        fs::write(&source, "what is read").unwrap();
        fs::write(&result, "").unwrap();
        fs::set_permissions(&source, fs::Permissions::from_mode(0o444)).unwrap();
        std::os::unix::fs::chown(&result, Some(UID), Some(UID)).unwrap();
        let mut jail = Jail {
            uid: UID,
            source,
            result,
            cpu_seconds: 20,
            file_bytes: 1 << 20,
            deadline: Duration::from_secs(60),
        };
        change(&mut jail);
        let mut text = Vec::new();
        let shell = find("sh", "dash").unwrap();
        let done = jail.run(&shell, &["-c", script], |bytes| text.extend_from_slice(bytes));
        Some((done, String::from_utf8_lossy(&text).into_owned()))
    }

    #[test]
    fn who_is_jailed_sees_two_files_and_the_system_and_may_nothing() {
        let script = "id -u; id -G; cd /; echo *; cat source; echo; env; echo x >result && echo written; echo x >new; \
                      echo x >source; echo x >/usr/new; echo $$; ls /proc /dev /etc /root";
        let Some((done, text)) = said(script, |_| ()) else {
            return;
        };
        assert!(!done.unwrap().success(), "{text}");
        let mut lines = text.lines();
        let uid = UID.to_string();
        assert_eq!((lines.next(), lines.next()), (Some(&*uid), Some(&*uid)), "{text}");
        let seen: Vec<&str> = lines.next().unwrap().split(' ').collect();
        let expected = |name: &&str| SYSTEM.contains(name) || ["source", "result"].contains(name);
        assert!(seen.iter().all(expected) && seen.contains(&"source"), "{text}");
        assert!(
            text.contains("what is read") && text.contains("written"),
            "{text}"
        );
        assert!(!text.contains("HOME="), "{text}");
        for refused in ["new", "source", "/usr/new"] {
            assert!(
                text.contains(&format!("cannot create {refused}")),
                "{refused}: {text}"
            );
        }
        assert!(text.lines().any(|line| line == "1"), "the first process: {text}");
        assert_eq!(text.matches("No such file or directory").count(), 4, "{text}");
    }

    #[test]
    fn a_jail_has_limits_and_leaves_no_process() {
        let Some((done, text)) = said("head -c 2000000 /usr/bin/sh /usr/bin/bash >/result", |jail| {
            jail.file_bytes = 1000;
        }) else {
            return;
        };
        assert!(!done.unwrap().success(), "{text}");
        let (done, _) = said("while :; do :; done", |jail| jail.cpu_seconds = 1).unwrap();
        assert!(!done.unwrap().success());
        let began = Instant::now();
        let (done, _) = said("exec sleep 600", |jail| {
            jail.deadline = Duration::from_millis(300)
        })
        .unwrap();
        assert!(done.unwrap_err().contains("in time"));
        // What has closed its output is waited for, and what it leaves behind ends with it.
        let (done, _) = said("sleep 600 & exec >/dev/null 2>&1 <&- || exit 3", |_| ()).unwrap();
        assert!(!done.unwrap().success());
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}
