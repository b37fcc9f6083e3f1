"""An image that asks for UEFI: a real guest that finds nothing to start by BIOS."""

import os
import subprocess
from pathlib import Path

import pytest

from harness.cloud import TINY, Cloud
from harness.guest import launch, shell_key, terminate

pytestmark = pytest.mark.one_process


def started_by_uefi(folder: Path) -> Path:
    """The tiny guest, whose kernel UEFI's shell starts and syslinux does not find."""
    raw, image = folder / "tiny.raw", folder / "tiny-uefi.qcow2"
    boot = f"{raw}@@1M"

    def run(*words: str, input: str | None = None) -> str:
        environment = os.environ | {"MTOOLS_SKIP_CHECK": "1"}
        return subprocess.run(words, check=True, input=input, text=True, capture_output=True, env=environment).stdout

    run("qemu-img", "convert", "-O", "raw", str(TINY), str(raw))
    settings = run("mtype", "-i", boot, "::syslinux.cfg")
    (options,) = [line.partition("APPEND ")[2].strip() for line in settings.splitlines() if "APPEND " in line]
    run("mren", "-i", boot, "::vmlinuz", "::vmlinuz.efi")
    script = f"FS0:\r\nvmlinuz.efi initrd=\\initrd {options}\r\n"
    run("mcopy", "-i", boot, "-", "::startup.nsh", input=script)
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(image))
    raw.unlink()
    return image


def test_an_image_that_asks_for_uefi_is_started_by_it(real_cloud: Cloud, key_folder):
    account = real_cloud.account()
    file = started_by_uefi(key_folder)
    words = ("--name", "tiny-uefi", "--boot-mode", "uefi", "--root-device", "/dev/sda1", "--account", account.id)
    image = real_cloud.run("image", "import", *words, str(file))
    key = shell_key(account, key_folder)
    (guest,) = launch(account, key, "k", ImageId=image)
    guest.wait_console("cumulet-tiny ready:", timeout=180)
    guest.wait_ssh()
    seen = guest.describe()
    assert (seen["BootMode"], seen["CurrentInstanceBootMode"], seen["RootDeviceName"]) == ("uefi", "uefi", "/dev/sda1")
    assert "runtime-map" in guest.ssh("ls /sys/firmware/efi")
    # What UEFI keeps is the instance's own, over a stop and a start, and goes with it.
    (kept,) = real_cloud.state.glob(f"hosts/*/instances/{guest.id}/nvram.fd")
    guest.hang_up()
    account.ec2.stop_instances(InstanceIds=[guest.id])
    guest.wait_state("stopped")
    before = kept.read_bytes()
    assert len(before) > 1 << 16
    account.ec2.start_instances(InstanceIds=[guest.id])
    guest.wait_state("running")
    guest.wait_ssh(180)
    terminate(account, guest)
    assert not kept.exists()
    real_cloud.wait_clean()
