"""Clouds whose roles are processes of their own, over a database server and a broker, for faults in between."""

import pytest

from harness import cluster
from harness.cloud import Cloud

# Every database, once: what runs on each of them in turn does so in one of the two runs of scripts/test-cluster.
EVERY = {"": ["", "postgresql", "mariadb"], "postgresql": ["", "postgresql"], "mariadb": ["mariadb"]}[cluster.KIND]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items) -> None:
    """All of these are about roles as processes."""
    for item in items:
        if "faults" in item.path.parts:
            item.add_marker(pytest.mark.roles)


@pytest.fixture(scope="session", params=[cluster.KIND or "postgresql"])
def kind(request) -> str:
    """The database."""
    return request.param


@pytest.fixture(scope="session", params=EVERY, ids=[kind or "sqlite" for kind in EVERY])
def each(request) -> str:
    """Each database in turn: one process with SQLite, and clusters with the others."""
    return request.param


@pytest.fixture
def cloud(kind: str):
    """A cloud that a test may break; at its end database and hosts agree."""
    with Cloud("fake", cluster=kind) as cloud:
        yield cloud
        cloud.start()
        cloud.wait_clean(60)


def gateways(cloud: Cloud, count: int = 3) -> Cloud:
    """The cloud with so many doors, where it is a cluster."""
    if cloud.cluster:
        for _ in range(count - 1):
            cloud.another("gateway")
        cloud.start()
    return cloud


@pytest.fixture
def doors(each: str):
    """A cloud on each database in turn; three gateways where there can be more than one."""
    with Cloud("fake", '[network]\npublic_pool = "10.64.0.0/12"\n', cluster=each) as cloud:
        yield gateways(cloud)
        cloud.wait_clean(60)
