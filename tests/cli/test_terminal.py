"""What people and programs see of `up` and `image import`: at a terminal, and without one."""

import datetime
import json
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from harness.cloud import Cloud
from harness.ec2 import running, wait
from harness.folder import fresh
from harness.terminal import Terminal

pytestmark = pytest.mark.one_process

LINE = re.compile(r"(\d\d):(\d\d):\d\d (ERROR|WARN |INFO |DEBUG) \S")
GREETING = [
    r"cumulet is ready: http://\S+  \(EC2, IAM, STS on one endpoint; hypervisor: fake\)",
    r'  eval "\$\(\S+ env --state-dir \S+\)"',
    r"  aws ec2 run-instances --image-id \$CUMULET_IMAGE --instance-type t3.nano",
]
CTRL_C = "Ctrl-C stops the cloud; guests go on running"
# What a cloud that listens on all addresses warns of: an event that every start has.
WARNING = "the API is reachable from other machines, in clear text"
# India has half an hour that no machine of the tests has.
INDIA = datetime.timezone(datetime.timedelta(hours=5, minutes=30))


@pytest.fixture
def cloud():
    """A cloud that is not started: its command, its environment, its place."""
    cloud = Cloud("fake", cluster="")
    yield cloud
    cloud._remove()


def command(cloud: Cloud, *more: str) -> list[str]:
    """`up`, on all addresses."""
    words = [*cloud.processes[0].command, *more]
    words[words.index("--listen") + 1] = f"0.0.0.0:{cloud.port.number}"
    return words


def at_a_terminal(cloud: Cloud, **variables: str) -> dict[str, str]:
    return cloud.environment() | {"TERM": "xterm-256color", "TZ": "<+0530>-5:30"} | variables


def use(cloud: Cloud) -> None:
    """What one does first with a new cloud."""
    account = cloud.first_account()
    made = running(account, ImageId=cloud.image)
    account.ec2.terminate_instances(InstanceIds=made)
    wait(account, made, "terminated")


def test_a_person_reads_lines_and_last_how_to_go_on(cloud: Cloud):
    began = datetime.datetime.now(INDIA)
    with Terminal(command(cloud), at_a_terminal(cloud)) as terminal:
        terminal.wait_for(CTRL_C)
        use(cloud)
        *log, ready, shell, launch, last = terminal.seen
        assert last == CTRL_C, "nothing comes after how to go on"
        for pattern, line in zip(GREETING, (ready, shell, launch)):
            assert re.fullmatch(pattern, line), line
        assert any(line.endswith(f"WARN  {WARNING}  address=0.0.0.0:{cloud.port.number}") for line in log), log
        for line in log:
            hour, minute, _ = LINE.match(line).groups()
            at = began.replace(hour=int(hour), minute=int(minute))
            assert abs(at - began) % datetime.timedelta(hours=23, minutes=58) < datetime.timedelta(minutes=2), (began, line)
        assert f"\x1b[33mWARN \x1b[0m {WARNING}" in terminal.written
        terminal.press(b"\x03")
        assert terminal.wait() == 0
        assert terminal.seen[-1].endswith("INFO  stopping; guests go on running")


def test_the_line_to_paste_is_what_a_shell_needs(cloud: Cloud):
    place = cloud.home / "my clouds'"
    words = command(cloud)
    words[words.index("--state-dir") + 1] = str(place)
    with Terminal(words, at_a_terminal(cloud), columns=300) as terminal:
        terminal.wait_for(CTRL_C)
        line = next(line for line in terminal.seen if line.startswith("  eval "))
        done = subprocess.run(
            ["sh", "-c", f"{line} && echo $AWS_ACCESS_KEY_ID $CUMULET_IMAGE"], capture_output=True, text=True, timeout=60, env=cloud.environment()
        )  # fmt: skip
        assert re.fullmatch(r"AKIA\w+ ami-\w+\n", done.stdout), done


@pytest.mark.parametrize(
    "variables, colour",
    [({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False), ({"NO_COLOR": "1", "CUMULET_LOG_COLOUR": "always"}, True)],
)
def test_colour_is_what_is_wanted(cloud: Cloud, variables: dict[str, str], colour: bool):
    with Terminal(command(cloud), at_a_terminal(cloud, **variables)) as terminal:
        terminal.wait_for(CTRL_C)
        assert any(WARNING in line for line in terminal.seen)
        assert ("\x1b[3" in terminal.written) == colour, terminal.written
        # A dumb terminal has no line that is rewritten either.
        assert "\x1b" not in terminal.written or variables.get("TERM") != "dumb"


def test_a_program_reads_json(cloud: Cloud):
    words = command(cloud)
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=cloud.environment())
    try:
        greeting = [process.stdout.readline().rstrip("\n") for _ in GREETING]
        assert all(re.fullmatch(pattern, line) for pattern, line in zip(GREETING, greeting)), greeting
        use(cloud)
    finally:
        process.terminate()
        rest, errors = process.communicate(timeout=60)
    assert (process.returncode, rest) == (0, ""), errors
    events = [json.loads(line) for line in errors.splitlines()]
    (event,) = [event for event in events if event["fields"]["message"] == WARNING]
    assert event.keys() == {"timestamp", "level", "fields", "target"}
    assert (event["level"], event["target"]) == ("WARN", "cumulet::cli::up")
    assert event["fields"]["address"] == f"0.0.0.0:{cloud.port.number}"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", event["timestamp"])


