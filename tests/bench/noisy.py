"""A noisy neighbour: what another tenant waits for while one does the worst that it may, beside what it waits for when all
is quiet. Those who make the noise get what processor time is left over, because they stand for machines of their own."""

import asyncio
import contextlib
import http.client
import math
import multiprocessing
import os
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Event
from pathlib import Path

from clouds import CONFIG
from harness.cloud import Account, Cloud, Key
from harness.figures import quantile
from harness.signing import Signer, action, form
from load import call, signed
from report import Row, number
from rush import ask, shown

# Rounds of one launch, one listing and one tag each.
ROUNDS = 300
# Times what it is when all is quiet.
MOST = 3.0
# How long the noise goes on before the other tenant is measured.
LEAD = 1.0
# What all of the noise may take of memory.
MIB = 256
# What may be left of it, and when: the allocator gives back what has not been used for a second.
LEFT, BACK_WITHIN = 128, 10
# Many keys with long values: what listings and patterns have to go through.
TAGGED, TAGS = 200, 40


def rows() -> list[Row]:
    with Cloud("fake", CONFIG) as cloud:
        victim, noisy = cloud.account(), cloud.account()
        fill(noisy)
        quiet, before = waits(victim), cloud.resident_mib()
        rows = [row(noise, *loud(noise, cloud.address, victim, noisy), quiet, "quiet") for noise in NOISES]
        # What so many bytes cost the machine itself, whoever is sent them.
        with bare() as address:
            floor, _ = loud(STRANGERS, address, victim, noisy)
        rows.append(row(STRANGERS, *loud(STRANGERS, cloud.address, victim, noisy), floor, "the same noise at a server that reads heads alone"))
        return [*rows, memory(cloud, before)]


def memory(cloud: Cloud, before: float) -> Row:
    """What all of it made the process take, and what of that is left a while later: new instances, and what is kept for the next burst."""
    most, after, waited = kib(cloud, "VmHWM") / 1024, math.inf, 0
    for waited in range(BACK_WITHIN + 1):
        after = kib(cloud, "VmRSS") / 1024
        if after - before <= LEFT:
            break
        time.sleep(1)
    return Row(
        "Resident memory of the cloud with these noisy neighbours",
        f"{number(most)} MiB at most, {number(after)} MiB {waited} s after",
        f"{number(before)} MiB before",
        "",
        f"≤ {MIB} MiB more, {LEFT} within {BACK_WITHIN} s",
        most - before <= MIB and after - before <= LEFT,
    )


def kib(cloud: Cloud, what: str) -> float:
    status = Path(f"/proc/{cloud.process.pid}/status").read_text()
    return int(re.search(rf"{what}:\s+(\d+) kB", status)[1])


def fill(account: Account) -> None:
    """Instances with tags, for the listings."""
    made = account.ec2.run_instances(ImageId=account.cloud.image, InstanceType="t3.nano", MinCount=TAGGED, MaxCount=TAGGED)
    ids = [instance["InstanceId"] for instance in made["Instances"]]
    tags = [{"Key": f"key-{i}", "Value": "a" * 255} for i in range(TAGS)]
    for at in range(0, len(ids), 20):
        account.ec2.create_tags(Resources=ids[at : at + 20], Tags=tags)


def loud(noise: "Noise", address: str, victim: Account, noisy: Account) -> tuple[list[float], Counter]:
    """The victim's waits while the noise is made at an address, and what that was answered."""
    end, answers = multiprocessing.Event(), multiprocessing.Queue()
    arguments = (noise.work, address, noisy.key, noisy.cloud.image, end, answers)
    makers = [multiprocessing.Process(target=make, args=arguments, daemon=True) for _ in range(noise.clients)]
    for maker in makers:
        maker.start()
    try:
        time.sleep(LEAD)
        found = waits(victim)
    finally:
        end.set()
        heard = sum((answers.get(timeout=60) for _ in makers), Counter())
        for maker in makers:
            maker.join(60)
            maker.kill()
    return found, heard


def row(noise: "Noise", found: list[float], heard: Counter, base: list[float], what: str) -> Row:
    ratio = quantile(found, 0.99) / quantile(base, 0.99)
    return Row(
        f"Noisy neighbour: {noise.what}",
        f"another tenant's calls p50 {shown(quantile(found, 0.5))}, p99 {shown(quantile(found, 0.99))}",
        f"{what}: p50 {shown(quantile(base, 0.5))}, p99 {shown(quantile(base, 0.99))}; the noise was answered: {told(heard)}",
        f"{ratio:.1f} × (p99)",
        f"≤ {MOST:.0f} ×",
        ratio <= MOST,
    )


