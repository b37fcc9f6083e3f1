"""A cloud on several hosts: its control plane's processes out here, over a database and a broker, and in each of
`machines.Machines` the roles `compute` and `metadata`, each host with a broker user that may do nothing but its part."""

import json
import secrets
import shlex
import shutil
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import host as outside
from .broker import RabbitMQ
from .cloud import BIN, CONTROL, HOST, Account, Cloud
from .folder import fresh
from .guest import Guest
from .guest import launch as launch_guests
from .machines import Machine, Machines
from .machines import Process as Inside
from .port import Port
from .process import READY
from .servers import MariaDB, PostgreSQL
from .wait import until


class Role:
    """A process with a role inside a host. It can be started again after it has ended."""

    def __init__(self, host: "Host", name: str) -> None:
        self.host, self.name = host, name
        self.output = host.machine.root / f"output.{name}"
        self.program: Inside | None = None
        self.more: list[str] = []
        self._from = 0

    def launch(self) -> None:
        assert self.program is None
        host, site = self.host, self.host.site
        self._from = self.output.stat().st_size if self.output.exists() else 0
        words = [host.binary, "up", "--role", self.name, "--state-dir", host.state, "--driver", "libvirt", "--config", site.config, *self.more]
        self.program = host.machine.launch(*words, output=self.output, env=host.environment)

    def wait_ready(self, timeout: float = 60.0) -> None:
        def ready() -> bool:
            if READY in self.said():
                return True
            if self.program.poll() is not None:
                raise RuntimeError(f"{self.name} of {self.host.name} ended:\n{self.said()[-4000:]}")
            return False

        until(ready, f"{READY!r} of {self.name} on {self.host.name}", timeout, every=0.05)

    def said(self) -> str:
        """What it has printed since it was started last."""
        with self.output.open("rb") as output:
            output.seek(self._from)
            return output.read().decode(errors="replace")

    def kill(self) -> None:
        if self.program:
            self.program.kill()
            self.program = None

    def stop(self) -> None:
        program, self.program = self.program, None
        status = program.terminate()
        assert status == 0, f"{self.name} of {self.host.name} ended with {status}:\n{self.said()[-4000:]}"


class Host:
    """A machine and the cloud's processes on it."""

    def __init__(self, site: "Site", machine: Machine) -> None:
        self.site, self.machine, self.name = site, machine, machine.name
        self.state = machine.root / "state"
        self.state.mkdir()
        self.state.chmod(0o711)
        if site.shared:
            for shared in ("images", "snapshots"):
                (self.state / shared).symlink_to(site.state / shared)
        self.roles = {name: Role(self, name) for name in HOST}
        # The program that is started next, and what it is told beside what all are.
        self.binary, self.variables = site.binary, {}
        self._bus = ""

    @property
    def environment(self) -> dict[str, str]:
        """What its processes are told: where the broker is, and as whom to come. Nothing of the database."""
        own = {
            "CUMULET_BUS": self._bus, "CUMULET_HOST": self.name, "CUMULET_NETWORK_TUNNEL_ADDRESS": self.machine.address,
        }  # fmt: skip
        if not self.site.shared:
            own["CUMULET_STORAGE_URL"] = self.site.storage
        of_control = ("CUMULET_DATABASE", "CUMULET_STORAGE_LISTEN")
        return {k: v for k, v in self.site.environment().items() if k not in of_control} | own | self.variables

    def _admit(self) -> None:
        """Makes its broker user by the commands that the operator is told."""
        password = secrets.token_hex(16)
        add, permit = map(shlex.split, self.site.run(
            "admin", "broker", "host-user", self.name, "--vhost", self.site.vhost
        ).splitlines())  # fmt: skip
        assert add[:2] == ["rabbitmqctl", "add_user"] and permit[1] == "set_permissions"
        self.site.broker.ctl(*add[1:], password)
        self.site.broker.ctl(*permit[1:])
        self._bus = self.site.broker.url(self.site.vhost, add[2], password, self.site.machines.address)

    def launch(self) -> None:
        """Starts what does not run; the machine too."""
        if not self._bus:
            self._admit()
        if not self.machine.pid:
            self.machine.start()
        for role in self.roles.values():
            if role.program is None:
                role.launch()

    def wait_ready(self) -> None:
        for role in self.roles.values():
            role.wait_ready()

    def start(self) -> None:
        self.launch()
        self.wait_ready()

    def kill(self) -> None:
        """`kill -9` of the cloud's processes; guests and libvirt run on."""
        for role in self.roles.values():
            role.kill()

    def power_cut(self) -> None:
        self.machine.power_cut()
        for role in self.roles.values():
            role.program = None

    def stop(self) -> None:
        for role in self.roles.values():
            if role.program:
                role.stop()

    def audit(self) -> dict:
        """The database against this host. The audit is the operator's: it is told where the database is."""
        words = [self.site.binary, "audit", "--json", "--host", self.name, "--state-dir", self.state]
        env = self.environment | {"CUMULET_DATABASE": self.site.database_socket}
        done = self.machine.execute(*words, env=env)
        assert done.stdout, done.stderr[-2000:]
        report = json.loads(done.stdout)
        assert done.returncode == (0 if not report["differences"] else 1), done.stderr
        return report


