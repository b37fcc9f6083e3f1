"""The metadata service against the floor, one thread each."""

import http.client
from collections.abc import Callable
from pathlib import Path

from load import Request, Side, interleave
from report import Row, compared
from servers import floor, metadata

PATH = "/latest/meta-data/instance-id"


def fetch(address: str, method: str, path: str, headers: dict[str, str]) -> bytes:
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.status == 200, (answer.status, body)
    return body


def reading(address: str) -> Callable[[], list[Request]]:
    """A read of one item with a session token that the service at `address` has given."""
    ttl = {"X-aws-ec2-metadata-token-ttl-seconds": "21600"}
    token = fetch(address, "PUT", "/latest/api/token", ttl).decode()
    return lambda: [Request("GET", PATH, {"X-aws-ec2-metadata-token": token})]


def reads(folder: Path, rounds: int) -> list[Row]:
    """Reads of one item: with a session token, and without."""
    with metadata() as service:
        with_token = reading(service.address)
        without = Request("GET", PATH, {})
        with floor(fetch(service.address, "GET", PATH, {}), folder, workers=1) as server:
            two = Side("IMDSv2", service.pid, service.address, with_token)
            one = Side("IMDSv1", service.pid, service.address, lambda: [without])
            bare_two = Side("floor", server.pid, server.address, with_token)
            bare_one = Side("floor", server.pid, server.address, lambda: [without])
            interleave([bare_two, two, bare_one, one], rounds)
    return [
        compared("IMDS read with a token", two, bare_two, 0.8, True),
        compared("IMDS read without", one, bare_one, 0.8, True),
    ]
