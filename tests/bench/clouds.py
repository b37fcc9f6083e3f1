"""Simulated clouds with many instances, and the same in moto."""

import sqlite3
from contextlib import closing

import boto3
from botocore.config import Config

from harness.cloud import Account, Cloud, Key
from harness.wait import until

from servers import Server

# Room for addresses and nothing in the way: what is measured is the cloud.
CONFIG = '[network]\npublic_pool = "10.64.0.0/12"\n'
# Instances of one account: its default subnet is a /20.
PER_ACCOUNT = 4000
BATCH = 100
MOTO_KEY = Key("AKIAIOSFODNN7EXAMPLE", "none")


def count(cloud: Cloud, state: str) -> int:
    """Instances in a state, read beside the cloud."""
    with closing(sqlite3.connect(f"file:{cloud.state / 'cumulet.db'}?mode=ro", uri=True)) as connection:
        return connection.execute("select count(*) from instances where state = ?", [state]).fetchone()[0]


def wait_running(cloud: Cloud, wanted: int, timeout: float, every: float = 0.2) -> None:
    until(lambda: count(cloud, "running") >= wanted, f"{wanted} instances run", timeout, every)


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
