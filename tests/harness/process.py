"""One process of a cloud: `cumulet up` with all roles or some of them."""

import signal
import subprocess
from pathlib import Path

from .wait import until

READY = "cumulet is ready"


class Process:
    """A process that can be started again after it has ended. Its output goes on in one file."""

    def __init__(self, name: str, command: list[str], output: Path) -> None:
        self.name, self.command, self.output = name, command, output
        # What it was started with beside the cloud's variables, and what it always is.
        self.variables: dict[str, str] = {}
        self.variables_of_its_own: dict[str, str] = {}
        self.popen: subprocess.Popen | None = None
        self._from = 0

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def dead(self) -> bool:
        """It was started and has ended by itself."""
        return self.popen is not None and self.popen.poll() is not None

    def launch(self, environment: dict[str, str], variables: dict[str, str]) -> None:
        """Starts it."""
        assert self.popen is None, f"{self.name} runs already"
        self.variables = dict(variables)
        self._from = self.output.stat().st_size if self.output.exists() else 0
        with self.output.open("ab") as output:
            self.popen = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment | self.variables_of_its_own | variables,
            )

    def wait_ready(self, timeout: float) -> None:
        def ready() -> bool:
            with self.output.open("rb") as output:
                output.seek(self._from)
                if READY.encode() in output.read():
                    return True
            if self.dead:
                raise RuntimeError(f"{self.name} ended with {self.popen.returncode}:\n{self.tail()}")
            return False

        until(ready, f"{READY!r} on the output of {self.name}", timeout, every=0.03)

    def tail(self, count: int = 4000) -> str:
        return self.output.read_text(errors="replace")[-count:] if self.output.exists() else ""

    def send_signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def wait_death(self, timeout: float) -> int:
        """Waits for it to end by itself; its status."""
        status = self.popen.wait(timeout)
        self.popen = None
        return status

    def kill(self) -> None:
        """`kill -9`."""
        if self.popen:
            self.popen.kill()
            self.popen.wait()
            self.popen = None

    def stop(self, timeout: float = 60.0) -> None:
        """An orderly end."""
        self.popen.send_signal(signal.SIGTERM)
        status = self.wait_death(timeout)
        assert status == 0, f"{self.name} ended with {status}:\n{self.tail()}"
