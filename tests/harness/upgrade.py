"""A cloud as a program left it that was killed: taken down into one file, and brought back from it, with guests that run.

What is in the file (a tar archive): the database, the state directories with volumes and the data of snapshots, each
host's guests and the commands that have made its network. What is not: images, which are the tests' own; disks that lie
over an image, which are made again; messages, which a broker may lose. Whatever depends on when and where it was taken
is written with placeholders, or moved when it is brought back: paths, the image's digest, and times, which keep their
distance from now."""

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import sparse
from .cloud import TINY
from .lone import Lone
from .machines import Machine, Machines, command_line, is_qemu
from .site import Host, Site
from .wait import until

TESTS = Path(__file__).resolve().parent.parent
RECORDER = TESTS / "upgrade/recorder.py"
FIXTURES = TESTS / "upgrade/fixtures"

# The hosts' network: their addresses are in the database and in what hosts keep, so it is the same every time.
NETWORK = "10.251.77.0/24"
KINDS = ("sqlite", "postgresql", "mariadb")

# The programs that make a host's network, where hosts find them.
RECORDED = ("ip", "bridge", "nft", "setpriv")
# Of what is longer, what is not zeros is kept.
LARGE = 4 << 20
# What a file's name has at its end that is not in the archive as it is.
IMAGE_FILE, SPARSE = "@IMAGE-FILE@", "@SPARSE@"
# Times within so many milliseconds of the taking are moved; nothing else has 13 digits and is so near.
NEAR = 7 * 24 * 3600 * 1000
QCOW2 = b"QFI\xfb"
STAMP = re.compile(rb"(?<![\w.])1[5-9]\d{11}(?![\w.])")


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def site(machines: Machines, kind: str, binary: Path, grace: int) -> Site:
    """A cloud of that database; not started."""
    cloud = Lone(machines, binary, grace) if kind == "sqlite" else Site(machines, kind, binary, grace, shared=True)
    # A machine of tests has not the room of so many disks, which take next to none.
    cloud.variables["CUMULET_SCHEDULER_DISK_ALLOCATION_RATIO"] = "16.0"
    return cloud


