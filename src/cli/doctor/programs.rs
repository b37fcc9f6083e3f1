//! External programs that the binary runs, each with Debian's package of it.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::process::Command;

/// How long a program may take to say what it is.
const DEADLINE: Duration = Duration::from_secs(20);

/// Where the system has its programs, as the worker looks for them; `PATH` comes last.
const FOLDERS: [&str; 5] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin"];

/// An external program.
#[derive(Debug)]
pub(super) struct Program {
    /// What the check is called.
    pub(super) what: &'static str,
    /// Its file's name.
    pub(super) name: &'static str,
    /// The package that has it.
    pub(super) package: &'static str,
    /// What shows that it works.
    pub(super) arguments: &'static [&'static str],
}

/// Every one that the binary runs.
pub(super) const PROGRAMS: [Program; 8] = [
    program("qemu", "qemu-system-x86_64", "qemu-system-x86", &["--version"]),
    program("qemu-img", "qemu-img", "qemu-utils", &["--version"]),
    program(
        "nftables",
        "nft",
        "nftables",
        &["--check", "add table inet cumulet_doctor"],
    ),
    program("ip", "ip", "iproute2", &["-Version"]),
    program("bridge", "bridge", "iproute2", &["-Version"]),
    program("namespaces", "unshare", "util-linux", &["--net", "true"]),
    program("dnsmasq", "dnsmasq", "dnsmasq-base", &["--version"]),
    program("setpriv", "setpriv", "util-linux", &["--version"]),
];

/// Those that a host runs which is told of a pool of volumes.
pub(super) const CEPH: [Program; 2] = [
    program("ceph: rbd", "rbd", "ceph-common", &["--version"]),
    program("ceph: ceph", "ceph", "ceph-common", &["--version"]),
];

const fn program(
    what: &'static str,
    name: &'static str,
    package: &'static str,
    arguments: &'static [&'static str],
) -> Program {
    Program {
        what,
        name,
        package,
        arguments,
    }
}

/// Where a program is, if it is installed.
fn find(name: &str, folders: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    folders
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

fn folders() -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path: Vec<PathBuf> = std::env::split_paths(&path).collect();
    FOLDERS.iter().map(PathBuf::from).chain(path)
}

impl Program {
    /// The first line that it prints.
    ///
    /// # Errors
    /// That it is not installed, with the package that has it; or why it does not work.
    pub(super) async fn check(&self) -> Result<String, String> {
        match find(self.name, folders()) {
            Some(path) => self.run(&path).await,
            None => Err(self.missing()),
        }
    }

    fn missing(&self) -> String {
        format!("{} is not installed: apt-get install {}", self.name, self.package)
    }

    async fn run(&self, path: &Path) -> Result<String, String> {
        let mut command = Command::new(path);
        command
            .args(self.arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = tokio::time::timeout(DEADLINE, command.output())
            .await
            .map_err(|_| format!("{} did not end within {} s", self.name, DEADLINE.as_secs()))?
            .map_err(|error| format!("{}: {error}", self.name))?;
        let first = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            text.lines().next().unwrap_or_default().to_owned()
        };
        match (output.status.success(), first(&output.stdout)) {
            (true, line) if line.is_empty() => Ok("works".into()),
            (true, line) => Ok(line),
            (false, _) => {
                let (arguments, said) = (self.arguments.join(" "), first(&output.stderr));
                Err(format!("{} {arguments}: {said}", self.name))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_package() {
        for program in PROGRAMS.iter().chain(&CEPH) {
            let told = program.missing();
            assert!(
                told.contains(program.name) && told.ends_with(program.package),
                "{told}"
            );
            assert!(find(program.name, std::iter::once("/nonexistent".into())).is_none());
        }
        assert!(find("sh", FOLDERS.iter().map(PathBuf::from)).is_some());
    }

    #[tokio::test]
    async fn a_program_that_fails_says_why() {
        let shell = |arguments| program("shell", "sh", "dash", arguments);
        assert_eq!(
            shell(&["-c", "echo one; echo two"]).check().await,
            Ok("one".into())
        );
        assert_eq!(shell(&["-c", ":"]).check().await, Ok("works".into()));
        let failed = shell(&["-c", "echo no >&2; exit 3"]).check().await;
        assert!(failed.is_err_and(|told| told.starts_with("sh -c") && told.ends_with("no")));
        let missing = program("none", "cumulet-no-such-program", "nothing", &[])
            .check()
            .await;
        assert!(missing.is_err_and(|told| told.contains("apt-get install nothing")));
    }

    /// What the crates run is looked for: a program that is added there is added here.
    #[test]
    fn every_program_that_the_worker_runs_is_in_the_table() {
        let sources = [
            include_str!("../../../backend/worker/src/network/command.rs"),
            include_str!("../../../backend/worker/src/network/dhcp.rs"),
            include_str!("../../../backend/worker/src/network/doorway.rs"),
            include_str!("../../../backend/worker/src/network/guard.rs"),
            include_str!("../../../backend/worker/src/network/linux.rs"),
        ];
        let mut found = 0;
        for text in sources {
            // The program is what follows the namespace that it runs in.
            let text: String = text.split_whitespace().collect();
            let text = text.replace(".daemon(", ".run(").replace("find(\"", ".run(\"");
            for call in text.split(".run(").skip(1) {
                let arguments = call.split('"').nth(1).unwrap_or_default();
                assert!(
                    PROGRAMS.iter().any(|program| program.name == arguments),
                    "{arguments} is not looked for"
                );
                found += 1;
            }
        }
        assert!(found >= 6, "{found}");
    }
}
