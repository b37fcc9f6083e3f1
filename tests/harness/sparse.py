"""Large files of which little is written: only that is kept of them."""

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

BLOCK = 64 << 10


def _written(file: int, size: int) -> Iterator[int]:
    """Where blocks begin that are no hole."""
    at = 0
    while at < size:
        try:
            begin = os.lseek(file, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        end = os.lseek(file, begin, os.SEEK_HOLE)
        # A block that an earlier one has reached into is not looked at again.
        at = max(at, begin // BLOCK * BLOCK)
        while at < end:
            yield at
            at += BLOCK


def packed(path: Path) -> bytes:
    """The file's length and what in it is not zeros: a line of JSON, and blocks one after the other."""
    with path.open("rb") as file:
        size, found, blocks = os.fstat(file.fileno()).st_size, [], []
        for at in _written(file.fileno(), size):
            block = os.pread(file.fileno(), BLOCK, at)
            if block.strip(b"\0"):
                found.append([at, len(block)])
                blocks.append(block)
    return b"\n".join([json.dumps({"bytes": size, "blocks": found}).encode(), b"".join(blocks)])


def unpack(text: bytes, path: Path) -> None:
    """Makes the file again."""
    head, _, rest = text.partition(b"\n")
    kept = json.loads(head)
    with path.open("wb") as file:
        file.truncate(kept["bytes"])
        for at, length in kept["blocks"]:
            os.pwrite(file.fileno(), rest[:length], at)
            rest = rest[length:]
