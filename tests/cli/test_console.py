"""Consoles: the operator's command, the WebSocket that its URL opens, and who is refused. Roles in one process, or, in a
cluster, `compute` and `console` as processes that don't open the database."""

import json
import subprocess
import time
from urllib.parse import parse_qs, urlsplit

import pytest
import websocket

from harness.cloud import Account, Cloud
from harness.ec2 import running, wait
from harness.port import Port
from harness.wait import until

pytestmark = pytest.mark.roles


@pytest.fixture(scope="module")
def cloud():
    with Cloud("fake") as cloud:
        if cloud.cluster:
            apart(cloud)
        yield cloud


def apart(cloud: Cloud) -> None:
    """Consoles between processes: the host takes connections over TCP, and a process of its own has the door."""
    host, door = Port(), Port()
    key = {"CUMULET_CONSOLE_PUBLIC_KEY": cloud.run("admin", "console-key")}
    without = {"CUMULET_DATABASE": "", "CUMULET_BUS": ""}
    compute = cloud.role("compute")
    compute.stop(60.0)
    compute.variables_of_its_own |= key | {"CUMULET_CONSOLE_ADDRESS": f"127.0.0.1:{host.number}", "CUMULET_DATABASE": ""}
    console = cloud.another("console")
    console.variables_of_its_own |= key | without | {"CUMULET_CONSOLE_LISTEN": f"127.0.0.1:{door.number}"}
    cloud.variables["CUMULET_CONSOLE_ENDPOINT"] = f"127.0.0.1:{door.number}"
    cloud.start()
    (name,) = [row["host"] for row in json.loads(cloud.run("admin", "host", "list", "--json"))]
    # A loopback address is the operator's to give: no host is believed it.
    cloud.run("admin", "host", "confirm", name, "--console-address", f"127.0.0.1:{host.number}")
    cloud.ports_of_consoles = [host, door]


@pytest.fixture
def account(cloud: Cloud) -> Account:
    return cloud.account()


def url_of(cloud: Cloud, instance: str, *more: str, **variables: str) -> str:
    """What the operator is told; the host may not have been heard of since its consoles were there."""
    command = [str(cloud.binary), "admin", "console", instance, "--state-dir", str(cloud.state), *more]

    def told() -> str:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=cloud.environment() | variables)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return until(told, f"a console of {instance}", 30)


def refused(url: str, **more) -> tuple[int, str]:
    """The status and the text with which a WebSocket is refused."""
    with pytest.raises(websocket.WebSocketBadStatusException) as caught:
        websocket.create_connection(url, timeout=20, **more)
    return caught.value.status_code, (caught.value.resp_body or b"").decode()


def opened(url: str) -> websocket.WebSocket:
    return websocket.create_connection(url, timeout=20, subprotocols=["binary"])


def shown(console: websocket.WebSocket, wanted: str) -> str:
    """What a console shows, up to a text."""
    text = ""
    while wanted not in text:
        text += console.recv().decode()
    return text


def test_a_url_opens_the_console_once(cloud: Cloud, account: Account):
    (id,) = running(account)
    told = json.loads(url_of(cloud, id, "--json"))
    assert (told["instance"], told["type"]) == (id, "serial")
    url = told["url"]
    assert url.startswith("ws://127.0.0.1:") and told["expires"].endswith("Z")
    console = opened(url)
    assert console.getsubprotocol() == "binary"
    shown(console, f"cumulet-fake console: {id}\r\n")
    console.send_binary(b"who is there?\r")
    shown(console, "who is there?\r")
    # The token is used up, while its console is open and after.
    assert refused(url) == (401, "the token has been used\n")
    status, text = refused(url_of(cloud, id))
    assert status == 503 and "in use" in text
    console.close()
    assert refused(url)[0] == 401
    # The serial port is free again.
    again = until(lambda: opened(url_of(cloud, id)), "a second console", 20)
    shown(again, id)
    # The end of the guest is the end of its console.
    late = url_of(cloud, id)
    account.ec2.terminate_instances(InstanceIds=[id])
    wait(account, [id], "terminated")
    assert again.recv() in (b"", "")
    again.shutdown()
    assert refused(late)[0] == 404
    done = cloud.execute("admin", "console", id)
    assert done.returncode == 1 and "terminated" in done.stderr
    # What opens a console is in no log.
    assert parse_qs(urlsplit(url).query)["token"][0] not in cloud.text()


def test_what_is_no_token_opens_nothing(cloud: Cloud, account: Account):
    (id,) = running(account)
    url = url_of(cloud, id)
    base, token = url.split("token=")
    wrong = token[:-2] + ("A" if token[-2] != "A" else "B") + token[-1]
    for bad in (wrong, "", "x" * 3000, token[:-1]):
        status, text = refused(f"{base}token={bad}")
        assert (status, text) == (401, "the token is not valid\n"), bad
    assert refused(url, origin="http://elsewhere.example")[0] == 403
    short = url_of(cloud, id, CUMULET_CONSOLE_TOKEN_TTL="1")
    time.sleep(1.1)
    assert refused(short) == (401, "the token has expired\n")
    # A simulated guest has no screen to connect to.
    assert refused(url_of(cloud, id, "--type", "vnc"))[0] == 501
    opened(url).close()


def test_only_what_runs_has_a_console(cloud: Cloud):
    for words, named in [
        (["i-0123456789abcdef0"], "does not exist"),
        (["i-xyz"], "i-xyz"),
        (["i-0123456789abcdef0", "--type", "spice"], "serial or vnc"),
    ]:
        done = cloud.execute("admin", "console", *words)
        assert done.returncode != 0 and named in done.stderr, done.stderr
    assert cloud.run("admin", "console-key") == cloud.run("admin", "console-key") != ""


def test_a_console_role_says_what_it_lacks(tmp_path):
    with Cloud("fake", cluster="") as cloud:
        words = [str(cloud.binary), "up", "--role", "console", "--state-dir", str(tmp_path / "s")]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=cloud.environment())
        assert done.returncode == 1 and "console.public_key" in done.stderr
