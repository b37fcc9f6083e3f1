"""Fixtures: simulated clouds that a worker's tests share, and a real one for those of them that need real guests."""

import os
import subprocess
from pathlib import Path

import pytest

pytest.register_assert_rewrite("harness")

from harness import volumes  # noqa: E402
from harness.cluster import KIND  # noqa: E402
from harness.cloud import BIN, DEBIAN, TINY, Account, Cloud  # noqa: E402
from harness.guest import launch, shell_key, terminate  # noqa: E402
from harness.signing import Raw  # noqa: E402


# Files that one worker runs: their tests share a guest that takes minutes to boot, or hosts and networks of which a
# machine has one.
TOGETHER = {
    "test_debian_image.py": "debian",
    "test_three_hosts.py": "hosts",
    "test_ceph.py": "ceph",
    "test_upgrade.py": "hosts",
    "test_clean_roots.py": "clean-roots",
}


def pytest_collection_modifyitems(items) -> None:
    for item in items:
        if KIND and item.get_closest_marker("one_process"):
            item.add_marker(pytest.mark.skip(reason=f"the cloud's roles are processes of their own, over {KIND}"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Tests of one group go to one worker. (By their files' names: pytest 9.2 keeps a test's id where pytest-xdist 3.8,
    which writes a group into it, does not look, so that its mark `xdist_group` says nothing.)"""
    from xdist.scheduler import LoadGroupScheduling

    class ByFile(LoadGroupScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return TOGETHER.get(Path(nodeid.split("::")[0]).name, nodeid)

    return ByFile(config, log) if config.getvalue("dist") == "loadgroup" else None


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows what its cloud said last."""
    report = (yield).get_result()
    if report.failed:
        values = getattr(item, "funcargs", {}).values()
        clouds = {id(c): c for c in (getattr(value, "cloud", value) for value in values) if isinstance(c, Cloud)}
        for cloud in clouds.values():
            report.sections.append((f"the cloud at {cloud.address}", cloud.tail(6000)))


def pytest_sessionstart(session) -> None:
    if not BIN.exists():
        pytest.exit(f"{BIN} is not built; run scripts/test, or set CUMULET_BIN", returncode=2)


@pytest.fixture(scope="session")
def real():
    """The machine runs guests: libvirt answers and the tiny guest is built."""
    assert os.geteuid() == 0, "real guests need root"
    assert TINY.exists(), f"{TINY} is not built (tests/guests/tiny/build)"
    subprocess.run(["virsh", "-c", "qemu:///system", "version"], check=True, capture_output=True)


@pytest.fixture(scope="session")
def fake_cloud():
    """A simulated cloud. Tests share it, so each uses an account of its own (`account`)."""
    with Cloud("fake", '[network]\npublic_pool = "10.64.0.0/12"\n') as cloud:
        yield cloud


@pytest.fixture
def account(fake_cloud: Cloud) -> Account:
    """A new account of the shared simulated cloud."""
    return fake_cloud.account()


@pytest.fixture
def ec2(account: Account):
    """EC2, as the new account's administrator."""
    return account.ec2


@pytest.fixture
def raw(account: Account) -> Raw:
    """Raw requests with the new account's key."""
    return Raw(account.cloud, account.key)


@pytest.fixture(scope="session")
def real_cloud(real):
    """A cloud with real guests, shared by everything that needs them. At its end nothing of it may be left."""
    # Volumes are empty for the most part, and more of them than a disk would hold.
    settings = "[libvirt]\nstop_grace = 30\n[scheduler]\ndisk_allocation_ratio = 8.0\n"
    with Cloud("libvirt", settings) as cloud:
        yield cloud


@pytest.fixture
def pair(real_cloud: Cloud, key_folder):
    """Two guests with a shell, and their account; volumes and snapshots of it are gone at the end."""
    account = real_cloud.account()
    key = shell_key(account, key_folder)
    one, two = launch(account, key, "k", 2)
    yield account, one.wait_ssh(), two.wait_ssh()
    left = [guest for guest in (one, two) if guest.state != "terminated"]
    if left:
        terminate(account, *left)
    volumes.delete_all(account)
    volumes.delete_snapshots(account)


@pytest.fixture(scope="session")
def debian_image(real) -> Path:
    assert DEBIAN.exists(), f"{DEBIAN} is not built (tests/guests/debian/build)"
    return DEBIAN


@pytest.fixture
def key_folder(tmp_path: Path) -> Path:
    """Where a test keeps private keys."""
    tmp_path.chmod(0o700)
    return tmp_path
