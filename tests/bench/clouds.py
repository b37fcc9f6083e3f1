"""Simulated clouds with many instances, and the same in moto."""

import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import boto3
from botocore.config import Config

from harness.cloud import Account, Cloud, Key
from harness.cluster import database
from harness.wait import until

from servers import Server

# A benchmark's one client asks for more than a tenant may: what is measured is not when it is told so.
UNLIMITED = {
    f"CUMULET_REQUESTS_{whose}_{what}": "0"
    for whose in ("ACCOUNT", "KEY")
    for what in ("IN_FLIGHT", "RATE", "BURST")
}
# Room for addresses and nothing in the way: what is measured is the cloud.
CONFIG = '[network]\npublic_pool = "10.64.0.0/12"\n'
# Instances of one account: its default subnet is a /20.
PER_ACCOUNT = 4000
BATCH = 100
MOTO_KEY = Key("AKIAIOSFODNN7EXAMPLE", "none")


def query(cloud: Cloud, sql: str) -> list[list[str]]:
    """Rows of the cloud's database, read beside the cloud."""
    if not cloud.cluster:
        with closing(sqlite3.connect(f"file:{cloud.state / 'cumulet.db'}?mode=ro", uri=True)) as connection:
            return [[str(value) for value in row] for row in connection.execute(sql)]
    # A cloud's database has the name of its virtual host at the broker.
    output = database(cloud.cluster).sql(sql, cloud.vhost).stdout
    return [re.split(r"[|\t]", line) for line in output.splitlines() if line]


def count(cloud: Cloud, state: str) -> int:
    """Instances in a state."""
    return states(cloud).get(state, 0)


def states(cloud: Cloud) -> dict[str, int]:
    """How many instances are in which state."""
    return {state: int(number) for state, number in query(cloud, "select state, count(*) from instances group by state")}


def wait_running(cloud: Cloud, wanted: int, timeout: float, every: float = 0.2) -> None:
    until(lambda: count(cloud, "running") >= wanted, f"{wanted} instances run", timeout, every)


def settle(cloud: Cloud, timeout: float, every: float = 0.2) -> dict[str, int]:
    """Waits until no instance is on its way any more, or for so long; how many are in which state then."""
    end = time.monotonic() + timeout
    while True:
        found = states(cloud)
        if not {"pending", "shutting-down"} & set(found) or time.monotonic() > end:
            return found
        time.sleep(every)


def resident(cloud: Cloud) -> dict[str, float]:
    """MiB of memory of each of the cloud's processes, by its roles."""
    return {process.name: resident_mib(process.pid) for process in cloud.processes if process.popen}


def resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024


def seed(cloud: Cloud, wanted: int) -> tuple[Account, list[str]]:
    """Brings instances to `running`; an account with its first ids."""
    first, ids, left = None, [], wanted
    while left:
        account, here = cloud.account(), min(left, PER_ACCOUNT)
        left -= here
        made = launch(account, here)
        if first is None:
            first, ids = account, made
    wait_running(cloud, wanted, 120)
    return first, ids


def launch(account: Account, wanted: int) -> list[str]:
    ids: list[str] = []
    ec2, image = account.ec2, account.cloud.image
    while len(ids) < wanted:
        size = min(BATCH, wanted - len(ids))
        made = ec2.run_instances(ImageId=image, InstanceType="t3.nano", MinCount=size, MaxCount=size)
        ids += [instance["InstanceId"] for instance in made["Instances"]]
    return ids


class Moto:
    """moto's server with as many instances."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.image = self.client("us-east-1").describe_images()["Images"][0]["ImageId"]

    def client(self, region: str):
        return boto3.client(
            "ec2",
            region_name=region,
            endpoint_url=f"http://{self.server.address}",
            aws_access_key_id=MOTO_KEY.id,
            aws_secret_access_key=MOTO_KEY.secret,
            config=Config(retries={"total_max_attempts": 1}, read_timeout=300),
        )

    def seed(self, region: str, wanted: int) -> list[str]:
        """Its regions know nothing of each other: each is a cloud of its own."""
        ec2, ids = self.client(region), []
        image = ec2.describe_images()["Images"][0]["ImageId"]
        while len(ids) < wanted:
            size = min(1000, wanted - len(ids))
            made = ec2.run_instances(ImageId=image, InstanceType="t3.nano", MinCount=size, MaxCount=size)
            ids += [instance["InstanceId"] for instance in made["Instances"]]
        return ids
