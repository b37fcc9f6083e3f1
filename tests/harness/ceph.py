"""A Ceph of a test's own: Debian's packages, one monitor and one OSD with a file as its disk, in a folder, with one pool and
one user for it. There is no manager: nothing here asks for what it counts."""

import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .folder import fresh
from .port import Port

POOL, USER = "cumulet", "cumulet"

# What has to be there, a program or a file of a library, and the package that has it.
_NEEDED = {
    "ceph-mon": "ceph-mon", "ceph-osd": "ceph-osd", "ceph": "ceph-common", "rbd": "ceph-common",
    "/usr/lib/*/qemu/block-rbd.so": "qemu-block-extra",
}  # fmt: skip

CONFIG = """[global]
fsid = {fsid}
mon_host = [v2:{address}:{port}]
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
public_addr = {address}
cluster_addr = {address}
run_dir = {folder}
admin_socket = {folder}/$name.asok
log_file = {folder}/$name.log
pid_file =
crash_dir = {folder}/crash
keyring = {folder}/$name.keyring
mon_data = {folder}/mon
mon_allow_pool_size_one = true
mon_data_avail_warn = 1
mon_data_avail_crit = 0
paxos_propose_interval = 0.1
osd_data = {folder}/osd
osd_crush_update_on_start = false
osd_crush_chooseleaf_type = 0
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pg_autoscale_mode = off
osd_memory_target = 939524096
osd_objectstore = bluestore
bluestore_block_size = {size}
ms_bind_msgr1 = false
"""


