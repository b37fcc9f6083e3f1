"""A RabbitMQ broker of a test's own: Debian's package, in a folder, on ports of its own, with its own port mapper."""

import os
import signal
import subprocess
import threading
from pathlib import Path
from urllib.parse import quote

from .port import bindable, free_port
from .wait import until

BIN = Path("/usr/lib/rabbitmq/bin")


class RabbitMQ:
    """Started by `start`; has to be stopped by `stop`, which also ends the port mapper. `kill` and `restart` keep what it stores."""

    def __init__(self, folder: Path, config: str = "", address: str = "") -> None:
        """It serves at 127.0.0.1, and at `address` where there is one."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port, self._dist_port, self._epmd_port = free_port(), free_port(), free_port()
        addresses = ["127.0.0.1", *([address] if address else [])]
        listeners = [f"listeners.tcp.{number} = {each}:{self.port}" for number, each in enumerate(addresses, 1)]
        (folder / "rabbitmq.conf").write_text("\n".join([*listeners, config, ""]))
        (folder / "plugins").write_text("[].\n")
        self._epmd: subprocess.Popen | None = None
        self._server: subprocess.Popen | None = None

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            "HOME": str(self.folder),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"cumulet{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "none"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }

    def start(self) -> "RabbitMQ":
        """Returns when it serves."""
        if self._epmd is None:
            command = ["epmd", "-address", "127.0.0.1", "-port", str(self._epmd_port)]
            self._epmd = subprocess.Popen(
                command, env=self._environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            # A server that does not find it starts one that nobody ends.
            until(lambda: not bindable(self._epmd_port), "the port mapper", 10, every=0.01)
        self._server = subprocess.Popen(
            [BIN / "rabbitmq-server"],
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        said = []
        for line in self._server.stdout:
            said.append(line)
            if "completed with" in line:
                threading.Thread(target=self._server.stdout.read, daemon=True).start()
                return self
        raise RuntimeError("the broker does not start:\n" + "".join(said))

    @property
    def pid(self) -> int:
        """Of the shell that waits for the server, its child."""
        return self._server.pid

    def ctl(self, *arguments: str) -> str:
        command = [BIN / "rabbitmqctl", *arguments]
        done = subprocess.run(command, env=self._environment(), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def url(
        self, vhost: str = "%2f", user: str = "guest", password: str = "guest", address: str = "127.0.0.1"
    ) -> str:
        return f"amqp://{quote(user, safe='')}:{quote(password, safe='')}@{address}:{self.port}/{vhost}"

    def add_vhost(self, vhost: str) -> None:
        self.ctl("add_vhost", vhost)
        self.ctl("set_permissions", "-p", vhost, "guest", ".*", ".*", ".*")

    def add_user(self, vhost: str, user: str, password: str, configure: str, write: str, read: str) -> None:
        self.ctl("add_user", user, password)
        self.ctl("set_permissions", "-p", vhost, user, configure, write, read)

    def delete_queue(self, vhost: str, name: str) -> None:
        self.ctl("delete_queue", "-p", vhost, name)

    def queues(self, vhost: str = "/") -> dict[str, int]:
        """Messages in each queue; a quorum queue counts them every few seconds only."""
        lines = self.ctl("-q", "list_queues", "-p", vhost, "--no-table-headers", "name", "messages").splitlines()
        return {name: int(count) for name, count in (line.split("\t") for line in lines)}

    def memory_alarm(self, on: bool) -> None:
        self.ctl("set_vm_memory_high_watermark", "0.00001" if on else "0.6")

    def disk_alarm(self, on: bool) -> None:
        self.ctl("set_disk_free_limit", "900000GB" if on else "1MB")

    def _signal(self, number: int) -> None:
        if self._server is None:
            return
        # The server's own process is a shell; what serves is the one child of it.
        shell = self._server.pid
        children = Path(f"/proc/{shell}/task/{shell}/children")
        machine = children.read_text().split() if children.exists() else []
        if machine:
            os.kill(int(machine[0]), number)
        self._server.wait(60)
        self._server = None

    def kill(self) -> None:
        """As if its power went."""
        self._signal(signal.SIGKILL)

    def restart(self) -> None:
        self._signal(signal.SIGTERM)
        self.start()

    def freeze(self, frozen: bool) -> None:
        """It holds its connections and says nothing."""
        children = Path(f"/proc/{self._server.pid}/task/{self._server.pid}/children")
        os.kill(int(children.read_text().split()[0]), signal.SIGSTOP if frozen else signal.SIGCONT)

    def stop(self) -> None:
        """For good."""
        self._signal(signal.SIGKILL)
        if self._epmd:
            self._epmd.kill()
            self._epmd.wait()
            self._epmd = None

    def __enter__(self) -> "RabbitMQ":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
