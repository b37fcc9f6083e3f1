"""Clients that keep the API waiting: each is cut in time, and a correct client is answered beside them."""

import socket
import threading
import time
from contextlib import ExitStack

import pytest
from botocore.exceptions import ConnectionClosedError

from harness.cloud import Account, Cloud

HEAD = b"POST / HTTP/1.1\r\nHost: cloud\r\nContent-Type: application/x-www-form-urlencoded\r\n"
HEALTH = b"GET /cumulet/health HTTP/1.1\r\nHost: cloud\r\n\r\n"
# Each leaves its request unfinished.
BEGINNINGS = {
    "nothing": b"",
    "half a head": HEAD,
    "half a body": HEAD + b"Content-Length: 20\r\n\r\nAction=",
    "half a chunk": HEAD + b"Transfer-Encoding: chunked\r\n\r\n9\r\nAct",
}
# Times far below this; a connection that is forgotten stays for ever.
LONG = 60


@pytest.fixture(scope="module")
def strict():
    """Little time for anything, and room for 64 connections."""
    with Cloud("fake", "[http]\nconnections = 64\nidle = 4\nhead = 2\nbody = 2\nstall = 2\n") as cloud:
        yield cloud


def connect(cloud: Cloud, stack: ExitStack) -> socket.socket:
    host, port = cloud.address.split(":")
    return stack.enter_context(socket.create_connection((host, int(port)), timeout=LONG))


def send(connection: socket.socket, data: bytes) -> bool:
    try:
        connection.sendall(data)
    except ConnectionError:
        return False
    return True


def rest(connection: socket.socket) -> bytes:
    """What comes until the server closes; a TimeoutError where it does not."""
    found = b""
    try:
        while part := connection.recv(65536):
            found += part
    except ConnectionError:
        pass
    return found


@pytest.mark.parametrize("what", BEGINNINGS)
@pytest.mark.parametrize("before", [b"", HEALTH], ids=["first", "later"])
def test_an_unfinished_request_is_cut(strict, what, before):
    with ExitStack() as stack:
        connection = connect(strict, stack)
        if before:
            connection.sendall(before)
            assert b" 200 " in connection.recv(65536)
        send(connection, BEGINNINGS[what])
        seen = rest(connection)
        assert not seen or seen.startswith(b"HTTP/1.1 408"), seen


@pytest.mark.parametrize("what", [name for name, begin in BEGINNINGS.items() if begin])
def test_a_byte_now_and_then_gains_no_time(strict, what):
    with ExitStack() as stack:
        connection = connect(strict, stack)
        connection.sendall(HEALTH)
        assert b" 200 " in connection.recv(65536)
        # As long as it may be: nothing but the time ends it.
        begin = BEGINNINGS[what].replace(b"Length: 20", b"Length: 100000").replace(b"\r\n9\r\n", b"\r\nfffff\r\n")
        deadline = time.monotonic() + LONG
        connection.sendall(begin + (b"X: " if what == "half a head" else b""))
        while send(connection, b"a"):
            assert time.monotonic() < deadline, "still open"
            time.sleep(0.1)


def test_who_reads_no_answers_is_cut(strict):
    with ExitStack() as stack:
        connection = connect(strict, stack)
        # Answers fill all buffers on the way, and requests then those of the other direction.
        connection.settimeout(1)
        deadline = time.monotonic() + LONG
        while True:
            try:
                connection.sendall(HEALTH * 1000)
            except TimeoutError:
                assert time.monotonic() < deadline, "still open"
            except ConnectionError:
                break
            assert time.monotonic() < deadline, "still open"


def got_in(account: Account) -> bool:
    """Whether a new connection is answered in three tries, as many as the AWS CLI makes: where the crowd comes back faster
    than a correct client gets to send its first request, the one that is closed to make room may be its connection. One
    that has been answered is no longer in question as long as others have not."""
    for _ in range(3):
        try:
            return bool(account.ec2.describe_regions()["Regions"])
        except ConnectionClosedError:
            pass
    return False


def test_a_crowd_that_says_nothing_keeps_nobody_out(strict):
    """Four times as many connections as there is room for, each time that one is closed a new one."""
    account = strict.account()
    end = threading.Event()

    def alive(connection: socket.socket) -> bool:
        sent = send(connection, b"a")
        if not sent:
            connection.close()
        return sent

    def crowd(begin: bytes) -> None:
        with ExitStack() as stack:
            connections = []
            while not end.is_set():
                if len(connections) < 64:
                    connections.append(connect(strict, stack))
                    send(connections[-1], begin)
                    continue
                connections = [c for c in connections if alive(c)]
                end.wait(0.05)

    threads = [threading.Thread(target=crowd, args=(begin,)) for begin in BEGINNINGS.values()]
    for thread in threads:
        thread.start()
    try:
        assert got_in(account)
        for _ in range(40):
            assert account.ec2.describe_regions()["Regions"]
            end.wait(0.1)
    finally:
        end.set()
        for thread in threads:
            thread.join()
