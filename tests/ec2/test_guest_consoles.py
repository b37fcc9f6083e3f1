"""Real guests' consoles through the WebSocket: what is typed on the serial port is read in the guest, what the guest
writes there is shown and stays in GetConsoleOutput, and the screen speaks RFB."""

import threading

import pytest
import websocket

from harness.cloud import Cloud
from harness.ec2 import default_group
from harness.guest import allow, launch, ssh_key, terminate
from harness.wait import until


@pytest.fixture
def account(real_cloud: Cloud):
    account = real_cloud.account()
    allow(account, default_group(account.ec2), "tcp", (22, 22))
    return account


def console(cloud: Cloud, instance: str, kind: str) -> websocket.WebSocket:
    url = cloud.run("admin", "console", instance, "--type", kind)
    return websocket.create_connection(url, timeout=30, subprotocols=["binary"])


def shown(console: websocket.WebSocket, wanted: bytes) -> bytes:
    seen = b""
    while wanted not in seen:
        piece = console.recv()
        assert piece, f"the console ended after {seen!r}"
        seen += piece
    return seen


@pytest.mark.one_process
def test_serial_console_and_screen(real_cloud: Cloud, account, key_folder):
    key, public = ssh_key(key_folder)
    account.ec2.import_key_pair(KeyName="k", PublicKeyMaterial=public)
    (guest,) = launch(account, key, "k")
    guest.wait_ssh()
    # From the guest.
    serial = console(real_cloud, guest.id, "serial")
    until(lambda: guest.ssh("echo from-the-guest >/dev/ttyS0") or True, "the guest writes")
    # QEMU looks once a second whether somebody has the terminal open; what it wrote before is in the log alone.
    writes = threading.Event()

    def write() -> None:
        while not writes.is_set():
            guest.try_ssh("echo and-once-more >/dev/ttyS0")
            writes.wait(0.3)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        shown(serial, b"and-once-more\r\n")
    finally:
        writes.set()
        writer.join()
    # Into the guest.
    read = []
    # Whoever opens the terminal has it for a controlling one, and hangs it up for all others with the end of his session:
    # what is read then is nothing, and what was typed is gone.
    look = """trap '' HUP; touch /tmp/reads
        until line=$(head -n 1 </dev/ttyS0) && [ -n "$line" ]; do sleep 0.1; done; echo "$line\""""
    reader = threading.Thread(target=lambda: read.append(guest.ssh(look, timeout=60)))
    reader.start()
    until(lambda: guest.try_ssh("ls /tmp/reads") == "/tmp/reads", "the guest reads")
    for _ in range(20):
        serial.send_binary(b"typed-on-the-console\r")
        reader.join(3)
        if not reader.is_alive():
            break
    assert read == ["typed-on-the-console"]
    # The log has all of it, whether somebody looked or not.
    text = guest.wait_console("and-once-more")
    assert "from-the-guest" in text and "cumulet-tiny ready" in text, text[-500:]
    # RFC 6143, section 7.1.1: the server speaks first.
    screen = console(real_cloud, guest.id, "vnc")
    assert shown(screen, b"\n").startswith(b"RFB 003.")
    screen.send_binary(b"RFB 003.008\n")
    assert shown(screen, b"\x01")  # how many kinds of security it knows, and which
    screen.close()
    # The guest's end is the console's.
    terminate(account, guest)
    while serial.recv():
        pass
    serial.shutdown()
    real_cloud.wait_clean()