@contextlib.contextmanager
def bare() -> Iterator[str]:
    """A server in a process of its own that reads a request's head, refuses it and closes."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async def serve() -> None:
        async with await asyncio.start_server(refuse, sock=listener) as server:
            await server.serve_forever()

    process = multiprocessing.Process(target=lambda: asyncio.run(serve()), daemon=True)
    process.start()
    try:
        yield "127.0.0.1:%d" % listener.getsockname()[1]
    finally:
        process.kill()
        process.join(10)
        listener.close()


def told(answers: Counter) -> str:
    return ", ".join(f"{count} × {what}" for what, count in answers.most_common(4)) or "no answer"


def waits(account: Account) -> list[float]:
    """Seconds for each call of some rounds, on one connection."""
    return asyncio.run(calls(account))


async def calls(account: Account) -> list[float]:
    address, image = account.cloud.address, account.cloud.image
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 24)
    took: list[float] = []

    async def one(body: dict) -> bytes:
        (request,) = signed(account.key, address, [body])
        began = time.monotonic()
        status, answer = await asyncio.wait_for(ask(reader, writer, request), 120)
        took.append(time.monotonic() - began)
        if status != 200:
            raise RuntimeError(f"the quiet tenant was answered with {status}: {answer.decode()[:400]}")
        return answer

    try:
        for _ in range(ROUNDS):
            made = await one(call("RunInstances", ImageId=image, InstanceType="t3.nano", MinCount="1", MaxCount="1"))
            id = made.split(b"<instanceId>")[1].split(b"<")[0].decode()
            await one(call("DescribeInstances", InstanceId__1=id))
            await one(call("CreateTags", ResourceId__1=id, Tag__1__Key="Name", Tag__1__Value="mine"))
            await asyncio.sleep(0.005)
    finally:
        writer.close()
    return took


class Noise:
    """Something that a tenant, or a stranger, does over and over."""

    def __init__(self, what: str, clients: int, work: Callable[[str, Key, str], str]) -> None:
        self.what, self.clients, self.work = what, clients, work


def make(work: Callable, address: str, key: Key, image: str, end: Event, answers: multiprocessing.Queue) -> None:
    """One client, until the end."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    heard: Counter = Counter()
    while not end.is_set():
        try:
            heard[work(address, key, image)] += 1
        except (OSError, http.client.HTTPException) as error:
            heard[type(error).__name__] += 1
            time.sleep(0.01)
    answers.put(heard)


def post(address: str, key: Key, parameters: dict | list, timeout: float = 120) -> str:
    """One request; its status, or the error's code."""
    body = form(parameters)
    connection = http.client.HTTPConnection(address, timeout=timeout)
    with contextlib.closing(connection):
        connection.request("POST", "/", body, Signer(key).headers(address, body))
        answer = connection.getresponse()
        text = answer.read()
    if answer.status == 200:
        return "200"
    return text.split(b"<Code>")[1].split(b"<")[0].decode() if b"<Code>" in text else str(answer.status)


def patterns(address: str, key: Key, _: str) -> str:
    """The costliest filters that fit into a request, over all tags."""
    worst = "*a" * 120 + "b"
    filters = [(f"Filter.1.Value.{i}", f"{worst}{i}") for i in range(1, 201)]
    head = list(action("DescribeTags").items())
    return post(address, key, [*head, ("Filter.1.Name", "value"), *filters])


def key_pairs(address: str, key: Key, _: str) -> str:
    return post(address, key, action("CreateKeyPair", KeyName="k", KeyType="rsa", DryRun="true"))


def rehearsals(address: str, key: Key, image: str) -> str:
    return post(
        address, key, action("RunInstances", ImageId=image, InstanceType="t3.nano", MinCount="1000", MaxCount="1000", DryRun="true")
    )


def listings(address: str, key: Key, _: str) -> str:
    return post(address, key, action("DescribeTags"))


def bodies(address: str, _: Key, __: str) -> str:
    """A stranger's hundred connections, each with a large body that stops short of its end."""
    host, port = address.split(":")
    head = f"POST / HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000000\r\n\r\n"
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            one = stack.enter_context(socket.create_connection((host, int(port)), 10))
            one.settimeout(10)
            with contextlib.suppress(OSError):
                one.sendall(head.encode() + b"a=" + b"b" * 999_000)
        time.sleep(0.2)
    return "100 connections"


NOISES = [
    Noise("200 filters of many wildcards over 8,000 tags, 4 clients", 4, patterns),
    Noise("DryRun of CreateKeyPair with RSA, 16 clients", 16, key_pairs),
    Noise("DryRun of RunInstances of 1,000, 8 clients", 8, rehearsals),
    Noise("listings of all tags in one answer, 12 clients", 12, listings),
]
STRANGERS = Noise("strangers' bodies of a megabyte without a signature, 400 connections", 4, bodies)