def record(machine: Machine) -> None:
    """From now on what makes the host's network is written down."""
    folder = machine.root / "recorder"
    (folder / "real").mkdir(parents=True)
    shim = folder / "shim"
    shim.write_text(RECORDER.read_text().replace("@FOLDER@", str(folder)))
    shim.chmod(0o755)
    for name in RECORDED:
        path = os.path.realpath(shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin"))
        shutil.copy2(path, folder / "real" / name)
        machine.run("mount", "--bind", shim, path)


# ---- taking down


class Taker:
    """Writes the archive."""

    def __init__(self, cloud: Site, kind: str, out: tarfile.TarFile) -> None:
        self.cloud, self.kind, self.out = cloud, kind, out
        self.image = digest(TINY).encode()

    def add(self, name: str, text: bytes, like: os.stat_result | None = None) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(text)
        if like:
            info.mode, info.uid, info.gid = like.st_mode & 0o7777, like.st_uid, like.st_gid
        self.out.addfile(info, io.BytesIO(text))

    def portable(self, text: bytes, host: Host | None = None) -> bytes:
        if host:
            text = text.replace(bytes(host.state), b"@STATE@")
        return text.replace(bytes(self.cloud.state), b"@STATE@").replace(self.image, b"@IMAGE@")

    def cloud_parts(self) -> None:
        self.add("database.sql", self.portable(dump(self.cloud, self.kind)))
        if self.kind != "sqlite":
            self.folder("control", self.cloud.state, None)
        for host in self.cloud.hosts:
            self.host(host)

    def host(self, host: Host) -> None:
        machine, at = host.machine, host.name
        disks = self.folder(f"{at}/state", host.state, host)
        self.add(f"{at}/disks.json", json.dumps(disks, indent=1).encode())
        self.add(f"{at}/commands.jsonl", self.portable((machine.root / "recorder/commands.jsonl").read_bytes(), host))
        self.add(f"{at}/settings.json", json.dumps(settings(machine), indent=1).encode())
        for name in machine.domains():
            state = machine.run("virsh", "-q", "domstate", name)
            xml = machine.run("virsh", "-q", "dumpxml", "--inactive", "--security-info", name)
            self.add(f"{at}/guests/{name}.{state.replace(' ', '-')}.xml", self.portable(xml.encode(), host))

    def folder(self, at: str, top: Path, host: Host | None) -> dict[str, dict]:
        """A state directory's files; the disks among them, by their names, and how they were made."""
        disks = {}
        for path in [top, *sorted(top.rglob("*"))]:
            name, like = f"{at}/{path.relative_to(top)}", path.lstat()
            name = self.portable(name.encode()).decode()
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                continue
            if path.name.startswith(("lock.", "cumulet.db")):
                continue
            if path.is_dir():
                info = tarfile.TarInfo(name)
                info.type, info.mode, info.uid, info.gid = tarfile.DIRTYPE, like.st_mode & 0o7777, like.st_uid, like.st_gid
                self.out.addfile(info)
            elif is_over(path):
                self.add(name, b"", like)
                disks[str(path.relative_to(top))] = made_as(path, host)
            elif like.st_size == TINY.stat().st_size and digest(path).encode() == self.image:
                self.add(name + IMAGE_FILE, b"", like)
            elif like.st_size >= LARGE:
                written = sparse.packed(path)
                assert len(written) < LARGE, f"{path} is no image that is known here, and has {len(written)} bytes"
                self.add(name + SPARSE, written, like)
            elif is_data(name, text := path.read_bytes()):
                self.add(name, text, like)
            else:
                self.add(name, self.portable(b"" if "console" in path.name else text, host), like)
        return disks


def is_over(path: Path) -> bool:
    """Whether a file is a disk that lies over an image."""
    with path.open("rb") as file:
        head = file.read(16)
    return head.startswith(QCOW2) and head[8:16] != bytes(8)


def is_data(name: str, text: bytes) -> bool:
    """Whether a file is a disk or a snapshot's data: nothing in it depends on when and where it was taken."""
    return text.startswith(QCOW2) or "/snapshots/" in name


def made_as(path: Path, host: Host) -> dict:
    """How `qemu-img create` makes such a disk."""
    words = ["qemu-img", "info", "-U", "--output=json", str(path)]
    info = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    data = info["format-specific"]["data"]
    options = {"compat": data["compat"], "cluster_size": info["cluster-size"]}
    for name in ("lazy-refcounts", "extended-l2"):
        options[name.replace("-", "_")] = "on" if data.get(name) else "off"
    back = {}
    if "full-backing-filename" in info:
        file = os.path.relpath(info["full-backing-filename"], host.state)
        back = {"over": file.replace(digest(TINY), "@IMAGE@"), "over_format": info["backing-filename-format"]}
    return {"bytes": info["virtual-size"], "options": options, **back}


def settings(machine: Machine) -> dict[str, dict[str, str]]:
    """What of each namespace's settings is not as in a fresh one."""
    look = "cd /proc/sys/net && grep -s . ipv4/ip_forward ipv[46]/conf/all/* ipv[46]/conf/default/* || true"

    def of(name: str) -> dict[str, str]:
        return dict(line.split(":", 1) for line in machine.run("nsenter", f"--net=/run/netns/{name}", "sh", "-c", look).splitlines())

    names = machine.namespaces()
    machine.run("ip", "netns", "add", "fresh")
    fresh = of("fresh")
    machine.run("ip", "netns", "delete", "fresh")
    return {name: {key: value for key, value in of(name).items() if fresh.get(key) != value} for name in names}


def dump(cloud: Site, kind: str) -> bytes:
    """The database, as SQL."""
    if kind == "sqlite":
        with contextlib.closing(sqlite3.connect(cloud.state / "cumulet.db")) as connection:
            return "\n".join(connection.iterdump()).encode()
    port = str(cloud.server.port)
    if kind == "postgresql":
        words = [cloud.server.program("pg_dump"), "-h", "127.0.0.1", "-p", port, "-U", "postgres", "--no-owner", cloud.vhost]
    else:
        words = ["mariadb-dump", "--no-defaults", "-h", "127.0.0.1", "-P", port, "-u", "root", "--skip-dump-date", cloud.vhost]
    text = subprocess.run(words, check=True, capture_output=True).stdout
    # What only the programs of these very versions know.
    kept = [line for line in text.split(b"\n") if not line.startswith((b"\\restrict", b"\\unrestrict", b"/*M!"))]
    return b"\n".join(kept)


def take(cloud: Site, kind: str, path: Path, manifest: dict) -> None:
    """Writes down a cloud all of whose processes have been killed; its guests run."""
    manifest = manifest | {"kind": kind, "taken": int(time.time() * 1000), "hosts": [host.name for host in cloud.hosts]}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:xz", preset=9) as out:
        taker = Taker(cloud, kind, out)
        taker.add("manifest.json", json.dumps(manifest, indent=1).encode())
        taker.cloud_parts()


# ---- bringing back


def manifest(path: Path) -> dict:
    """What an archive begins with."""
    with tarfile.open(path) as archive:
        return json.load(archive.extractfile("manifest.json"))


class Restored:
    """`with Restored(path) as restored:` brings a cloud back to where its programs were killed: the database, what hosts
    keep, networks and running guests, and nothing else. `cloud.start()` is the upgrade."""

    def __init__(self, path: Path, binary: Path, grace: int = 20) -> None:
        self.parts: dict[str, tuple[tarfile.TarInfo, bytes]] = {}
        with tarfile.open(path) as archive:
            for info in archive:
                text = archive.extractfile(info).read() if info.isfile() else b""
                self.parts[info.name] = info, text
        self.manifest = json.loads(self.parts["manifest.json"][1])
        self.kind, self.binary, self.grace = self.manifest["kind"], binary, grace
        self.image = digest(TINY).encode()
        self.moved = int(time.time() * 1000) - self.manifest["taken"]

    def __enter__(self) -> "Restored":
        self.machines = Machines(len(self.manifest["hosts"]), NETWORK)
        self.machines.__enter__()
        try:
            self.cloud = site(self.machines, self.kind, self.binary, self.grace)
            self._control()
            # At once: each libvirt looks at its QEMU first.
            with ThreadPoolExecutor() as pool:
                for done in [pool.submit(self._host, host) for host in self.cloud.hosts]:
                    done.result()
            return self
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_) -> None:
        try:
            if hasattr(self, "cloud"):
                self.cloud.discard()
        finally:
            self.machines.remove()

    def here(self, text: bytes, state: Path) -> bytes:
        """A text as it would be now and here."""

        def move(found: re.Match) -> bytes:
            at = int(found[0])
            return str(at + self.moved).encode() if abs(at - self.manifest["taken"]) < NEAR else found[0]

        return STAMP.sub(move, text.replace(b"@STATE@", bytes(state)).replace(b"@IMAGE@", self.image))

    def _control(self) -> None:
        state, sql = self.cloud.state, self.here(self.parts["database.sql"][1], self.cloud.state)
        if self.kind != "sqlite":
            self._folder("control", state)
        load(self.cloud, self.kind, sql)
        size = TINY.stat().st_size
        load(self.cloud, self.kind, b"UPDATE images SET size_bytes = %d WHERE sha256 = '%s';" % (size, self.image))

    def _folder(self, at: str, top: Path) -> None:
        for name, (info, text) in self.parts.items():
            if name != at and not name.startswith(f"{at}/"):
                continue
            path = top / self.here(name.removeprefix(at).lstrip("/").encode(), top).decode()
            path = path.with_name(path.name.removesuffix(IMAGE_FILE).removesuffix(SPARSE))
            if info.isdir():
                path.mkdir(exist_ok=True)
            elif name.endswith(IMAGE_FILE):
                shutil.copyfile(TINY, path)
            elif name.endswith(SPARSE):
                sparse.unpack(text, path)
            else:
                path.write_bytes(text if is_data(name, text) else self.here(text, top))
            os.chown(path, info.uid, info.gid)
            path.chmod(info.mode)

    def _host(self, host: Host) -> None:
        self._folder(f"{host.name}/state", host.state)
        for name, disk in json.loads(self.parts[f"{host.name}/disks.json"][1]).items():
            self._disk(host, host.state / name, disk)
        guests = self._define(host)
        replay = Replay(host.machine, json.loads(self.parts[f"{host.name}/settings.json"][1]), guests)
        for line in self.here(self.parts[f"{host.name}/commands.jsonl"][1], host.state).splitlines():
            replay.command(json.loads(line))
        replay.end()

    def _disk(self, host: Host, path: Path, disk: dict) -> None:
        like = path.stat()
        options = ",".join(f"{name}={value}" for name, value in disk["options"].items())
        over = []
        if "over" in disk:
            over = ["-b", str(host.state / disk["over"].replace("@IMAGE@", self.image.decode())), "-F", disk["over_format"]]
        words = ["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, *over, str(path), str(disk["bytes"])]
        subprocess.run(words, check=True)
        if path.parent.name in self.manifest["deaf"]:
            # Nothing to boot from: it hears no power button.
            blank = ["qemu-io", "-c", "write -q -P 0 0 64k", str(path)]
            subprocess.run(blank, check=True, capture_output=True)
        os.chown(path, like.st_uid, like.st_gid)
        path.chmod(like.st_mode & 0o7777)

    def _define(self, host: Host) -> dict[str, str]:
        """Guests, by the devices that they have on the host; those that are off have none."""
        found = {}
        for name in [name for name in self.parts if name.startswith(f"{host.name}/guests/")]:
            domain, state, _ = Path(name).name.split(".")
            xml = self.here(self.parts[name][1], host.state)
            file = host.machine.root / "guest.xml"
            file.write_bytes(xml)
            host.machine.run("virsh", "-q", "define", file)
            if state != "shut-off":
                found |= {device.decode(): domain for device in re.findall(rb"<target dev='(\w+)' managed='no'", xml)}
        return found

    # ---- guests

    def booted(self) -> None:
        """Waits for the guests that have something to boot from. A kernel that stands still at its start (seen once: an
        emulated processor on a busy machine) is none of an upgrade's doing: such a guest is reset, once, and what its
        console said is told."""
        since = time.monotonic()
        for id in self.manifest["guests"]:
            ready = lambda id=id: self.console(id).count("cumulet-tiny ready") == 1  # noqa: E731
            try:
                until(ready, f"{id} has booted", max(1.0, since + 120 - time.monotonic()), every=0.5)
            except AssertionError:
                print(f"{id} is reset, for it did not boot; its console: {self.console(id)[-2000:]!r}")
                self.host_of(id).machine.run("virsh", "-q", "reset", id)
                since = time.monotonic()
                until(ready, f"{id} has booted; its console: {self.console(id)[-2000:]!r}", 240, every=0.5)

    def host_of(self, id: str) -> Host:
        (host,) = [host for host in self.cloud.hosts if host.name == self.manifest["guests"][id]["host"]]
        return host

    def console(self, id: str) -> str:
        files = list(self.host_of(id).state.glob(f"hosts/*/instances/{id}/console*"))
        return "".join(path.read_text(errors="replace") for path in files)

    @property
    def kept(self) -> dict[str, dict]:
        """The guests that run on: those that answer, and those that have nothing to boot from."""
        return self.manifest["guests"] | self.manifest.get("quiet", {})

    def programs(self) -> dict[str, tuple[int, str]]:
        """Each guest's program: its number, and when it was started."""
        found = {}
        for host in self.cloud.hosts:
            for pid in host.machine.processes():
                words = command_line(pid)
                for id in [id for id in self.kept if is_qemu(words, id)]:
                    started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
                    found[id] = pid, started
        return found


class Replay:
    """The making of a host's network again, in which each guest is started where the worker had started it: its device is
    there, and not yet where it belongs."""

    def __init__(self, machine: Machine, settings: dict[str, dict[str, str]], guests: dict[str, str]) -> None:
        self.machine, self.settings, self.guests = machine, settings, dict(guests)
        self.servers: dict[str, dict] = {}
        self.started: list[str] = []

    def command(self, command: dict) -> None:
        program, words, lines = command["program"], command["words"], command["input"]
        if program == "setpriv":
            # A server that stays; it has been started again and again.
            self.servers[" ".join(words)] = command
            return
        if program != "ip" or "-batch" not in words:
            self._run(command, lines)
            if words[:2] == ["netns", "add"]:
                self._set(words[2])
            elif words[:2] == ["netns", "del"]:
                self.servers = {key: each for key, each in self.servers.items() if each["namespace"] != words[2]}
            return
        before: list[str] = []
        for line in lines.splitlines():
            moved = re.match(r"link set dev (\w+) netns ", line)
            if moved and moved[1] in self.guests:
                self._run(command, "\n".join([*before, ""]))
                before = []
                self._start(self.guests.pop(moved[1]))
            before.append(line)
        self._run(command, "\n".join([*before, ""]))

    def _run(self, command: dict, lines: str) -> None:
        into = ["nsenter", f"--net=/run/netns/{command['namespace']}"] if command["namespace"] else []
        words = self.machine.words(*into, command["program"], *command["words"])
        with tempfile.TemporaryFile() as said:  # no pipe: a server that stays would keep it open
            done = subprocess.run(words, input=lines.encode(), stdout=said, stderr=said, timeout=60)
            said.seek(0)
            assert done.returncode == 0, f"{command}: {said.read().decode()}"

    def _set(self, namespace: str) -> None:
        values = self.settings.get(namespace, {})
        script = "".join(f"echo {value} > /proc/sys/net/{key}\n" for key, value in values.items())
        self.machine.run("nsenter", f"--net=/run/netns/{namespace}", "sh", "-ec", script)

    def _start(self, guest: str) -> None:
        self.machine.run("virsh", "-q", "start", "--paused", guest)
        self.started.append(guest)

    def end(self) -> None:
        assert not self.guests, f"{self.guests} are nowhere in what was recorded"
        for command in self.servers.values():
            if command["namespace"] in self.settings:
                self._run(command, "")
        for guest in self.started:
            self.machine.run("virsh", "-q", "resume", guest)


def load(cloud: Site, kind: str, sql: bytes) -> None:
    """Runs SQL on the database, before anybody else does."""
    if kind == "sqlite":
        path = cloud.state / "cumulet.db"
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.executescript(sql.decode())
        path.chmod(0o600)
        return
    port = str(cloud.server.port)
    if kind == "postgresql":
        words = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", port, "-U", "postgres", "-d", cloud.vhost]
    else:
        words = ["mariadb", "--no-defaults", "-h", "127.0.0.1", "-P", port, "-u", "root", cloud.vhost]
    done = subprocess.run(words, input=sql, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
