"""RunInstances as fast as some clients get answers, and of each answer when it was asked for, how it ended and what it
made: `wrk` tells only how many there were."""

import asyncio
import itertools
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from clouds import query
from harness.cloud import Account, Cloud
from harness.figures import quantile
from load import Request, call, signed

# Of an instance in an answer.
ID = re.compile(rb"<instanceId>i-([0-9a-f]+)</instanceId>")
# How long one answer may take.
PATIENCE = 60.0


@dataclass(frozen=True)
class Answer:
    """One request's answer."""

    asked: float
    """When the request was sent, in seconds of the wall's clock, which is the cloud's too."""
    took: float
    status: int
    made: list[int]
    """The instances' keys in the database."""


@dataclass
class Rush:
    """Requests and what became of them."""

    began: float
    answers: list[Answer] = field(default_factory=list)
    ended: float = 0.0

    @property
    def made(self) -> dict[int, float]:
        """When each instance was asked for."""
        return {id: answer.asked for answer in self.answers for id in answer.made}

    @property
    def statuses(self) -> Counter:
        return Counter(answer.status for answer in self.answers)

    @property
    def accepted_rate(self) -> float:
        """Instances accepted a second."""
        return len(self.made) / (self.ended - self.began)

    @property
    def refused(self) -> str:
        """What was not accepted, in words."""
        others = {status: count for status, count in sorted(self.statuses.items()) if status != 200}
        return ", ".join(f"{count} answered with {status}" for status, count in others.items()) or "none refused"

    @property
    def no_failure(self) -> bool:
        return not any(status >= 500 for status in self.statuses)


def requests(accounts: list[Account], size: int) -> list[Request]:
    """RunInstances of so many, from each account."""
    cloud = accounts[0].cloud
    body = call("RunInstances", ImageId=cloud.image, InstanceType="t3.nano", MinCount=str(size), MaxCount=str(size))
    return [signed(account.key, cloud.address, [body])[0] for account in accounts]


def for_seconds(address: str, some: list[Request], clients: int, seconds: float) -> Rush:
    """The requests in turn, until the time is over."""
    end = time.monotonic() + seconds
    return rush(address, itertools.takewhile(lambda _: time.monotonic() < end, itertools.cycle(some)), clients)


def so_many(address: str, some: list[Request], clients: int, total: int) -> Rush:
    """The requests in turn, so many of them."""
    return rush(address, itertools.islice(itertools.cycle(some), total), clients)


def rush(address: str, wanted: Iterable[Request], clients: int) -> Rush:
    """Each client, on a connection that is kept, asks again when it is answered."""
    todo, made = iter(wanted), Rush(time.time())

    async def all_clients() -> None:
        await asyncio.gather(*(client(address, todo, made) for _ in range(clients)))

    asyncio.run(all_clients())
    made.ended = time.time()
    return made


async def client(address: str, todo: Iterator[Request], made: Rush) -> None:
    host, port = address.split(":")
    # An answer for a hundred instances has some hundred kilobytes.
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 24)
    try:
        for request in todo:
            asked, start = time.time(), time.monotonic()
            status, body = await asyncio.wait_for(ask(reader, writer, request), PATIENCE)
            ids = [key(found) for found in ID.findall(body)] if status == 200 else []
            made.answers.append(Answer(asked, time.monotonic() - start, status, ids))
    finally:
        writer.close()


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Request) -> tuple[int, bytes]:
    """A request's status and body. The server must tell the length and keep the connection, or this fails."""
    lines = [f"{request.method} {request.path} HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers.items())]
    head = "\r\n".join([*lines, f"Content-Length: {len(request.body)}", "", ""])
    writer.write(head.encode() + request.body)
    answer = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: (\d+)\r\n", answer, re.I)
    if not length:
        raise RuntimeError(f"an answer of no known length: {answer!r}")
    return int(answer.split(b" ", 2)[1]), await reader.readexactly(int(length[1]))


def key(id: bytes) -> int:
    """What stands for an instance's id in the database: the same 64 bits, as a signed number."""
    number = int(id, 16)
    return number - (1 << 64) if number >> 63 else number


def since(cloud: Cloud) -> dict[int, float]:
    """When each instance that runs began to, in seconds."""
    rows = query(cloud, "select id, running_since from instances where running_since is not null")
    return {int(id): int(at) / 1000 for id, at in rows}


def times(asked: dict[int, float], running: dict[int, float]) -> list[float]:
    """Seconds from the request to `running`, of those that run; the row's time has whole milliseconds."""
    return [max(0.0, running[id] - at) for id, at in asked.items() if id in running]


def p50_p99(seconds: list[float]) -> str:
    if not seconds:
        return "none"
    return f"p50 {shown(quantile(seconds, 0.5))}, p99 {shown(quantile(seconds, 0.99))}"


def shown(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