def test_the_format_can_be_asked_for(cloud: Cloud):
    with Terminal(command(cloud), at_a_terminal(cloud, CUMULET_LOG_FORMAT="json"), columns=1000) as terminal:
        terminal.wait_for(CTRL_C)
        (event,) = [json.loads(line) for line in terminal.seen if WARNING in line]
        assert event["level"] == "WARN" and "\x1b" not in terminal.written
        terminal.press(b"\x03")
        assert terminal.wait() == 0
    cloud.config.write_text('[log]\nformat = "text"\n')
    process = subprocess.Popen(command(cloud), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=cloud.environment())
    try:
        lines = []
        while not any(WARNING in line for line in lines):
            lines.append(process.stderr.readline())
            assert LINE.match(lines[-1]) and "\x1b" not in lines[-1], lines
    finally:
        process.terminate()
        process.communicate(timeout=60)
    for name, value in [("CUMULET_LOG_FORMAT", "yaml"), ("CUMULET_LOG_COLOUR", "pink"), ("CUMULET_LOG", "a=b=c")]:
        done = subprocess.run(command(cloud), capture_output=True, text=True, timeout=60, env=cloud.environment() | {name: value})
        assert done.returncode == 1 and f'"{value}"' in done.stderr and "expecting" in done.stderr, done.stderr


def test_levels_are_asked_for_as_ever(cloud: Cloud):
    """Libraries are quiet at a terminal, until somebody asks for them."""
    for levels, heard in [("", False), ("info", True)]:
        with Terminal(command(cloud), at_a_terminal(cloud, CUMULET_LOG=levels), columns=300) as terminal:
            terminal.wait_for(CTRL_C)
            said = "\n".join(terminal.seen)
            assert ("actix_server" in said or "sea_orm_migration" in said) == heard, said
            terminal.press(b"\x03")
            assert terminal.wait() == 0


