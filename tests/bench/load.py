"""Load on a server and what it costs there: `wrk` with requests signed beforehand, CPU time from /proc."""

import os
import re
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

from harness.cloud import Key
from harness.signing import Signer, action, form

TICKS = os.sysconf("SC_CLK_TCK")
# wrk's summary is for people; this is for us. The path and the headers are the same in every request.
SCRIPT = """\
wrk.method = "{method}"
{headers}
local requests, at = {{}}, 0
init = function()
{bodies}
end
{rotation}
done = function(summary, latency)
  local e = summary.errors
  local socket = e.connect + e.read + e.write + e.timeout
  io.write(string.format("RESULT %d %d %d %d\\n", summary.requests, summary.duration, e.status, socket))
end
"""
ROTATION = """\
request = function()
  at = at % #requests + 1
  return requests[at]
end
"""


@dataclass(frozen=True)
class Request:
    """One request as it goes over the line, but for its Host, which is the server's address."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Sample:
    """What one round measured."""

    rate: float
    cpu: float
    """Microseconds of the server's CPU a request."""


@dataclass
class Side:
    """One server under one kind of request."""

    name: str
    pid: int
    address: str
    requests: Callable[[], list[Request]]
    """Makes the requests anew for each round: signatures are good for minutes only."""
    connections: int = 16
    seconds: float = 1.0
    samples: list[Sample] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return median(sample.rate for sample in self.samples)

    @property
    def cpu(self) -> float:
        return median(sample.cpu for sample in self.samples)

    def measure(self) -> Sample:
        """One round."""
        before = cpu_seconds(self.pid)
        count, duration = wrk(self.address, self.requests(), self.connections, self.seconds)
        return Sample(count / duration, (cpu_seconds(self.pid) - before) * 1e6 / max(count, 1))


def interleave(sides: list[Side], rounds: int) -> None:
    """Measures the sides in turn, so that what the machine does otherwise falls on all of them."""
    for side in sides:
        wrk(side.address, side.requests(), side.connections, min(0.3, side.seconds))
    for _ in range(rounds):
        for side in sides:
            side.samples.append(side.measure())


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def cpu_with_children(pid: int) -> float:
    """The same of a process with all that it started, also of those that have ended."""
    total, todo = 0.0, [pid]
    while todo:
        one = Path(f"/proc/{todo.pop()}")
        try:
            fields = (one / "stat").read_text().rsplit(")", 1)[1].split()
            # Every thread's children are its own.
            todo += [int(child) for task in (one / "task").iterdir() for child in (task / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(map(int, fields[11:15])) / TICKS
    return total


def wrk(address: str, requests: list[Request], connections: int, seconds: float) -> tuple[int, float]:
    """How many requests were answered, and in how many seconds. Anything but success is an error."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(lua(requests))
        script.flush()
        # wrk counts in whole seconds, and is told to end in the middle of one by SIGINT.
        command = ["wrk", "-t1", f"-c{connections}", "-d60s", "--timeout", "30s", "-s", script.name]
        command += [f"http://{address}{requests[0].path}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(2)
        output, _ = process.communicate(timeout=60)
    found = re.search(r"^RESULT (\d+) (\d+) (\d+) (\d+)$", output, re.M)
    if not found:
        raise RuntimeError(f"wrk says: {output}")
    count, micros, refused, broken = map(int, found.groups())
    if refused or broken:
        raise RuntimeError(f"{address}{requests[0].path}: {refused} answers of {count} were refusals, {broken} broke")
    return count, micros / 1e6


def lua(requests: list[Request]) -> str:
    """The script: one request is left to wrk's own code, which is cheapest; several are taken in turn."""
    first = requests[0]
    common = {name: value for name, value in first.headers.items() if name != "Host"}
    rotation = ROTATION if len(requests) > 1 else ""
    if rotation:
        headers = ""
        bodies = "\n".join(f"  requests[{i}] = wrk.format(nil, nil, {table(r.headers)}, {text(r.body)})" for i, r in enumerate(requests, 1))
    else:
        headers = "\n".join(f"wrk.headers[ {text(name)} ] = {text(value)}" for name, value in common.items())
        headers += f"\nwrk.body = {text(first.body)}" if first.body else ""
        bodies = ""
    return SCRIPT.format(method=first.method, headers=headers, bodies=bodies, rotation=rotation)


def table(headers: dict[str, str]) -> str:
    return "{" + ", ".join(f"[ {text(name)} ] = {text(value)}" for name, value in headers.items()) + "}"


def text(value: str | bytes) -> str:
    """A string of Lua."""
    value = value.decode() if isinstance(value, bytes) else value
    assert "]==]" not in value
    return f"[==[{value}]==]"


def signed(key: Key, host: str, bodies: list[dict], region: str = "us-east-1") -> list[Request]:
    """EC2 requests signed now."""
    signer = Signer(key, region=region, now=datetime.now(timezone.utc))
    made = []
    for parameters in bodies:
        body = form(parameters)
        made.append(Request("POST", "/", signer.headers(host, body), body))
    return made


def call(name: str, **parameters) -> dict:
    """An action's parameters; see harness.signing.action."""
    return action(name, **parameters)