class GuestOn(Guest):
    """A guest whose public address is reached from its host. Where it is and its addresses are remembered, so that it
    is reached also while there is nobody to ask."""

    def __init__(self, *what) -> None:
        super().__init__(*what)
        self._private = self._public = ""

    @property
    def public(self) -> str:
        if not self._public:
            self._public = super().public
        return self._public

    def hang_up(self) -> None:
        # The next connection may be after a stop and a start.
        self._public = ""
        super().hang_up()

    @property
    def host(self) -> Host:
        return self.cloud.host_of(self.id)

    def ssh_command(self, command: str, connect: int = 8) -> list[str]:
        return self.host.machine.words(*super().ssh_command(command, connect))

    @property
    def private_address(self) -> str:
        """Its private address, which stays: nobody is asked twice."""
        if not self._private:
            self._private = self.private
        return self._private

    def boot_id(self) -> str:
        return self.ssh("cat /proc/sys/kernel/random/boot_id")


class Site(Cloud):
    """`with Machines(3) as machines, Site(machines) as site:` starts all of it, and checks at the end that nothing is
    left. Its own database server and broker are stopped and started by tests as they like. Hosts get images and snapshots
    from the conductor's process, or, where they are `shared`, have its directories (in a real cluster a shared file
    system)."""

    def __init__(
        self, machines: Machines, kind: str = "postgresql", binary: Path = BIN, grace: int = 20, shared: bool = False
    ) -> None:
        super().__init__("libvirt", f"[libvirt]\nstop_grace = {grace}\n", binary=binary, cluster="")
        self.shared = shared
        self.machines, self.cluster = machines, kind
        self.broker = RabbitMQ(fresh("broker-"), address=machines.address).start()
        self.server = {"postgresql": PostgreSQL, "mariadb": MariaDB}[kind]()
        self.vhost = f"cumulet_{uuid.uuid4().hex[:12]}"
        self.broker.add_vhost(self.vhost)
        self.variables |= {"CUMULET_DATABASE": self.server.url(self.vhost), "CUMULET_BUS": self.broker.url(self.vhost)}
        self.processes = [self._process(role) for role in CONTROL]
        if not shared:
            self._storage = Port()
            self.storage = f"http://{machines.address}:{self._storage.number}"
            listen = {"CUMULET_STORAGE_LISTEN": f"{machines.address}:{self._storage.number}"}
            self.role("conductor").variables_of_its_own |= listen
        self.hosts = [Host(self, machine) for machine in machines]
        self._places: dict[str, Host] = {}

    @property
    def database_socket(self) -> str:
        """The database for a program that is inside a host."""
        if self.cluster == "mariadb":
            return f"mysql://root@localhost/{self.vhost}?socket={self.server.directory}/socket"
        return f"postgres://postgres@localhost:{self.server.port}/{self.vhost}?host={self.server.directory}"

    @property
    def mark(self) -> None:
        """Out here nothing has the cloud's id: see `_outside`."""
        return None

    def _outside(self) -> list[str]:
        """What of the hosts' networks is out here, where nothing of it should ever be."""
        cloud = self.variables.get("CUMULET_CLOUD", "none")
        return [f"{name} is outside" for name in [*outside.namespaces(cloud), *outside.links(cloud)]]

    # ---- up and down

    def start(self, timeout: float = 60.0, **variables: str) -> "Site":
        super().start(timeout, **variables)
        # Who makes it first is a host, to which it is a link.
        (self.state / "snapshots").mkdir(mode=0o700, exist_ok=True)
        self.variables.setdefault("CUMULET_CLOUD", self.run("admin", "cloud"))
        for host in self.hosts:
            host.launch()
        for host in self.hosts:
            host.wait_ready()
        self._all_alive(timeout)
        self._confirm()
        return self

    def _all_alive(self, timeout: float) -> None:
        until(lambda: all(row["alive"] for row in self.listed().values()) and len(self.listed()) == len(self.hosts),
              "all hosts are alive", timeout)  # fmt: skip

    def _confirm(self) -> None:
        """The operator's step of joining, once a host: what it says of its tunnels is so."""
        for host in self.hosts:
            if self.listed()[host.name]["tunnel_address"]["confirmed"] != host.machine.address:
                self.run("admin", "host", "confirm", host.name, "--tunnel-address", host.machine.address)
        until(lambda: all(row["ready"] for row in self.listed().values()), "all hosts are ready", 30)

    def wait_hosts(self, timeout: float = 60.0) -> None:
        """The hosts are started when the control plane is there."""

    def control_down(self) -> None:
        """Everything that is not on a host has gone: `kill -9`, the broker and the database too."""
        super().kill()
        self.broker.kill()
        # PostgreSQL's way to end at once, with all its processes.
        self.server.end(signal.SIGQUIT)

    def control_up(self) -> None:
        self.server.start()
        self.broker.start()
        super().start()
        # They come back to a broker that has come back by themselves, each in its time; until then none takes a launch.
        self._all_alive(60)

    def kill(self) -> None:
        for host in self.hosts:
            host.kill()
        super().kill()

    def stop(self, timeout: float = 60.0) -> None:
        for host in self.hosts:
            host.stop()
        super().stop(timeout)

    # ---- how it is

    def listed(self) -> dict[str, dict]:
        """The hosts as the operator sees them, by name."""
        return {row["host"]: row for row in json.loads(self.run("admin", "host", "list", "--json"))}

    def host_of(self, instance: str) -> Host:
        """Where an instance is. Asked for once: a test may have stopped whoever knows it."""
        if instance not in self._places:
            name = next(name for name, row in self.listed().items() if instance in row["instances"])
            self._places[instance] = next(host for host in self.hosts if host.name == name)
        return self._places[instance]

    def forget_places(self) -> None:
        """Instances may have moved: they were stopped and started."""
        self._places.clear()

    @contextmanager
    def only_on(self, *hosts: Host) -> Iterator[None]:
        """New instances go to these hosts until the end of the block."""
        others = [host for host in self.hosts if host not in hosts]
        try:
            for other in others:
                self.run("admin", "host", "disable", other.name, "--reason", "test")
            yield
        finally:
            for other in others:
                self.run("admin", "host", "enable", other.name)

    def audit(self) -> dict:
        reports = [host.audit() for host in self.hosts if host.machine.pid]
        differences = [f"{host.name}: {words}" for host, r in zip(self.hosts, reports) for words in r["differences"]]
        return {"compared": sum(report["compared"] for report in reports), "differences": differences}

    def text(self) -> str:
        roles = [role.output for host in self.hosts for role in host.roles.values()]
        return super().text() + "".join(path.read_text(errors="replace") for path in roles if path.exists())

    def tail(self, count: int = 4000) -> str:
        roles = [role for host in self.hosts for role in host.roles.values() if role.output.exists()]
        return super().tail(count) + "".join(
            f"\n---- {role.host.name} {role.name}\n{role.output.read_text(errors='replace')[-count // 6:]}" for role in roles
        )

    def launch(self, account: Account, key: Path, count: int = 1, **more) -> list[GuestOn]:
        made = launch_guests(account, key, "k", count, **more)
        return [GuestOn(account, guest.id, key) for guest in made]

    # ---- the end

    def close(self, check: bool = True) -> None:
        try:
            self._come_back()
        except BaseException:
            # What is not there can't clear away: the hosts' power is cut next.
            self._remove()
            raise
        super().close(check)

    def _come_back(self) -> None:
        """Starts whatever a test has left down."""
        if self.server.process.poll() is not None:
            self.server.start()
        if self.broker._server is None:
            self.broker.start()
        roles = [role for host in self.hosts for role in host.roles.values()]
        for role in roles:
            if role.program and role.program.poll() is not None:
                role.program = None
        if not all(role.program for role in roles):
            self.start()

    def _finish(self) -> list[str]:
        problems = [*self._outside(), *super()._finish()]
        for host in self.hosts:
            left = [*host.machine.domains(), *host.machine.namespaces()]
            left += [str(path) for path in host.state.glob("hosts/*/instances/*")]
            problems += [f"{host.name}: {name}" for name in left]
        return problems

    def _remove(self) -> list[str]:
        try:
            return super()._remove()
        finally:
            if self.server:
                self.server.stop()
            if self.broker:
                self.broker.stop()
                shutil.rmtree(self.broker.folder, ignore_errors=True)

    def discard(self) -> None:
        """Ends the cloud's processes and servers as they are; what is on the hosts goes with these."""
        self._remove()