@pytest.fixture
def silent():
    """A broker that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield {"CUMULET_BUS": f"amqp://guest:guest@127.0.0.1:{server.getsockname()[1]}/"}


def test_what_takes_long_says_what_it_does(cloud: Cloud, silent: dict[str, str]):
    with Terminal(command(cloud), at_a_terminal(cloud, **silent)) as terminal:
        terminal.wait_for("connecting to the broker  2 s")
        assert re.findall(r"\r\x1b\[Kconnecting to the broker  (\d) s", terminal.written)[:2] == ["1", "2"]
        assert terminal.seen[-1] == "connecting to the broker  2 s", "it is one line"
    process = subprocess.Popen(command(cloud), stderr=subprocess.PIPE, text=True, env=cloud.environment() | silent)
    try:
        (told,) = [json.loads(next(line for line in process.stderr if "connecting to the broker" in line))]
        assert told["fields"] == {"message": "connecting to the broker", "seconds": 1} and told["level"] == "INFO"
    finally:
        process.kill()
        process.communicate(timeout=60)


def test_a_start_can_be_broken_off(cloud: Cloud, silent: dict[str, str]):
    with Terminal(command(cloud), at_a_terminal(cloud, **silent)) as terminal:
        terminal.wait_for("connecting to the broker  1 s")
        terminal.press(b"\x03")
        assert terminal.wait() == 0
        assert terminal.seen[-1].endswith("INFO  stopping; guests go on running"), "the status line is gone"


def refused(cloud: Cloud, option: str = "", value: str = "", **variables: str) -> str:
    """What `up` says when it does not start; it says it at once, in one line."""
    words = list(cloud.processes[0].command)
    if option:
        words[words.index(option) + 1] = value
    done = subprocess.run(words, capture_output=True, text=True, timeout=20, env=cloud.environment() | variables)
    assert done.returncode == 1 and done.stdout == "", done
    line = done.stderr.splitlines()[-1]
    assert line.startswith("cumulet: ") and "os error" not in line, done.stderr
    assert not (cloud.state / "cumulet.db").exists(), "nothing slow has begun"
    return line


def test_an_address_that_is_taken_is_named_with_what_to_set(cloud: Cloud):
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = f"127.0.0.1:{server.getsockname()[1]}"
        for said, setting in [
            (refused(cloud, "--listen", taken), "--listen"),
            (refused(cloud, CUMULET_METRICS_LISTEN=taken), "metrics.listen"),
            (refused(cloud, CUMULET_CONSOLE_LISTEN=taken), "console.listen"),
            (refused(cloud, CUMULET_CONSOLE_ADDRESS=taken), "console.address"),
        ]:
            assert f"another program listens on {taken} already" in said and said.endswith(f"with {setting}"), said


def test_a_place_that_libvirts_user_can_not_reach_is_named():
    if os.geteuid() != 0 or shutil.which("virsh") is None:
        pytest.skip("guests of another user need root and libvirt")
    closed = fresh("closed-")
    closed.chmod(0o700)
    cloud = Cloud("libvirt", cluster="")
    try:
        said = refused(cloud, "--state-dir", str(closed / "state"))
        assert not (closed / "state/cumulet.db").exists()
        assert f"may not pass {closed}," in said and said.endswith(f"`chmod o+x {closed}`"), said
    finally:
        cloud._remove()
        shutil.rmtree(closed)


@pytest.fixture
def disk(tmp_path: Path):
    """A raw disk of some hundred mebibytes that takes no room."""
    path = tmp_path / "a disk.raw"
    with path.open("wb") as file:
        file.truncate(384 << 20)
        file.seek(510)
        file.write(b"\x55\xaa")
    return path


@pytest.fixture(scope="module")
def started():
    with Cloud("fake", cluster="") as cloud:
        yield cloud


def importing(cloud: Cloud, disk: Path, name: str) -> list[str]:
    words = ["image", "import", "--name", name, "--format", "raw", str(disk), "--state-dir", str(cloud.state)]
    return [str(cloud.binary), *words]


@pytest.mark.parametrize("columns", [100, 60])
def test_an_import_shows_how_far_it_is(started: Cloud, disk: Path, columns: int):
    with Terminal(importing(started, disk, f"wide-{columns}"), at_a_terminal(started), columns) as terminal:
        assert terminal.wait(300) == 0, terminal.written
        states = [part.split("\n")[-1] for part in terminal.written.replace("\r\n", "\n").split("\r\x1b[K")]
        bars = [re.match(r"copying a disk.raw  \[(#*) *\] +(\d+)%", state) for state in states]
        percents = [int(bar[2]) for bar in bars if bar]
        assert percents[0] < 100 == percents[-1] and percents == sorted(percents), percents
        assert all(len(bar[1]) == int(bar[2]) // 4 for bar in bars if bar)
        assert max(len(state) for state in states) < columns
        assert columns < 100 or any(state.endswith("384 MiB of 384 MiB") for state in states), states
        # What is left is the image's id, after at most what took long.
        *log, id = terminal.seen
        assert re.fullmatch(r"ami-0[0-9a-f]{16}", id), terminal.seen
        assert all(LINE.match(line) and ": done  seconds=" in line for line in log), log


def test_a_conversion_shows_how_far_it_is(started: Cloud, disk: Path, tmp_path: Path):
    path = tmp_path / "disk.vhdx"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "vhdx", disk, path], check=True)
    words = ["image", "import", "--name", "converted", "--format", "vhdx", str(path), "--state-dir", str(started.state)]
    with Terminal([str(started.binary), *words], at_a_terminal(started), 100) as terminal:
        assert terminal.wait(300) == 0, terminal.written
        percents = [int(percent) for percent in re.findall(r"converting disk.vhdx  \[#* *\] +(\d+)%", terminal.written)]
        assert percents and percents == sorted(percents) and percents[-1] <= 100, terminal.written
        assert re.fullmatch(r"ami-0[0-9a-f]{16}", terminal.seen[-1]), terminal.seen


def test_an_import_without_a_terminal_prints_its_id_alone(started: Cloud, disk: Path):
    done = subprocess.run(importing(started, disk, "quiet"), capture_output=True, text=True, timeout=300, env=started.environment())
    assert re.fullmatch(r"ami-0[0-9a-f]{16}\n", done.stdout), done
    # One that takes its time is in the log.
    events = [json.loads(line)["fields"] for line in done.stderr.splitlines()]
    assert all("seconds" in event for event in events if "copying" in event["message"]), events


def test_what_can_not_be_imported_is_said_in_a_sentence(started: Cloud, tmp_path: Path):
    (tmp_path / "empty").touch()
    for name, sentence in [
        ("missing", "cumulet: there is no file {path}"),
        ("", "cumulet: {path} is a folder; expecting a disk"),
        ("empty", "cumulet: {path} can't be imported: the file is empty"),
    ]:
        path = tmp_path / name if name else tmp_path
        done = started.execute("image", "import", "--name", "no", "--format", "raw", str(path))
        assert (done.returncode, done.stdout) == (1, ""), done
        assert done.stderr.splitlines()[-1] == sentence.format(path=path)
    nowhere = subprocess.run(
        [started.binary, "image", "list", "--state-dir", tmp_path / "nowhere"], capture_output=True, text=True, timeout=60
    )
    assert nowhere.returncode == 1 and nowhere.stderr.startswith(f"cumulet: there is no state directory {tmp_path}/nowhere;"), nowhere
