"""Clouds whose roles are processes of their own, over a database server and a broker, for faults in between."""

import pytest

from harness import cluster
from harness.cloud import Cloud


@pytest.fixture(scope="session", params=[cluster.KIND or "postgresql"])
def kind(request) -> str:
    """The database."""
    return request.param


@pytest.fixture
def cloud(kind: str):
    """A cloud that a test may break; at its end database and hosts agree."""
    with Cloud("fake", cluster=kind) as cloud:
        yield cloud
        cloud.start()
        cloud.wait_clean(60)
