//! The one wrapper of Ceph's programs, `rbd` and `ceph`: images of a pool are listed, made, changed and removed. Each run
//! has a deadline, and what has failed is told by the program's exit status, which is the system's number of the error,
//! never by its words. A host's disks go by it (`pool.rs`), and so do `cumulet doctor` and the audit.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use cumulet_hypervisor::RbdImage;
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    boxed,
    ceph::Ceph,
    pool::wholes_of,
    program::{self, DEADLINE, Said},
};

/// How long the removal of an image may take, whose every object is removed.
const REMOVAL: Duration = Duration::from_secs(3600);

/// How many programs run at a time for a host, each of which is a client of the cluster with threads of its own. Removals
/// have places of their own, so that nothing else waits for their hours.
const RUNS: usize = 8;
const REMOVALS: usize = 4;

/// How long the monitors have to say that they are there.
const QUESTION: Duration = Duration::from_secs(10);

/// What is read of an image to look at its header.
const HEADER: usize = 64 << 10;

/// Sizes are told in this unit, whole ones.
const MIB: u64 = 1 << 20;

/// What a pool, or its program, has not done. Its kind is what the program's exit status says.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Trouble(String);

impl Trouble {
    pub(crate) fn error(kind: io::ErrorKind, text: impl Into<String>) -> io::Error {
        io::Error::new(kind, Trouble(text.into()))
    }

    /// Whether an error is about a pool.
    pub(crate) fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Trouble>())
    }
}

/// A pool whose images are worked with.
#[derive(Clone, Debug)]
pub struct Rbd {
    ceph: Ceph,
    program: PathBuf,
    runs: Arc<Semaphore>,
    removals: Arc<Semaphore>,
}

/// A place among so many. (There is none only where nobody gives any more out, and nobody ends that.)
async fn place(places: &Semaphore) -> Option<SemaphorePermit<'_>> {
    places.acquire().await.ok()
}

impl Rbd {
    /// The pool, by the programs that the system has.
    pub fn new(ceph: Ceph) -> Self {
        Rbd::by("rbd", ceph)
    }

    /// By this `rbd`, beside which `ceph` is: both are of one package.
    pub(crate) fn by(program: impl Into<PathBuf>, ceph: Ceph) -> Self {
        let program = program.into();
        Rbd {
            ceph,
            program,
            runs: Arc::new(Semaphore::new(RUNS)),
            removals: Arc::new(Semaphore::new(REMOVALS)),
        }
    }

    /// How the cluster is reached.
    pub(crate) fn ceph(&self) -> &Ceph {
        &self.ceph
    }

    /// The cluster's id and the pool's name, `FSID/POOL`, if both are there. The question waits for no other run.
    ///
    /// # Errors
    /// When they are not, or don't answer within some seconds.
    #[boxed]
    pub async fn reached(&self) -> io::Result<String> {
        let ceph = self.program.with_file_name("ceph");
        let fsid = self.run(&ceph, &["fsid"], QUESTION).await?;
        self.see(&self.ceph.pool).await?;
        let fsid = String::from_utf8_lossy(&fsid);
        Ok(format!("{}/{}", fsid.trim(), self.ceph.pool))
    }

    /// The names of all of the pool's images.
    ///
    /// # Errors
    /// When they can't be listed.
    #[boxed]
    pub async fn names(&self) -> io::Result<Vec<String>> {
        let told = self.tell(&["ls", "--format", "json", &self.ceph.pool]).await?;
        serde_json::from_slice(&told).map_err(unreadable)
    }

    /// How large an image is; `None` if there is none of the name.
    ///
    /// # Errors
    /// When that can't be told.
    #[boxed]
    pub async fn bytes(&self, image: &RbdImage) -> io::Result<Option<u64>> {
        let Some(told) = self.info(image).await? else {
            return Ok(None);
        };
        let size = told.get("size").and_then(Value::as_u64);
        size.map(Some).ok_or_else(|| unreadable("it tells no size"))
    }

