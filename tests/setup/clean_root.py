"""A fresh Debian in a folder, made with mmdebstrap and entered in namespaces of its own, which end with it.

Its packages come from where this machine's come from: apt's sources, proxies, keys and certificates are read at run
time. The roots and all downloads are kept in the cache, beside the builds."""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO

from setup.programs import ROOT

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "cumulet/roots"
# A root is made anew after that: the suite goes on.
KEPT_SECONDS = 7 * 86400
PASSED_ON = [name for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "no_proxy")]

# The first process of the root. A /dev of its own, with what a container has, and /dev/kvm as it is without udev.
INSIDE = r"""
set -e
root=$1/root seed=$1/seed packed=$2 archives=$3 binary=$4 memory=$5
mount --make-rprivate /
if [ -n "$memory" ]; then
    mount -t tmpfs -o mode=755 root "$root"
else
    mount --bind "$root" "$root"
fi
tar -xf "$packed" --numeric-owner -C "$root"
cp -a "$seed/." "$root/"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 dev "$root/dev"
mount -t tmpfs -o mode=755 run "$root/run"
mkdir "$root"/dev/{pts,shm,net} "$root/run/lock"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"; ln -s /proc/self/fd "$root/dev/fd"
node() { mknod -m "$1" "$root/dev/$2" c "$3" "$4"; }
node 666 null 1 3; node 666 zero 1 5; node 666 full 1 7; node 666 random 1 8; node 666 urandom 1 9; node 666 tty 5 0
node 600 net/tun 10 200
node 600 kvm 10 232
mount --bind "$archives" "$root/var/cache/apt/archives"
mkdir -p "$root/checkout" "$root/usr/local/bin"
mount --bind "$PWD" "$root/checkout"
mount -o remount,bind,ro "$root/checkout"
if [ -n "$binary" ]; then
    touch "$root/usr/local/bin/cumulet"
    mount --bind "$binary" "$root/usr/local/bin/cumulet"
fi
# No chroot: whoever enters this mount namespace (libvirt does, to make a guest's devices) comes out at its root,
# and that must not be the host's.
cd "$root"
mkdir .host
pivot_root . .host
exec chroot . /bin/bash -c 'umount -l /.host && rmdir /.host && echo ready; while :; do sleep 60 & wait $!; done'
"""


def sources() -> list[str]:
    """This machine's apt sources, one a line."""
    script = 'cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null | grep "^deb "; for f in /etc/apt/sources.list.d/*.sources; do [ ! -f "$f" ] || awk -f tests/guests/debian/sources.awk "$f"; done'
    return subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()


def mirror() -> tuple[str, str]:
    """The options (a key) and the address of this machine's Debian mirror."""
    for line in sources():
        if found := re.match(r"deb (\[.*\] )?(\S+/debian/?) ", line):
            return found[1] or "", found[2]
    return "", "http://deb.debian.org/debian"


def has_suite(suite: str) -> bool:
    """Whether the mirror answers for a suite."""
    address = mirror()[1]
    if not address.startswith("http"):
        return True
    with contextlib.suppress(urllib.error.URLError, TimeoutError):
        asked = urllib.request.Request(f"{address.rstrip('/')}/dists/{suite}/InRelease", method="HEAD")
        return urllib.request.urlopen(asked, timeout=20).status == 200
    return False


def apt_settings() -> str:
    """How this machine's apt reaches its sources."""
    kept = re.compile(r"Acquire::(https?::(Proxy|CAInfo|Verify|SslCert|SslKey)|Check|Retries|ForceIPv|Max-ValidTime|AllowI)", re.I)
    dump = subprocess.run(["apt-config", "dump"], check=True, capture_output=True, text=True).stdout
    return "".join(line + "\n" for line in dump.splitlines() if kept.match(line) and not line.endswith(' "";'))


def archive(suite: str, more_suites: tuple[str, ...], include: tuple[str, ...]) -> Path:
    """The packed root, made if it isn't there."""
    options, address = mirror()
    lines = [f"deb {options}{address} {name} main" for name in (suite, *more_suites)]
    settings = apt_settings()
    key = hashlib.sha256("\n".join([*lines, *include, settings]).encode()).hexdigest()[:12]
    packed = CACHE / f"{suite}-{key}.tar"
    if packed.exists() and time.time() - packed.stat().st_mtime < KEPT_SECONDS:
        return packed
    with tempfile.TemporaryDirectory(dir=CACHE) as work:
        conf, made = Path(work, "apt.conf"), Path(work, "root.tar")
        conf.write_text(settings)
        command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--aptopt={conf}"]
        command += [f"--include={','.join(include)}"] if include else []
        subprocess.run([*command, suite, str(made), "-"], input="\n".join(lines) + "\n", text=True, check=True, timeout=900)
        made.rename(packed)
    return packed


