"""The processor, and servers that do without its instructions for SHA: what a request costs on one that has none.

The crates that hash (`sha2`, `sha1`) look once whether the processor has them and keep that in a byte. It is set to "no"
in the running server, so that the program that ships is what is measured, and set back afterwards."""

import platform
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

# As `cpufeatures` keeps it: whether they are there, or that nobody has looked yet.
NO, YES, UNKNOWN = 0, 1, 255
# Its symbol, by what a crate has named it for x86-64 and for ARM.
KEPT = re.compile(r"^([0-9a-f]+) [bBdD] (\S*sha\S*(?:shani_cpuid|sha2_hwcap|sha1_hwcap)7STORAGE\S*)$", re.M)


def name() -> str:
    """The model, and whether it has instructions for SHA."""
    found = re.search(r"^model name\s*: (.*)$", cpuinfo(), re.M)
    return f"{found[1].strip() if found else platform.machine()} ({'with' if has_sha() else 'without'} SHA extensions)"


def has_sha() -> bool:
    flags = re.search(r"^(?:flags|Features)\s*: (.*)$", cpuinfo(), re.M)
    return bool(flags and {"sha_ni", "sha2"} & set(flags[1].split()))


def cpuinfo() -> str:
    return Path("/proc/cpuinfo").read_text()


@contextmanager
def without_sha(pids: list[int]) -> Iterator[None]:
    """Lets these servers hash in software."""
    with ExitStack() as stack:
        for pid in pids:
            stack.enter_context(_without(pid))
        yield


@contextmanager
def _without(pid: int) -> Iterator[None]:
    places = _places(pid)
    before = [_byte(pid, place) for place in places]
    assert YES in before and set(before) <= {NO, YES, UNKNOWN}, f"what the server has found of the processor: {before}"
    for place in places:
        _set(pid, place, NO)
    try:
        yield
        assert [_byte(pid, place) for place in places] == [NO] * len(places)
    finally:
        if Path(f"/proc/{pid}/exe").exists():
            for place, value in zip(places, before):
                _set(pid, place, value)


def _places(pid: int) -> list[int]:
    """Where the bytes are in the server's memory."""
    program = Path(f"/proc/{pid}/exe")
    symbols = subprocess.run(["nm", program], check=True, capture_output=True, text=True).stdout
    found = [int(address, 16) for address, _ in KEPT.findall(symbols)]
    assert found, f"{program.readlink()} has no symbols that say where its crates keep what the processor can"
    start = _start(pid)
    return [start + address for address in found]


def _start(pid: int) -> int:
    """Where the program lies: symbols of a position-independent one count from there."""
    with open(f"/proc/{pid}/exe", "rb") as program:
        kind = program.read(18)[16]
    assert kind == 3, "the program is not position-independent"
    own = str(Path(f"/proc/{pid}/exe").readlink())
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        span, _, offset, *_, path = line.split(maxsplit=5)
        if path == own and int(offset, 16) == 0:
            return int(span.split("-")[0], 16)
    raise AssertionError(f"{own} is not in the memory of {pid}")


def _byte(pid: int, place: int) -> int:
    with open(f"/proc/{pid}/mem", "rb") as memory:
        memory.seek(place)
        return memory.read(1)[0]


def _set(pid: int, place: int, value: int) -> None:
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        memory.seek(place)
        memory.write(bytes([value]))
