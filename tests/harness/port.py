"""Ports to listen on that nobody else takes, also while a cloud is down between two starts."""

import fcntl
import functools
import os
import random
import socket
import threading
from pathlib import Path

from .folder import own

LOWEST = 12000

_taken: set[int] = set()
_taken_lock = threading.Lock()


@functools.cache
def _file() -> int:
    """One file, of which a byte stands for each port; a process's locks on it go with the process."""
    return os.open(own() / "ports", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)


class Port:
    """A port below those that the kernel gives to outgoing connections, locked against other processes' tests."""

    def __init__(self) -> None:
        highest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        ports = list(range(LOWEST, max(highest, LOWEST + 1000)))
        random.shuffle(ports)
        with _taken_lock:
            self.number = next(port for port in ports if self._take(port))

    @staticmethod
    def _take(port: int) -> bool:
        if port in _taken:
            return False
        try:
            fcntl.lockf(_file(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            return False
        if not bindable(port):
            fcntl.lockf(_file(), fcntl.LOCK_UN, 1, port)
            return False
        _taken.add(port)
        return True

    def free(self) -> None:
        with _taken_lock:
            if self.number in _taken:
                _taken.remove(self.number)
                fcntl.lockf(_file(), fcntl.LOCK_UN, 1, self.number)


def bindable(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """One for the rest of this process's life."""
    return Port().number
