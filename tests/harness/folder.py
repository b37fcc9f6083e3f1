"""Fresh folders for clouds and measurements."""

import os
import subprocess
import tempfile
from pathlib import Path


def own() -> Path:
    """The harness's own folder, which is there and stays."""
    folder = Path("/var/tmp") / f"cumulet-tests-{os.geteuid()}"
    try:
        folder.mkdir()
        folder.chmod(0o711)
        # ext4 then looks for room for each folder in it by itself instead of beside its neighbours.
        subprocess.run(["chattr", "+T", folder], capture_output=True)
    except FileExistsError:
        assert folder.lstat().st_uid == os.geteuid() and not folder.is_symlink(), f"{folder} is another's"
    return folder


def fresh(prefix: str) -> Path:
    """A new folder, to be removed by its user.

    Not pytest's tmp_path, which is 0700, and not below a home: libvirt's user passes through on its way to
    the disks. In a folder of the harness's own, so that what others create and delete in /var/tmp does not
    slow down what is measured here.
    """
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=own()))
    folder.chmod(0o711)
    return folder
