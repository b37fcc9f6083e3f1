"""The bound on the memory of a guest's process, kept by the kernel: a guest that uses all of its own memory runs on under
it, and nothing that its process could take besides is more than an emulator needs."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.cloud import TINY
from harness.ec2 import running
from harness.lone import Lone
from harness.machines import Machines, command_line, is_qemu
from harness.wait import until

# libvirt lets a process lock as much memory as its bound, which root may not everywhere (CAP_SYS_RESOURCE). That is
# no part of what is tested here, so a libvirtd that may not goes on as if it had.
MAY_LOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/types.h>
#include <sys/resource.h>
int prlimit64(pid_t pid, __rlimit_resource_t what, const struct rlimit64 *to, struct rlimit64 *was) {
    int (*real)(pid_t, __rlimit_resource_t, const struct rlimit64 *, struct rlimit64 *) = dlsym(RTLD_NEXT, "prlimit64");
    int done = real(pid, what, to, was);
    return done && errno == EPERM && what == RLIMIT_MEMLOCK ? 0 : done;
}
int setrlimit64(__rlimit_resource_t what, const struct rlimit64 *to) { return prlimit64(0, what, to, 0); }
"""
FILL_MIB = 380
FILL = f"""#!/bin/sh
mkdir /fill && mount -t tmpfs -o size=95% none /fill
dd if=/dev/zero of=/fill/all bs=1M count={FILL_MIB} && echo "cumulet-tiny: memory is full"
"""


def may_lock(folder: Path) -> Path:
    source, library = folder / "may_lock.c", folder / "may_lock.so"
    source.write_text(MAY_LOCK)
    subprocess.run(["cc", "-shared", "-fPIC", "-O", "-o", library, source, "-ldl"], check=True, capture_output=True)
    return library


@pytest.fixture
def cloud(tmp_path: Path):
    assert os.geteuid() == 0, "hosts need root"
    if not shutil.which("cc"):
        pytest.skip("there is no C compiler (cc)")
    if not re.search(r"^memory\s", Path("/proc/cgroups").read_text(), re.M):
        pytest.skip("the kernel has no control group for memory")
    machines = Machines(1)
    (machine,) = machines
    machine.has_memory_groups = True
    machine.libvirtd = ("env", f"LD_PRELOAD={may_lock(tmp_path)}", "libvirtd")
    with machines:
        cloud = Lone(machines)
        cloud.variables["CUMULET_LIBVIRT_MEMORY_LIMIT"] = "always"
        try:
            yield cloud.start()
        finally:
            cloud.discard()


def bound(machine, pid: int) -> Path:
    """The control group of a process's memory, as the host has it."""
    line = next(line for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if re.match(r"\d+:(memory)?:", line))
    kind, path = line.split(":")[1:]
    return Path("/sys/fs/cgroup", kind, path.lstrip("/"))


def test_a_guest_that_fills_its_memory_runs_on_under_its_bound(cloud: Lone):
    assert TINY.exists(), f"{TINY} is not built (tests/guests/tiny/build)"
    (host,) = cloud.hosts
    machine, account = host.machine, cloud.first_account()
    (id,) = running(account, 1, InstanceType="t2.nano", UserData=FILL)
    console = lambda: "".join(path.read_text(errors="replace") for path in host.state.glob(f"hosts/*/instances/{id}/console*"))  # noqa: E731
    until(lambda: "memory is full" in console(), "the guest's memory is full", 240, every=0.5)
    (pid,) = [pid for pid in machine.processes() if is_qemu(command_line(pid), id)]
    said = machine.run("virsh", "-q", "memtune", id).split()
    group = bound(machine, pid)
    name = "memory.max" if (machine.execute("test", "-e", group / "memory.max").returncode == 0) else "memory.limit_in_bytes"
    limit = int(machine.run("cat", group / name))
    assert str(limit >> 10) in said, (limit, said)
    assert limit == (512 + 512 // 8 + 2048) << 20, "the guest's memory, and what its emulator needs"
    resident = int(re.search(r"^VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.M)[1]) >> 10
    assert FILL_MIB < resident < limit >> 20
    account.ec2.terminate_instances(InstanceIds=[id])
    cloud.wait_clean(60)
