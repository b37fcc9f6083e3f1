"""A cloud of one process on a host of `machines.Machines`, with SQLite in its state directory."""

import json
from pathlib import Path

from .cloud import BIN, TINY
from .machines import Machine, Machines
from .site import Host, Role, Site


class LoneHost(Host):
    """The host; its one process has every role."""

    def __init__(self, site: "Lone", machine: Machine) -> None:
        self.site, self.machine, self.name = site, machine, machine.name
        self.state = site.state
        self.roles = {"all": Role(self, "all")}
        self.roles["all"].more = ["--listen", site.address, "--tiny-image", str(TINY)]
        self.binary, self.variables, self._bus = site.binary, {}, "memory"

    @property
    def environment(self) -> dict[str, str]:
        return self.site.environment() | self.variables

    def audit(self) -> dict:
        done = self.machine.execute(
            self.site.binary, "audit", "--json", "--state-dir", self.state, env=self.site.environment()
        )
        assert done.stdout, done.stderr[-2000:]
        return json.loads(done.stdout)


class Lone(Site):
    """`Site` has the words for it; there is no broker, no server and nothing out here."""

    def __init__(self, machines: Machines, binary: Path = BIN, grace: int = 20) -> None:
        super(Site, self).__init__("libvirt", f"[libvirt]\nstop_grace = {grace}\n", binary=binary, cluster="")
        (machine,) = machines
        self.machines, self.server, self.broker = machines, None, None
        self.processes = []
        self.state = machine.root / "state"
        self.state.mkdir()
        self.state.chmod(0o711)
        self.address = f"{machine.address}:{self.port.number}"
        self.hosts = [LoneHost(self, machine)]
        self._places = {}

    def start(self, timeout: float = 60.0, **variables: str) -> "Lone":
        self.hosts[0].start()
        return self

    def kill(self) -> None:
        self.hosts[0].kill()
