"""Several hosts on this machine.

Each is a process namespace, a network namespace and a mount namespace with a libvirtd of its own; a bridge in
the machine's own network joins them. What is started inside dies with the host, as with a power cut.
"""

import ipaddress
import json
import os
import random
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterable
from contextlib import contextmanager, suppress
from pathlib import Path

from .folder import fresh
from .wait import until

# Private to each host, beside all of /run.
PRIVATE = ("/var/lib/libvirt", "/etc/libvirt", "/var/cache/libvirt", "/var/log/libvirt")

# The host's first process: makes the host's own view of the files, and then only waits for whoever is orphaned.
INIT = r"""
set -e
# A libvirt that finds control groups would want to share them with the other hosts'.
umount -R /sys/fs/cgroup 2>/dev/null || :
mount -t sysfs sysfs /sys
{groups}
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/netns /run/lock /run/libvirt
for folder in {private}; do
    mount --bind {root}$folder $folder
done
ip link set lo up
hostname {name}
: > {root}/ready
while :; do sleep 1000 & wait $! || :; done
"""


# Control groups for memory, of either kind: the machine's own, so that it is for one host by itself.
MEMORY_GROUPS = r"""
if grep -q "^[^ ]* [^ ]* cgroup2 .*memory" /proc/mounts || ! grep -q "^memory" /proc/cgroups; then
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
else
    mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
    mkdir /sys/fs/cgroup/memory
    mount -t cgroup -o memory memory /sys/fs/cgroup/memory
fi
"""


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def command_line(pid: int) -> list[str]:
    """A process's words; none when it has gone."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []
    return [word.decode(errors="replace") for word in words if word]


def parent(pid: int) -> int | None:
    """The number of a process's parent; none when it has gone."""
    try:
        # The name, in brackets, may have any characters.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def is_qemu(words: list[str], instance: str) -> bool:
    return bool(words) and "qemu-system" in words[0] and any(instance in word for word in words)


