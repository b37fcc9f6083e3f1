"""RunInstances: accepted and brought to `running`, sustained, on the simulated driver."""

import time

from clouds import CONFIG, UNLIMITED, Moto, count, wait_running
from api import moto_side
from harness.cloud import Cloud
from load import Side, call, cpu_seconds, interleave, signed, wrk
from report import Row, number

CLIENTS = 16
# Accounts that the launches are spread over: a default subnet holds some 4,000 addresses.
ACCOUNTS = 16


def sustained(cloud: Cloud, size: int, seconds: float, clients: int = CLIENTS) -> tuple[float, float, int]:
    """Launches for so long; instances brought to `running` a second (until the last one runs), CPU each, and how many."""
    image, accounts = cloud.image, [cloud.account() for _ in range(ACCOUNTS)]
    body = call("RunInstances", ImageId=image, InstanceType="t3.nano", MinCount=str(size), MaxCount=str(size))
    requests = [signed(account.key, cloud.address, [body])[0] for account in accounts]
    before, cpu, start = count(cloud, "running"), cpu_seconds(cloud.process.pid), time.monotonic()
    wrk(cloud.address, requests, clients, seconds)
    # Requests that wrk left behind at its end may still have been accepted.
    accepted = count(cloud, "running") + count(cloud, "pending") - before
    wait_running(cloud, before + accepted, 120, every=0.02)
    taken = time.monotonic() - start
    return accepted / taken, (cpu_seconds(cloud.process.pid) - cpu) * 1e6 / accepted, accepted


def launches(moto: Moto, rounds: int) -> list[Row]:
    """One instance a request, then 20."""
    rows = []
    body = call("RunInstances", ImageId=moto.image, InstanceType="t3.nano", MinCount="1", MaxCount="1")
    theirs: Side = moto_side(moto, "eu-west-1", [body])
    interleave([theirs], rounds)
    for size, clients, seconds in [(1, CLIENTS, 10.0), (20, 4, 5.0)]:
        with Cloud("fake", CONFIG, variables=UNLIMITED) as cloud:
            rate, cpu, made = sustained(cloud, size, seconds, clients)
        what = f"RunInstances of {size}, {clients} clients, until all of {made:,} run"
        ours = f"{number(rate)} instances/s, {number(cpu)} µs CPU"
        other = f"moto (1 a request): {number(theirs.rate)}/s, {number(theirs.cpu)} µs CPU"
        rows.append(Row(what, ours, other, f"{number(rate / theirs.rate)} ×", "≥ 500/s", rate >= 500))
    return rows
