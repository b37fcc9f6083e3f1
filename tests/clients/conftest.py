"""What several foreign clients' tests start from."""

from pathlib import Path

import pytest

from harness.ansible import Ansible
from harness.cloud import Account


@pytest.fixture
def ansible(account: Account, tmp_path: Path) -> Ansible:
    return Ansible(account, tmp_path)
