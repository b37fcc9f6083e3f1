"""Volumes at the API, on the simulated driver: made and deleted by some clients, and one described among more and more."""

import asyncio
import random
import re
import sqlite3
import time
from contextlib import ExitStack, closing

from api import TURNS, Seeded
from clouds import CONFIG, UNLIMITED, query
from harness import volumes
from harness.cloud import Account, Cloud
from load import Side, call, cpu_seconds, interleave, signed
from report import Row, number, speed
from rush import ask

CLIENTS, SECONDS = 16, 8.0
# Volumes of the account that asks for one.
SIZES = [100, 100_000]
LEAST = 500
GROWTH = 1.15
ID = re.compile(rb"<volumeId>(vol-[0-9a-f]+)</volumeId>")


def rows(rounds: int) -> list[Row]:
    return [made_and_deleted(), *one_of_many(rounds)]


def made_and_deleted() -> Row:
    """Each client, on a connection that is kept, deletes what it has made and makes the next."""
    with Cloud("fake", CONFIG, variables=UNLIMITED) as cloud:
        accounts = [cloud.account() for _ in range(CLIENTS)]
        before, start = cpu_seconds(cloud.process.pid), time.monotonic()
        pairs = asyncio.run(all_clients(accounts, start + SECONDS))
        taken = time.monotonic() - start
        cpu = (cpu_seconds(cloud.process.pid) - before) * 1e6 / pairs
        left = query(cloud, "select count(*) from volumes where state not in ('deleted', 'deleting')")
        assert left == [["0"]], left
    rate = pairs / taken
    what = f"CreateVolume and DeleteVolume, {CLIENTS} clients, {pairs:,} of both"
    return Row(what, f"{number(rate)} pairs/s, {number(cpu)} µs CPU", "", "", f"≥ {LEAST}/s", rate >= LEAST)


async def all_clients(accounts: list[Account], end: float) -> int:
    return sum(await asyncio.gather(*(client(account, end) for account in accounts)))


async def client(account: Account, end: float) -> int:
    """How many it has made and deleted."""
    host, port = account.cloud.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    zone, count = volumes.zone(account), 0

    async def done(name: str, **parameters: str) -> bytes:
        (request,) = signed(account.key, account.cloud.address, [call(name, **parameters)])
        status, body = await ask(reader, writer, request)
        assert status == 200, body
        return body

    try:
        while time.monotonic() < end:
            made = ID.search(await done("CreateVolume", AvailabilityZone=zone, Size="1", VolumeType="gp3"))
            await done("DeleteVolume", VolumeId=made[1].decode())
            count += 1
    finally:
        writer.close()
    return count


class Filled(Seeded):
    """A cloud whose account has so many volumes: one is made, and its row copied."""

    def __init__(self, cloud: Cloud, wanted: int) -> None:
        self.cloud, self.wanted, self.account = cloud, wanted, cloud.account()
        made = volumes.create(self.account)
        cloud.stop()
        ids = copies(cloud, wanted - 1)
        cloud.start()
        self.some = random.Random(1).sample([made, *ids], TURNS)

    def side(self, bodies: list[dict], name: str = "Cumulet", **more) -> Side:
        return super().side(bodies, f"{self.wanted:,} volumes", **more)

    def one(self) -> Side:
        return self.side([call("DescribeVolumes", VolumeId__1=id) for id in self.some])


def copies(cloud: Cloud, wanted: int) -> list[str]:
    """As many rows more as the one that there is."""
    numbers = random.Random(2).sample(range(1 << 40, 1 << 62), wanted)
    with closing(sqlite3.connect(cloud.state / "cumulet.db")) as connection:
        columns = [row[1] for row in connection.execute("pragma table_info(volumes)") if row[1] != "id"]
        (row,) = connection.execute(f"select {', '.join(columns)} from volumes").fetchall()
        places = ", ".join("?" * (len(columns) + 1))
        statement = f"insert into volumes (id, {', '.join(columns)}) values ({places})"
        connection.executemany(statement, ((id, *row) for id in numbers))
        connection.execute("analyze")
        connection.commit()
    return [f"vol-{number:017x}" for number in numbers]


def one_of_many(rounds: int) -> list[Row]:
    """DescribeVolumes of one id, among few and among many."""
    with ExitStack() as stack:
        clouds = [Filled(stack.enter_context(Cloud("fake", CONFIG, variables=UNLIMITED)), size) for size in SIZES]
        few, many = sides = [cloud.one() for cloud in clouds]
        interleave(sides, rounds)
    growth = many.cpu / few.cpu
    what = f"DescribeVolumes of one id among {SIZES[1]:,}, over among {SIZES[0]}"
    ratio = f"{growth:.2f} × by CPU ({many.rate / few.rate:.2f} × by rate)"
    return [Row(what, speed(many), f"among {SIZES[0]}: {speed(few)}", ratio, f"≤ {GROWTH} × by CPU", growth <= GROWTH)]
