"""Reads and small writes of the API: against the floor and against moto."""

import random
from dataclasses import dataclass
from pathlib import Path

import processor
from clouds import MOTO_KEY, Moto, seed
from harness.cloud import Account, Cloud
from load import Request, Side, call, interleave, signed
from report import Row, compared, cost, number, speed
from servers import floor
from xml_cost import xml_cost

# Different instances that the requests for one ask for in turn.
TURNS = 16


@dataclass(frozen=True)
class Marks:
    """How many times a request may cost what it costs a server that only answers the same, and a listing what writing
    its XML costs."""

    one: float
    regions: float
    thousand: float = 2.5
    growth: float = 1.15
    how: str = ""
    """How it is hashed, where it is not as this machine does it best."""


SOFTWARE = Marks(one=2.0, regions=1.6, how=", SHA-256 in software")
# By what this processor has.
HERE = Marks(one=1.7, regions=1.4) if processor.has_sha() else Marks(SOFTWARE.one, SOFTWARE.regions)

# Clients of a write: durable ones share commits, and a crowd is what they are quickest with (moto is not).
CROWD = 128


class Seeded:
    """A cloud with so many instances, and requests to it."""

    def __init__(self, cloud: Cloud, wanted: int) -> None:
        self.cloud, self.wanted = cloud, wanted
        self.account, self.ids = seed(cloud, wanted)
        self.some = random.Random(1).sample(self.ids, min(TURNS, len(self.ids)))

    def side(self, bodies: list[dict], name: str = "Cumulet", **more) -> Side:
        def requests() -> list[Request]:
            return signed(self.account.key, self.cloud.address, bodies)

        return Side(name, self.cloud.process.pid, self.cloud.address, requests, **more)

    def one(self) -> Side:
        """DescribeInstances, one id a request."""
        return self.side([call("DescribeInstances", InstanceId__1=i) for i in self.some], f"{self.wanted:,} instances")

    def answer(self, body: dict) -> bytes:
        """The bytes that the cloud answers."""
        return ask(self.account, body)


def tags(ids: list[str]) -> list[dict]:
    """CreateTags, one instance a request."""
    return [call("CreateTags", ResourceId__1=i, Tag__1__Key="Name", Tag__1__Value=f"n{n}") for n, i in enumerate(ids)]


def ask(account: Account, parameters: dict) -> bytes:
    from harness.signing import Raw

    answer = Raw(account.cloud, account.key).post(parameters)
    assert answer.code == "ok", answer.text[:500]
    return answer.body


def moto_side(moto: Moto, region: str, bodies: list[dict], **more) -> Side:
    def requests() -> list[Request]:
        return signed(MOTO_KEY, moto.server.address, bodies, region)

    return Side("moto", moto.server.pid, moto.server.address, requests, **{"connections": 4} | more)


def reads(clouds: list[Seeded], folder: Path, rounds: int, marks: Marks = HERE) -> list[Row]:
    """What reads cost."""
    return [
        *one_of_many(clouds, folder, rounds, marks),
        *regions(clouds[0], folder, rounds, marks),
        *thousand(clouds[1], folder, min(rounds, 3), marks),
    ]


def reads_in_software(clouds: list[Seeded], folder: Path, rounds: int) -> list[Row]:
    """The same where the processor has nothing for SHA: measured on one that has, by keeping it from the servers."""
    if not processor.has_sha():
        return []
    with processor.without_sha([seeded.cloud.process.pid for seeded in clouds]):
        return reads(clouds, folder, rounds, SOFTWARE)


def one_of_many(clouds: list[Seeded], folder: Path, rounds: int, marks: Marks) -> list[Row]:
    """DescribeInstances of one id, among more and more."""
    largest = clouds[-1]
    body = largest.answer(call("DescribeInstances", InstanceId__1=largest.some[0]))
    with floor(body, folder) as server:
        bare = Side("floor", server.pid, server.address, largest.one().requests)
        sides = [seeded.one() for seeded in clouds]
        interleave([bare, *sides], rounds)
    rows = [
        cost(f"DescribeInstances of one id among {side.name.split()[0]}{marks.how}", side, bare, marks.one) for side in sides
    ]
    few, many = sides[0], sides[-1]
    growth = many.cpu / few.cpu
    rows.append(
        Row(f"The same: CPU among 10,000 over CPU among 100{marks.how}", f"{number(many.cpu)} µs", f"{number(few.cpu)} µs",
            f"{growth:.2f} ×", f"≤ {marks.growth} ×", growth <= marks.growth)
    )  # fmt: skip
    return rows


def regions(seeded: Seeded, folder: Path, rounds: int, marks: Marks) -> list[Row]:
    """DescribeRegions: the framework and nothing else."""
    with floor(seeded.answer(call("DescribeRegions")), folder) as server:
        ours = seeded.side([call("DescribeRegions")])
        bare = Side("floor", server.pid, server.address, ours.requests)
        interleave([bare, ours], rounds)
    return [cost(f"DescribeRegions{marks.how}", ours, bare, marks.regions)]


def thousand(seeded: Seeded, folder: Path, rounds: int, marks: Marks) -> list[Row]:
    """DescribeInstances of 1,000 instances, and writing its XML alone."""
    ours = seeded.side([call("DescribeInstances")], connections=4)
    answer = seeded.answer(call("DescribeInstances"))
    alone = []
    interleave([ours], 1)
    for _ in range(rounds):
        alone.append(xml_cost(answer, folder))
        ours.samples.append(ours.measure())
    xml = sorted(alone)[len(alone) // 2]
    ratio = ours.cpu / xml
    row = Row(f"DescribeInstances of 1,000 ({len(answer) / 1e6:.1f} MB){marks.how}", speed(ours),
              f"its XML alone: {number(xml)} µs", f"{ratio:.2f} × by CPU", f"≤ {marks.thousand} ×", ratio <= marks.thousand)  # fmt: skip
    return [row]


def with_moto(moto: Moto, seeded: Seeded, of_thousand: Seeded, rounds: int) -> list[Row]:
    """The same questions to moto: among 10,000 in one region, of 1,000 in another."""
    many = moto.seed("us-east-1", seeded.wanted)
    moto.seed("us-west-2", 1000)
    some = random.Random(1).sample(many, TURNS)
    rows = []
    theirs = moto_side(moto, "us-east-1", [call("DescribeInstances", InstanceId__1=i) for i in some])
    ours = seeded.one()
    interleave([theirs, ours], rounds)
    rows.append(compared("DescribeInstances of one id among 10,000", ours, theirs))

    # It takes about a second for each, and more connections make that no quicker.
    theirs = moto_side(moto, "us-west-2", [call("DescribeInstances")], connections=1, seconds=6)
    ours = of_thousand.side([call("DescribeInstances")], connections=4)
    interleave([theirs, ours], rounds)
    rows.append(compared("DescribeInstances of 1,000", ours, theirs, 100))

    theirs = moto_side(moto, "us-east-1", tags(some))
    ours = seeded.side(tags(seeded.some), connections=CROWD)
    interleave([theirs, ours], rounds)
    rows.append(compared("CreateTags", ours, theirs, 100))
    return rows