    /// What the cluster calls the image that a name opens, whatever its name; `None` if it opens none.
    pub(crate) async fn id(&self, image: &RbdImage) -> io::Result<Option<String>> {
        let Some(told) = self.info(image).await? else {
            return Ok(None);
        };
        let id = told.get("id").and_then(Value::as_str).map(str::to_owned);
        id.map(Some).ok_or_else(|| unreadable("it tells no id"))
    }

    async fn info(&self, image: &RbdImage) -> io::Result<Option<Value>> {
        let told = self.tell(&["info", "--format", "json", &image.to_string()]).await;
        let told = self.if_there(image, told).await?;
        told.map(|told| document(&told)).transpose()
    }

    /// What an image begins with; `None` if there is none of the name.
    pub(crate) async fn header(&self, image: &RbdImage) -> io::Result<Option<Vec<u8>>> {
        let arguments = self.arguments(&["export", "--no-progress", &image.to_string(), "-"]);
        let place = place(&self.runs).await;
        let begun = program::beginning(&self.program, arguments, HEADER, DEADLINE).await;
        drop(place);
        let read = begun.map_err(|error| late(&error)).and_then(|said| match said {
            // Cut off, it complains; what it has printed is what the image has.
            Said { stdout, .. } if stdout.len() == HEADER => Ok(stdout),
            said => answer(said),
        });
        self.if_there(image, read).await
    }

    /// Makes an empty image, of so many bytes at least.
    pub(crate) async fn create(&self, image: &RbdImage, bytes: u64) -> io::Result<()> {
        self.size("create", image, bytes).await
    }

    /// Makes an image larger.
    pub(crate) async fn resize(&self, image: &RbdImage, bytes: u64) -> io::Result<()> {
        self.size("resize", image, bytes).await
    }

    async fn size(&self, command: &str, image: &RbdImage, bytes: u64) -> io::Result<()> {
        let size = format!("{}M", bytes.div_ceil(MIB));
        self.tell(&[command, "--no-progress", "--size", &size, &image.to_string()])
            .await
            .map(drop)
    }

    /// Gives an image another name; `AlreadyExists` where that is another's.
    pub(crate) async fn rename(&self, from: &RbdImage, to: &RbdImage) -> io::Result<()> {
        self.tell(&["mv", &from.to_string(), &to.to_string()])
            .await
            .map(drop)
    }

    /// Removes an image; one that is not there is fine. `ResourceBusy` where somebody has it open, `InvalidData` where it
    /// is a volume's under the name that it was made by.
    pub(crate) async fn remove(&self, image: &RbdImage) -> io::Result<()> {
        let _place = place(&self.removals).await;
        self.spare(image).await?;
        let name = image.to_string();
        let removed = self
            .run(&self.program, &["rm", "--no-progress", &name], REMOVAL)
            .await;
        self.if_there(image, removed).await.map(drop)
    }

    /// That a name which something was made by is not one of a volume's whole image, too. A renaming that was cut off
    /// leaves both, and a removal by either takes the data, which goes by the image's id.
    async fn spare(&self, image: &RbdImage) -> io::Result<()> {
        let Some(whole) = self.twin(image).await? else {
            return Ok(());
        };
        tracing::error!(
            %image,
            %whole,
            "ALARM: two names in the pool open one image, which was not renamed to its end, and is not removed by the \
             first: see docs/ceph.md"
        );
        let text = format!("{image} is {whole}, too");
        Err(Trouble::error(io::ErrorKind::InvalidData, text))
    }

    /// The whole one that an image is, too, which has the name that it was made by.
    pub(crate) async fn twin(&self, image: &RbdImage) -> io::Result<Option<RbdImage>> {
        let wholes = wholes_of(image);
        if wholes.is_empty() {
            return Ok(None);
        }
        let Some(id) = self.id(image).await? else {
            return Ok(None);
        };
        for whole in wholes {
            if self.id(&whole).await?.as_ref() == Some(&id) {
                return Ok(Some(whole));
            }
        }
        Ok(None)
    }