def signal_all(pids: Iterable[int], number: int) -> None:
    """Sends a signal to processes that were there a moment ago; those that have ended since are passed over."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


class Process:
    """A program inside a host, by its number out here."""

    def __init__(self, outer: subprocess.Popen) -> None:
        self.outer = outer
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")

        def child():
            if outer.poll() is not None:
                return -1
            return next((int(pid) for pid in children.read_text().split()), 0)

        self.pid = until(child, "the program inside", 10, every=0.005)

    def poll(self) -> int | None:
        return self.outer.poll()

    def wait(self, timeout: float | None = None) -> int:
        return self.outer.wait(timeout)

    def send_signal(self, number: int) -> None:
        if self.outer.poll() is None and self.pid > 0:
            os.kill(self.pid, number)

    def terminate(self, timeout: float = 60.0) -> int:
        """An orderly end; its status."""
        self.send_signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self) -> None:
        """`kill -9`; other programs of the host go on."""
        self.send_signal(signal.SIGKILL)
        self.wait(30)


class Machine:
    """One host. `Machines` makes it."""

    # What is started as its libvirtd, and whether that finds control groups for memory.
    libvirtd: tuple[object, ...] = ("libvirtd",)
    has_memory_groups = False

    def __init__(self, name: str, link: str, bridge: str, address: ipaddress.IPv4Interface) -> None:
        self.name, self.link, self.bridge, self.interface = name, link, bridge, address
        # Its network card stays the same from one start to the next.
        self.mac = ":".join(["02", *(f"{random.randrange(256):02x}" for _ in range(5))])
        self.root = fresh("machine-")
        self.pid = 0
        self._unshare: subprocess.Popen | None = None
        self._programs: list[Process] = []
        self._prepare()

    @property
    def address(self) -> str:
        """Its address on the bridge."""
        return str(self.interface.ip)

    # ---- power

    def start(self) -> "Machine":
        """Power on: what was kept on disk is there, nothing runs but libvirt."""
        assert self._unshare is None
        (self.root / "ready").unlink(missing_ok=True)
        script = INIT.format(private=" ".join(PRIVATE), root=self.root, name=self.name, groups=MEMORY_GROUPS if self.has_memory_groups else "")
        kinds = ["--mount", "--net", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
        with (self.root / "init.log").open("ab") as log:
            self._unshare = subprocess.Popen(
                ["unshare", *kinds, "bash", "-c", script],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        until(self._up, f"the host {self.name}", 20, every=0.02)
        self._plug_in()
        self.run("virtlogd", "-d")
        self._start_libvirtd()
        return self

    def _start_libvirtd(self) -> None:
        self.run(*self.libvirtd, "-d")
        until(lambda: self.execute("virsh", "-q", "version").returncode == 0, f"libvirtd of {self.name}", 60)

    def _up(self) -> bool:
        if self._unshare.poll() is not None:
            raise RuntimeError(f"{self.name} did not start: {(self.root / 'init.log').read_text()[-2000:]}")
        children = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children").read_text().split()
        self.pid = int(children[0]) if children else 0
        return self.pid > 0 and (self.root / "ready").exists()

    def _prepare(self) -> None:
        """The folders that hide the machine's own."""
        for folder in PRIVATE:
            (self.root / folder[1:]).mkdir(parents=True)
        # Searchable, as the originals: guests' programs pass through.
        for folder in (self.root, *self.root.rglob("*")):
            if folder.is_dir():
                folder.chmod(0o755)
        # Not the guests of the machine that the tests run on.
        guests = lambda folder, names: [name for name in names if folder == "/etc/libvirt/qemu" and name.endswith(".xml")]  # noqa: E731
        shutil.copytree("/etc/libvirt", self.root / "etc/libvirt", dirs_exist_ok=True, symlinks=True, ignore=guests)
        shutil.rmtree(self.root / "etc/libvirt/qemu/networks/autostart", ignore_errors=True)
        # Two hosts with one number are one host to libvirt.
        with (self.root / "etc/libvirt/libvirtd.conf").open("a") as file:
            file.write(f'\nhost_uuid = "{uuid.uuid4()}"\n')

    def _plug_in(self) -> None:
        _ip("link", "add", self.link, "type", "veth", "peer", "name", "eth0", "address", self.mac, "netns", str(self.pid))
        _ip("link", "set", self.link, "master", self.bridge, "up")
        self.run("ip", "address", "add", str(self.interface), "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")

    def power_cut(self) -> None:
        """Everything that runs there is gone at once, guests too; what was written stays."""
        if self._unshare is None:
            return
        inside = self.processes()
        # The first process takes all others with it.
        self._unshare.kill()
        self._unshare.wait()
        self._unshare, self.pid = None, 0
        self._go_on()
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in inside), f"the end of {self.name}", 30, every=0.02)
        for program in self._programs:
            program.wait(10)
        self._programs.clear()
        subprocess.run(["ip", "link", "delete", self.link], capture_output=True)

    def remove(self) -> None:
        """Off, and its files with it."""
        self.power_cut()
        shutil.rmtree(self.root, ignore_errors=True)

    # ---- trouble

    def cut(self) -> None:
        """Off the network; everything there goes on."""
        _ip("link", "set", self.link, "down")

    def join(self) -> None:
        """Back on the network."""
        _ip("link", "set", self.link, "up")

    @contextmanager
    def without_libvirtd(self):
        """libvirtd is ended, and started again at the end of the block; guests run on."""
        daemon = self.oldest("libvirtd")
        os.kill(daemon, signal.SIGTERM)
        until(lambda: not command_line(daemon), f"the end of libvirtd of {self.name}", 30, every=0.02)
        try:
            yield
        finally:
            self._start_libvirtd()

    def pids(self, program: str) -> list[int]:
        """Processes of a program, by their numbers out here."""
        return [pid for pid in self.processes() if os.path.basename((command_line(pid) or [""])[0]) == program]

    def oldest(self, program: str) -> int:
        """A program's own process: its children, which are its copies for a moment, have it as their parent."""
        found = self.pids(program)
        (own,) = [pid for pid in found if parent(pid) not in (None, *found)]
        return own

    def kill_guest(self, instance: str) -> None:
        """`kill -9` of the program that is a guest, as the kernel does when memory runs out."""
        (found,) = [pid for pid in self.processes() if is_qemu(command_line(pid), instance)]
        os.kill(found, signal.SIGKILL)
        until(lambda: not command_line(found), "the end of the guest's program", 30, every=0.02)

    def freeze(self) -> None:
        """Every process stands still, guests too."""
        stopped = {self.pid}
        # What is not stopped yet may start others, and end.
        while others := set(self.processes()) - stopped:
            signal_all(others, signal.SIGSTOP)
            stopped |= others

    def thaw(self) -> None:
        signal_all(set(self.processes()) - {self.pid}, signal.SIGCONT)
        self._go_on()

    def _go_on(self) -> None:
        """What stands between a program inside and the tests stops with it, and does not go on with it."""
        for program in self._programs:
            if program.outer.poll() is None:
                program.outer.send_signal(signal.SIGCONT)

    def processes(self) -> list[int]:
        """The processes of the host, by their numbers out here."""
        mine, found = os.readlink(f"/proc/{self.pid}/ns/pid"), []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(folder / "ns/pid") == mine:
                    found.append(int(folder.name))
            except OSError:
                continue
        return found

    # ---- programs inside

    def words(self, *command: object) -> list[str]:
        """The command line that runs a command inside."""
        enter = ["nsenter", "--target", str(self.pid), "--mount", "--net", "--uts", "--pid"]
        return [*enter, "--", *map(str, command)]

    def execute(self, *command: object, timeout: float = 120.0, env: dict | None = None) -> subprocess.CompletedProcess:
        """Runs a command to its end, whatever its status is."""
        return subprocess.run(self.words(*command), capture_output=True, text=True, timeout=timeout, env=env)

    def run(self, *command: object, timeout: float = 120.0, env: dict | None = None) -> str:
        """The output of a command that must succeed."""
        done = self.execute(*command, timeout=timeout, env=env)
        assert done.returncode == 0, f"{self.name}: {command[:3]} ended with {done.returncode}: {done.stderr[-2000:]}"
        return done.stdout.strip()

    def launch(self, *command: object, output: Path, env: dict | None = None) -> Process:
        """Starts a program; what it writes goes to the end of a file."""
        with output.open("ab") as file:
            outer = subprocess.Popen(
                self.words(*command), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=env
            )
        program = Process(outer)
        self._programs.append(program)
        return program

    def namespaces(self) -> list[str]:
        """Network namespaces made inside."""
        return [line.split()[0] for line in self.run("ip", "netns", "list").splitlines()]

    def domains(self) -> list[str]:
        """Guests defined or running there."""
        return self.run("virsh", "-q", "list", "--all", "--name").split()


