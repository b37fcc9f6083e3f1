"""The servers that are compared with: the floor, moto, and the metadata service on its own."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness.cloud import CACHE, free_port
from harness.wait import until

TARGET = Path(os.environ.get("CARGO_TARGET_DIR", CACHE / "target")) / "release"
EXAMPLES = TARGET / "examples"


class Server:
    """A program that listens on an address of its own; it ends with the `with` block."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name, self._command = name, command
        self.address = f"127.0.0.1:{free_port()}"
        self.log = tempfile.TemporaryFile()
        self.process: subprocess.Popen | None = None

    def __enter__(self) -> "Server":
        words = [word.replace("ADDRESS", self.address).replace("PORT", self.address.split(":")[1]) for word in self._command]
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        until(self._listens, f"{self.name} listens", 60, every=0.05)
        return self

    def __exit__(self, *_) -> None:
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _listens(self) -> bool:
        if self.process.poll() is not None:
            self.log.seek(0)
            raise RuntimeError(f"{self.name} ended: {self.log.read().decode(errors='replace')[-2000:]}")
        return listens(self.address)

    @property
    def pid(self) -> int:
        return self.process.pid


def listens(address: str) -> bool:
    """Whether somebody listens: read from the kernel, so that no server sees a connection without a request."""
    host, port = address.split(":")
    number = "".join(f"{int(part):02X}" for part in reversed(host.split(".")))
    wanted = f"{number}:{int(port):04X}"
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return any(row[1] == wanted and row[3] == "0A" for row in rows)


def floor(body: bytes, folder: Path, workers: int | None = None) -> Server:
    """A bare actix-web handler that answers `body`."""
    file = folder / f"floor-{time.monotonic_ns()}"
    file.write_bytes(body)
    return Server("the floor", [str(EXAMPLES / "floor"), "ADDRESS", str(workers or os.cpu_count()), str(file)])


def moto() -> Server:
    """moto's server."""
    program = Path(sys.executable).parent / "moto_server"
    return Server("moto", [str(program), "-H", "127.0.0.1", "-p", "PORT"])


def metadata(examples: Path = EXAMPLES) -> Server:
    """The metadata service with one instance, whose requests come from 127.0.0.1."""
    return Server("the metadata service", [str(examples / "serve"), "ADDRESS", "--unlimited"])