    /// Whether somebody has an image open to write. Who has died does for another half a minute.
    pub(crate) async fn is_open(&self, image: &RbdImage) -> io::Result<bool> {
        let told = self
            .tell(&["status", "--format", "json", &image.to_string()])
            .await?;
        let watchers = document(&told)?
            .get("watchers")
            .and_then(Value::as_array)
            .cloned();
        let watchers = watchers.ok_or_else(|| unreadable("it tells no watchers"))?;
        Ok(!watchers.is_empty())
    }

    /// That there is such a pool.
    async fn see(&self, pool: &str) -> io::Result<()> {
        let words = ["namespace", "ls", "--format", "json", pool];
        let seen = self.run(&self.program, &words, QUESTION).await;
        seen.map(drop).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                Trouble::error(io::ErrorKind::Other, format!("there is no pool {pool}"))
            }
            _ => error,
        })
    }

    /// What came of a run about an image; `None` where that is not there. (A pool that is not there is an error: whatever
    /// was in it is not known to be gone.)
    async fn if_there<T>(&self, image: &RbdImage, done: io::Result<T>) -> io::Result<Option<T>> {
        match done {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let _place = place(&self.runs).await;
                self.see(&image.pool).await?;
                Ok(None)
            }
            done => done.map(Some),
        }
    }

    fn arguments(&self, words: &[&str]) -> Vec<OsString> {
        let mut arguments = self.ceph.arguments();
        arguments.extend(words.iter().map(OsString::from));
        arguments
    }

    async fn tell(&self, words: &[&str]) -> io::Result<Vec<u8>> {
        let _place = place(&self.runs).await;
        self.run(&self.program, words, DEADLINE).await
    }

    async fn run(&self, program: &Path, words: &[&str], deadline: Duration) -> io::Result<Vec<u8>> {
        let said = program::ask(program, self.arguments(words), deadline).await;
        answer(said.map_err(|error| late(&error))?)
    }
}

/// A program that did not end in time, or did not begin.
fn late(error: &io::Error) -> io::Error {
    let kind = match error.kind() {
        // Of the program itself: it is not installed.
        io::ErrorKind::NotFound => io::ErrorKind::Unsupported,
        kind => kind,
    };
    Trouble::error(kind, error.to_string())
}

/// What a program has printed, or why it has failed.
fn answer(said: Said) -> io::Result<Vec<u8>> {
    let Some(complaint) = said.complaint else {
        return Ok(said.stdout);
    };
    let kind = match said.status {
        Some(2) => io::ErrorKind::NotFound,
        Some(13) => io::ErrorKind::PermissionDenied,
        Some(16) => io::ErrorKind::ResourceBusy,
        Some(17) => io::ErrorKind::AlreadyExists,
        Some(28) => io::ErrorKind::StorageFull,
        Some(110) => io::ErrorKind::TimedOut,
        Some(122) => io::ErrorKind::QuotaExceeded,
        _ => io::ErrorKind::Other,
    };
    Err(Trouble::error(kind, complaint))
}

fn document(told: &[u8]) -> io::Result<Value> {
    serde_json::from_slice(told).map_err(unreadable)
}

