"""Images that came as VMDK, VHD and VHDX: real guests start from them."""

import subprocess
from pathlib import Path

import pytest

from harness.cloud import TINY, Cloud
from harness.guest import launch, shell_key, terminate

pytestmark = pytest.mark.one_process

KINDS = [("vmdk", "vmdk", "subformat=streamOptimized"), ("vhd", "vpc", "subformat=dynamic"), ("vhdx", "vhdx", "subformat=dynamic")]


def converted(folder: Path, format: str, kind: str, options: str) -> Path:
    """The tiny guest in another format."""
    path = folder / f"tiny.{format}"
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", kind, "-o", options, str(TINY), str(path)], check=True)
    return path


def test_guests_start_from_images_of_other_formats(real_cloud: Cloud, key_folder):
    account = real_cloud.account()
    key = shell_key(account, key_folder)
    guests = []
    for format, kind, options in KINDS:
        file = converted(key_folder, format, kind, options)
        words = ("--name", f"tiny-{format}", "--format", format, "--account", account.id)
        image = real_cloud.run("image", "import", *words, str(file))
        file.unlink()
        guests += launch(account, key, "k", ImageId=image)
    for guest in guests:
        guest.wait_console("cumulet-tiny ready:", timeout=180)
        guest.wait_ssh()
        assert guest.ssh("uname -s").strip() == "Linux"
    for guest in guests:
        guest.hang_up()
        terminate(account, guest)
    real_cloud.wait_clean()