def missing() -> str:
    """Why there can be no Ceph here, or no guest with a disk of it; nothing where there can."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"

    def has(name: str) -> bool:
        return any(Path("/").glob(name[1:])) if name.startswith("/") else bool(shutil.which(name, path=path))

    absent = sorted({package for name, package in _NEEDED.items() if not has(name)})
    return f"{', '.join(absent)}: not installed (scripts/setup-host --test)" if absent else ""


class Ceph:
    """`with Ceph(address) as ceph:` has it serve at an address of this machine, and leaves nothing of it."""

    def __init__(self, address: str = "127.0.0.1", gib: int = 8) -> None:
        self.folder = fresh("ceph-")
        self.address, self.port, self.fsid = address, Port(), str(uuid.uuid4())
        self.config = self.folder / "ceph.conf"
        self._programs: dict[str, subprocess.Popen] = {}
        of = {"fsid": self.fsid, "address": address, "port": self.port.number, "folder": self.folder}
        self.config.write_text(CONFIG.format(size=gib << 30, **of))

    @property
    def monitor(self) -> str:
        """Where its monitor is, as clients are told."""
        return f"{self.address}:{self.port.number}"

    @property
    def keyring(self) -> Path:
        """The file of the user's key, which only root reads."""
        return self.folder / f"client.{USER}.keyring"

    @property
    def key(self) -> str:
        """The user's key itself."""
        (line,) = [line for line in self.keyring.read_text().splitlines() if line.strip().startswith("key =")]
        return line.split(" = ")[1]

    @property
    def variables(self) -> dict[str, str]:
        """What a host's processes are told that are to reach it."""
        told = {"MONITORS": self.monitor, "POOL": POOL, "USER": USER, "KEYRING": str(self.keyring)}
        return {f"CUMULET_CEPH_{name}": value for name, value in told.items()}

    # ---- up and down

    def __enter__(self) -> "Ceph":
        try:
            self._make_monitor()
            self._start("mon", "ceph-mon", "-i", "a")
            self._make_osd()
            self._start("osd", "ceph-osd", "-i", "0")
            self.ceph("osd", "pool", "create", POOL)
            # It writes to the pool, and so returns when the pool's data has found its place.
            self.rbd("pool", "init", POOL)
            return self
        except BaseException as error:
            error.add_note(self._said())
            self.stop()
            raise

    def __exit__(self, *_) -> None:
        self.stop()

    def _make_monitor(self) -> None:
        """Its store, which begins with all keys."""
        made = [
            self._key("mon.", "mon.a", mon="allow *"),
            self._key("client.admin", mon="allow *", osd="allow *"),
            self._key(f"client.{USER}", mon="profile rbd", osd=f"profile rbd pool={POOL}"),
            self._key("osd.0", mon="allow profile osd", osd="allow *"),
        ]
        keys, map = self.folder / "keys", self.folder / "monmap"
        keys.write_text("".join(key.read_text() for key in made))
        self._run("monmaptool", "--create", "--fsid", self.fsid, "--addv", "a", f"[v2:{self.monitor}]", map)
        self._run("ceph-mon", "-c", self.config, "--mkfs", "-i", "a", "--monmap", map, "--keyring", keys)
        keys.unlink()

    def _key(self, name: str, file: str = "", **caps: str) -> Path:
        """A new key that may do this, in a file of its own."""
        path = self.folder / f"{file or name}.keyring"
        words = [word for of, allowed in caps.items() for word in ("--cap", of, allowed)]
        self._run("ceph-authtool", "--create-keyring", path, "--mode", "0600", "--gen-key", "--name", name, *words)
        return path

    def _make_osd(self) -> None:
        osd = str(uuid.uuid4())
        assert self.ceph("osd", "new", osd) == "0"
        self.ceph("osd", "crush", "add", "osd.0", "1", "root=default", "host=test")
        (self.folder / "osd").mkdir(mode=0o700)
        self._run("ceph-osd", "-c", self.config, "-i", "0", "--mkfs", "--osd-uuid", osd)

    def _start(self, name: str, *words: str) -> None:
        with (self.folder / f"{name}.out").open("ab") as output:
            # It ends with this process, whatever ends that.
            command = ["setpriv", "--pdeathsig", "KILL", *words, "-f", "-c", self.config]
            self._programs[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    def _said(self) -> str:
        files = [*self.folder.glob("*.out"), *self.folder.glob("*.log")]
        return "\n".join(f"---- {path.name}\n{path.read_text(errors='replace')[-1500:]}" for path in files)

    def stop(self) -> None:
        """Ends its programs, the OSD first, and removes everything: nobody needs what it stores any more."""
        for program in reversed(self._programs.values()):
            program.kill()
            program.wait(30)
        self._programs.clear()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.port.free()

    # ---- trouble

    @contextmanager
    def without_monitor(self) -> Iterator[None]:
        """The monitor holds its connections and says nothing until the end of the block."""
        monitor = self._programs["mon"]
        monitor.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            monitor.send_signal(signal.SIGCONT)

    # ---- what is in it

    def ceph(self, *words: str) -> str:
        """The output of an administrator's command. It waits for the monitor, but not for ever."""
        return self._run("ceph", "-c", self.config, "--connect-timeout", "20", *words)

    def rbd(self, *words: str) -> str:
        return self._run("rbd", "-c", self.config, *words)

    def images(self) -> list[str]:
        """The names of the pool's images."""
        return self.rbd("ls", POOL).split()

    def watchers(self, image: str) -> int:
        """How many clients have an image open that write to it."""
        return self.rbd("status", f"{POOL}/{image}").count("watcher=")

    def holds(self, image: str, mark: bytes) -> bool:
        """Whether these bytes are in an image, as they are stored."""
        words = ["rbd", "-c", self.config, "export", "--no-progress", f"{POOL}/{image}", "-"]
        before, found = b"", False
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as export:
            while chunk := export.stdout.read(1 << 20):
                found = found or mark in before + chunk
                before = chunk[-len(mark) :]
        assert export.returncode == 0, f"{image} can't be read"
        return found

    @staticmethod
    def _run(*words: object, timeout: float = 60.0) -> str:
        done = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=timeout)
        assert done.returncode == 0, f"{' '.join(map(str, words))}: {done.stdout}{done.stderr}"
        return done.stdout.strip()