fn unreadable(why: impl ToString) -> io::Error {
    let text = format!("what rbd says can't be read: {}", why.to_string());
    Trouble::error(io::ErrorKind::Other, text)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;

    use super::*;
    use crate::{ceph::tests::nowhere, files::only_owners};

    /// Programs that are pretended: each run writes its words down, one line each, and goes on as the script says, in
    /// which `$*` is what follows the cluster's arguments.
    pub(crate) struct Pretended {
        dir: tempfile::TempDir,
    }

    impl Pretended {
        pub(crate) fn new(script: &str) -> Pretended {
            let dir = tempfile::tempdir().unwrap();
            let count = nowhere().arguments().len();
            let log = dir.path().join("log");
            let text = format!(
                "#!/bin/sh\nshift {count}\necho \"${{0##*/}} $*\" >>{}\n{script}\n",
                log.display()
            );
            for name in ["rbd", "ceph"] {
                let program = dir.path().join(name);
                fs::write(&program, &text).unwrap();
                only_owners(&program, 0o700).unwrap();
            }
            Pretended { dir }
        }

        pub(crate) fn rbd(&self) -> Rbd {
            Rbd::by(self.dir.path().join("rbd"), nowhere())
        }

        /// The runs so far.
        pub(crate) fn runs(&self) -> Vec<String> {
            let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            log.lines().map(str::to_owned).collect()
        }
    }

    fn image(name: &str) -> RbdImage {
        RbdImage {
            pool: "pool".into(),
            name: name.into(),
        }
    }

    #[tokio::test]
    async fn each_thing_is_a_run_of_its_own() {
        let script = r#"case $1 in
            fsid) echo 8a3c1f0e-1111-4222-8333-0123456789ab;;
            ls) echo '["a.raw","b"]';;
            info) echo '{"name":"a.raw","size":7340032}';;
            status) echo '{"watchers":[{"address":"192.0.2.9:0/1"}]}';;
            export) printf 'QFI\373';;
            namespace) echo '[]';;
            esac"#;
        let pretended = Pretended::new(script);
        let (rbd, a, b) = (pretended.rbd(), image("a.raw"), image("b"));
        let reached = rbd.reached().await.unwrap();
        assert_eq!(reached, "8a3c1f0e-1111-4222-8333-0123456789ab/pool");
        assert_eq!(rbd.names().await.unwrap(), ["a.raw", "b"]);
        assert_eq!(rbd.bytes(&a).await.unwrap(), Some(7 * MIB));
        assert_eq!(rbd.header(&a).await.unwrap().unwrap(), b"QFI\xfb");
        assert!(rbd.is_open(&a).await.unwrap());
        rbd.create(&a, 3 * MIB - 1).await.unwrap();
        rbd.resize(&a, 4 * MIB).await.unwrap();
        rbd.rename(&a, &b).await.unwrap();
        rbd.remove(&b).await.unwrap();
        let expected = [
            "ceph fsid",
            "rbd namespace ls --format json pool",
            "rbd ls --format json pool",
            "rbd info --format json pool/a.raw",
            "rbd export --no-progress pool/a.raw -",
            "rbd status --format json pool/a.raw",
            "rbd create --no-progress --size 3M pool/a.raw",
            "rbd resize --no-progress --size 4M pool/a.raw",
            "rbd mv pool/a.raw pool/b",
            "rbd rm --no-progress pool/b",
        ];
        assert_eq!(pretended.runs(), expected);
    }

    /// The words are other versions' to choose.
    #[tokio::test]
    async fn what_fails_is_known_by_its_status() {
        use io::ErrorKind::{
            AlreadyExists, Other, PermissionDenied, QuotaExceeded, ResourceBusy, StorageFull, TimedOut,
        };
        for (status, kind) in [
            (1, Other),
            (13, PermissionDenied),
            (16, ResourceBusy),
            (17, AlreadyExists),
            (28, StorageFull),
            (110, TimedOut),
            (122, QuotaExceeded),
        ] {
            let pretended = Pretended::new(&format!("echo why not >&2; exit {status}"));
            let (rbd, a) = (pretended.rbd(), image("a.raw"));
            for error in [
                rbd.reached().await.map(drop).unwrap_err(),
                rbd.names().await.map(drop).unwrap_err(),
                rbd.bytes(&a).await.map(drop).unwrap_err(),
                rbd.header(&a).await.map(drop).unwrap_err(),
                rbd.is_open(&a).await.map(drop).unwrap_err(),
                rbd.create(&a, 1).await.unwrap_err(),
                rbd.resize(&a, 1).await.unwrap_err(),
                rbd.rename(&a, &a).await.unwrap_err(),
                rbd.remove(&a).await.unwrap_err(),
            ] {
                assert_eq!(error.kind(), kind, "{status}");
                assert!(
                    Trouble::is(&error) && error.to_string().contains("why not"),
                    "{error}"
                );
            }
        }
    }

    /// An image that is not there is none; where its pool is not there either, nobody knows.
    #[tokio::test]
    async fn a_pool_that_is_gone_is_not_an_image_that_is_gone() {
        let there = Pretended::new("test $1 = namespace || exit 2");
        let (rbd, a) = (there.rbd(), image("a.raw"));
        assert_eq!(rbd.bytes(&a).await.unwrap(), None);
        assert_eq!(rbd.header(&a).await.unwrap(), None);
        rbd.remove(&a).await.unwrap();
        let gone = Pretended::new("exit 2");
        let rbd = gone.rbd();
        for error in [
            rbd.bytes(&a).await.map(drop).unwrap_err(),
            rbd.header(&a).await.map(drop).unwrap_err(),
            rbd.remove(&a).await.unwrap_err(),
        ] {
            assert!(error.to_string().contains("no pool pool"), "{error}");
        }
    }

    #[tokio::test]
    async fn what_can_not_be_read_or_run_is_an_error() {
        let pretended = Pretended::new("echo '{}'");
        let (rbd, a) = (pretended.rbd(), image("a.raw"));
        assert!(rbd.names().await.is_err());
        assert!(rbd.bytes(&a).await.is_err());
        assert!(rbd.is_open(&a).await.is_err());
        let missing = Rbd::by("/nonexistent/rbd", nowhere());
        let error = missing.bytes(&a).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported, "it is no missing image");
    }

    /// As after a renaming that was cut off. What it was made as is not removed while it is a whole one by another name.
    #[tokio::test]
    async fn a_volumes_image_is_not_removed_by_the_name_that_it_was_made_by() {
        let volume = cumulet_domain::id::VolumeId::new(7 << 40);
        let partial = image(&format!("{volume}.one.new"));
        let (one, other) = (r#"echo '{"id":"1","size":1}'"#, r#"echo '{"id":"2","size":1}'"#);
        for (format, whole, is_removed) in [
            ("raw", one, false),
            ("qcow2", one, false),
            ("raw", other, true),
            ("raw", "exit 2", true),
        ] {
            let script =
                format!("case $* in info*.new) {one};; info*.{format}) {whole};; info*) exit 2;; esac");
            let pretended = Pretended::new(&script);
            let removed = pretended.rbd().remove(&partial).await;
            let is_run = pretended.runs().iter().any(|run| run.starts_with("rbd rm "));
            assert_eq!(
                (removed.is_ok(), is_run),
                (is_removed, is_removed),
                "{format} {whole}"
            );
            if let Err(error) = removed {
                assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            }
        }
        // By its own name it may go.
        let pretended = Pretended::new(one);
        pretended
            .rbd()
            .remove(&image(&format!("{volume}.raw")))
            .await
            .unwrap();
        assert_eq!(
            pretended.runs(),
            [format!("rbd rm --no-progress pool/{volume}.raw")]
        );
    }

    /// However many commands there are; and whether the pool is there is asked all the same.
    #[tokio::test]
    async fn no_more_than_so_many_run_at_a_time() {
        let script = "test $1 = fsid -o $1 = namespace || until test -e ${0%/*}/go; do sleep 0.02; done; \
            echo '{\"size\":1}'";
        let pretended = Pretended::new(script);
        let rbd = pretended.rbd();
        let mut runs = tokio::task::JoinSet::new();
        for n in 0..2 * RUNS {
            let (of, by) = (rbd.clone(), rbd.clone());
            runs.spawn(async move { of.bytes(&image(&format!("{n}.raw"))).await.map(drop) });
            runs.spawn(async move { by.remove(&image(&format!("{n}.raw"))).await });
        }
        let all = RUNS + REMOVALS;
        while pretended.runs().len() < all {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(pretended.runs().len(), all);
        rbd.reached().await.unwrap();
        fs::write(pretended.dir.path().join("go"), "").unwrap();
        while let Some(run) = runs.join_next().await {
            run.unwrap().unwrap();
        }
        assert_eq!(pretended.runs().len(), 4 * RUNS + 2);
    }

    /// An image of terabytes is not read to its end for the sake of its beginning.
    #[tokio::test]
    async fn of_a_header_no_more_is_read_than_there_is_to_it() {
        let pretended = Pretended::new("cat /dev/zero");
        let header = pretended.rbd().header(&image("a.raw")).await.unwrap();
        assert_eq!(header.map(|header| header.len()), Some(HEADER));
    }
}