class Machines:
    """Hosts joined by a bridge. `with Machines(3) as machines:` starts them and leaves nothing of them."""

    def __init__(self, count: int, network: str = "") -> None:
        """On a network that nobody else has, or on this one."""
        self.mark = f"{random.randrange(16**4):04x}"
        self.bridge = f"cmb{self.mark}"
        self.network = self._free_network([ipaddress.IPv4Network(network)] if network else self._some_networks())
        hosts = list(self.network.hosts())
        # The machine's own address on the bridge: the control plane's, as the hosts see it.
        self.address = str(hosts[-1])
        prefix = self.network.prefixlen
        self.machines = [
            Machine(
                f"host-{number}",
                f"cm{self.mark}n{number}",
                self.bridge,
                ipaddress.IPv4Interface(f"{hosts[number - 1]}/{prefix}"),
            )
            for number in range(1, count + 1)
        ]

    @staticmethod
    def _some_networks() -> list[ipaddress.IPv4Network]:
        blocks = [ipaddress.IPv4Network(f"10.{n}.{random.randrange(256)}.0/24") for n in range(130, 250)]
        random.shuffle(blocks)
        return blocks

    @staticmethod
    def _free_network(blocks: list[ipaddress.IPv4Network]) -> ipaddress.IPv4Network:
        """The first block that no device and no route of this machine has."""
        taken = []
        for route in json.loads(_ip("-json", "-4", "route", "show", "table", "all") or "[]"):
            if route["dst"] != "default":
                taken.append(ipaddress.IPv4Network(route["dst"], strict=False))
        free = (block for block in blocks if not any(block.overlaps(other) for other in taken))
        found = next(free, None)
        assert found, f"this machine uses {', '.join(map(str, blocks[:3]))} itself"
        return found

    def __enter__(self) -> "Machines":
        try:
            _ip("link", "add", self.bridge, "type", "bridge")
            _ip("address", "add", f"{self.address}/{self.network.prefixlen}", "dev", self.bridge)
            _ip("link", "set", self.bridge, "up")
            for machine in self.machines:
                machine.start()
            return self
        except BaseException:
            self.remove()
            raise

    def __exit__(self, *_) -> None:
        self.remove()

    def __iter__(self):
        return iter(self.machines)

    def __getitem__(self, number: int) -> Machine:
        return self.machines[number]

    def remove(self) -> None:
        for machine in self.machines:
            machine.remove()
        subprocess.run(["ip", "link", "delete", self.bridge], capture_output=True)

    def left(self) -> list[str]:
        """What is left of them in the machine's own network."""
        links = json.loads(_ip("-json", "link", "show") or "[]")
        return [link["ifname"] for link in links if self.mark in link["ifname"]]