def spacious() -> bool:
    """Whether a root of some 1.5 GB can be in memory, which is quicker."""
    available = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
    return bool(available and int(available[1]) > 8 << 20)


class CleanRoot:
    """One root, from its first process to its last. `keeps` are the suites that apt still knows in it."""

    def __init__(self, suite: str, more: tuple[str, ...] = (), include: tuple[str, ...] = (), keeps: tuple[str, ...] = (), binary: Path | None = None, in_memory: bool | None = None) -> None:
        # One at a time, whoever runs them: they share the downloads, and apt locks those.
        CACHE.mkdir(parents=True, exist_ok=True)
        self.turn = (CACHE / ".turn").open("w")
        fcntl.flock(self.turn, fcntl.LOCK_EX)
        packed = archive(suite, more, include)
        self.archives = CACHE / "archives" / suite
        self.archives.mkdir(parents=True, exist_ok=True)
        for left in Path("/var/tmp").glob("cumulet-root-*"):
            # Of a run that was killed.
            if time.time() - left.stat().st_mtime > 86400:
                shutil.rmtree(left, ignore_errors=True)
        self.folder = Path(tempfile.mkdtemp(prefix="cumulet-root-", dir="/var/tmp"))
        self.folder.chmod(0o755)
        for part in ("root", "seed"):
            (self.folder / part).mkdir()
        self.configure(self.folder / "seed", (suite, *keeps))
        arguments = [str(self.folder), str(packed), str(self.archives), str(binary or ""), "memory" if in_memory or in_memory is None and spacious() else ""]
        # It ends with this process, whatever ends that.
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child"]
        self.process = subprocess.Popen(
            [*command, "bash", "-c", INSIDE, "-", *arguments],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        if self.process.stdout.readline() != "ready\n":
            self.close()
            raise RuntimeError(f"the root did not start: {self.process.stderr.read()}")
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        self.first = children.read_text().split()[0]

    def configure(self, seed: Path, suites: tuple[str, ...]) -> None:
        """What a new machine has been given: apt's sources, and names to find them by."""
        options, address = mirror()
        lines = [f"deb {options}{address} {name} main\n" for name in suites]
        for folder in ("etc/apt/apt.conf.d", "etc/dpkg/dpkg.cfg.d"):
            (seed / folder).mkdir(parents=True)
        (seed / "etc/apt/sources.list").write_text("".join(lines))
        (seed / "etc/apt/apt.conf.d/99host").write_text(apt_settings() + 'Binary::apt::APT::Keep-Downloaded-Packages "true";\n')
        # Tests wait for no disk.
        (seed / "etc/dpkg/dpkg.cfg.d/unsafe-io").write_text("force-unsafe-io\n")
        for name in ("resolv.conf", "hosts"):
            shutil.copy(f"/etc/{name}", seed / "etc" / name)
        for certificates in ("usr/local/share/ca-certificates", "etc/ssl/certs"):
            if Path("/", certificates).is_dir():
                shutil.copytree(Path("/", certificates), seed / certificates, symlinks=True)

    def run(self, script: str, timeout: float = 600, output: int | IO = subprocess.PIPE) -> subprocess.CompletedProcess:
        """Runs a piece of shell in the root, in the checkout, with a new machine's environment."""
        environment = {name: os.environ[name] for name in PASSED_ON}
        environment |= {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
        return subprocess.run(
            [*self.enter(), "/bin/bash", "-c", script],
            env=environment, stdout=output, stderr=subprocess.PIPE, text=True, timeout=timeout, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def enter(self) -> list[str]:
        """What runs a command in the root."""
        return ["nsenter", "--target", self.first, "--mount", "--pid", "--ipc", "--uts", "--wdns=/checkout"]

    def copy(self, folder: Path, to: str) -> None:
        """Copies one of this machine's folders into the root."""
        packing = subprocess.Popen(["tar", "-c", "-C", str(folder), "."], stdout=subprocess.PIPE)
        unpack = [*self.enter(), "/bin/bash", "-c", f"mkdir -p {to} && tar -x -C {to}"]
        subprocess.run(unpack, stdin=packing.stdout, check=True, timeout=600)
        assert packing.wait() == 0

    def installed(self) -> dict[str, str]:
        """The packages and their versions."""
        listed = self.run("dpkg-query -W -f '${db:Status-Abbrev} ${Package} ${Version}\\n'").stdout
        return {line.split()[1]: line.split()[2] for line in listed.splitlines() if line.startswith("ii")}

    def close(self) -> None:
        """Ends its processes; with the last of them its mounts go."""
        self.process.kill()
        self.process.wait(60)
        shutil.rmtree(self.folder)
        self.turn.close()
        assert str(self.folder) not in Path("/proc/mounts").read_text()

    def __enter__(self) -> "CleanRoot":
        return self

    def __exit__(self, *_) -> None:
        self.close()
