"""A cloud of the built binary in a state directory of its own: start, kill, ask, audit, end."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import boto3
from botocore.config import Config

from . import host, model_check
from .cluster import KIND, settings
from .folder import fresh
from .port import Port, free_port  # noqa: F401
from .process import Process
from .wait import until

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "cumulet"
BIN = Path(os.environ.get("CUMULET_BIN", CACHE / "target/release/cumulet"))
TINY = Path(os.environ.get("CUMULET_TINY_IMAGE", CACHE / "guests/tiny.qcow2"))
DEBIAN = Path(os.environ.get("CUMULET_DEBIAN_IMAGE", CACHE / "guests/debian.qcow2"))

# In a cluster: the processes, in the order in which they start.
CONTROL = ["gateway", "scheduler", "conductor"]
HOST = ["compute", "metadata"]

_session = boto3.session.Session()
_session_lock = threading.Lock()


@dataclass(frozen=True)
class Key:
    """An access key. Its secret is kept out of what a failed test prints."""

    id: str
    secret: str

    def __repr__(self) -> str:
        return f"Key({self.id})"


class Account:
    """One account of a cloud, and clients that speak for it."""

    def __init__(self, cloud: "Cloud", number: str, key: Key) -> None:
        self.cloud, self.id, self.key = cloud, number, key

    @property
    def ec2(self):
        return self.cloud.client("ec2", self.key)

    def client(self, service: str):
        return self.cloud.client(service, self.key)

    def user(self, name: str, *, read_only: bool = False) -> Key:
        """A new user's access key."""
        only = ["--read-only"] if read_only else []
        self.cloud.run("user", "create", "--account", self.id, name, *only)
        words = self.cloud.run("access-key", "create", "--account", self.id, "--user", name).split()
        return Key(*words)


class Cloud:
    """A cloud under test. `with Cloud() as cloud:` starts it and checks at the end that nothing is left.

    Its roles are in one process, or, where `cluster` names a database, in processes of their own."""

    def __init__(
        self, driver: str = "fake", config: str = "", binary: Path = BIN, variables=None, cluster: str = KIND
    ) -> None:
        self.home = fresh("cloud-")
        self.state = self.home / "state"
        self.driver, self.binary, self.variables = driver, binary, dict(variables or {})
        self.cluster = cluster
        self.config = self.home / "config.toml"
        self.config.write_text(config)
        self.port = Port()
        self.address = f"127.0.0.1:{self.port.number}"
        self.output = self.home / "output"
        self.vhost = ""
        if cluster:
            self.variables |= settings(cluster)
            self.vhost = self.variables["CUMULET_BUS"].rsplit("/", 1)[1]
        self.processes = [self._process(roles) for roles in (CONTROL + HOST if cluster else ["all"])]
        self._ports = [self.port]
        self._clients: dict[tuple[str, str, str], object] = {}
        self._names = 0
        self._image = ""
        self._names_lock = threading.Lock()

    # ---- the processes

    def _process(self, roles: str) -> Process:
        command = [
            str(self.binary), "up", "--role", roles, "--state-dir", str(self.state), "--listen", self.address,
            "--driver", self.driver, "--config", str(self.config),
        ]  # fmt: skip
        if TINY.exists() and roles in ("all", "gateway"):
            command += ["--tiny-image", str(TINY)]
        output = self.output if roles == "all" else self.home / f"output.{roles}"
        return Process(roles, command, output)

    def another(self, role: str) -> Process:
        """One more process with a role, as on another machine: a state directory of its own with the cloud's key and
        images in it. It is started with the others."""
        assert self.cluster
        number = len(self.processes)
        state = self.home / f"state-{number}"
        state.mkdir()
        shutil.copy2(self.state / "master.key", state / "master.key")
        (self.state / "hosts").mkdir(exist_ok=True)
        for shared in ("images", "hosts"):  # the second for the audit, which looks at all simulated hosts
            (state / shared).symlink_to(self.state / shared)
        process = self._process(role)
        process.command[process.command.index("--state-dir") + 1] = str(state)
        process.output = self.home / f"output.{role}-{number}"
        process.name = f"{role}-{number}"
        process.variables_of_its_own = {"CUMULET_HOST": process.name}
        if role == "gateway":
            port = Port()
            self._ports.append(port)
            process.command[process.command.index("--listen") + 1] = f"127.0.0.1:{port.number}"
            process.variables_of_its_own["CUMULET_ENDPOINT"] = self.address
        self.processes.append(process)
        return process

    @property
    def doors(self) -> list[str]:
        """The addresses of all gateways."""
        return [f"http://127.0.0.1:{port.number}" for port in self._ports]

    def role(self, name: str) -> Process:
        """The process that has a role."""
        (found,) = [p for p in self.processes if p.name == "all" or name in p.name.split(",")]
        return found

    @property
    def process(self) -> Process | None:
        """The process with all roles, or in a cluster the API's; `None` while the cloud is down."""
        running = [p for p in self.processes if p.popen]
        return running[0] if running else None

    @property
    def pids(self) -> set[int]:
        return {p.pid for p in self.processes if p.popen}

    @property
    def mark(self) -> str | None:
        """The cloud's id, which is in the names of what it makes on the machine."""
        return self.variables.get("CUMULET_CLOUD") or host.cloud_id(self.state)

    def start(self, timeout: float = 60.0, **variables: str) -> "Cloud":
        """Starts what does not run, and waits until it serves."""
        if self.cluster:
            self._start_cluster(timeout, variables)
        else:
            self.launch(**variables)
            self.wait_ready(timeout)
        return self

    def _start_cluster(self, timeout: float, variables: dict[str, str]) -> None:
        # What was to die at some point and has not is as new as the rest.
        for process in self.processes:
            if process.popen and process.variables:
                process.stop()
        down = [p for p in self.processes if p.popen is None]
        for process in down:
            if process.name in HOST and "CUMULET_CLOUD" not in self.variables:
                self.variables["CUMULET_CLOUD"] = self.run("admin", "cloud")
            process.launch(self.environment(), variables)
            if process.name == "gateway":
                process.wait_ready(timeout)
        for process in down:
            process.wait_ready(timeout)
        self.wait_hosts(timeout)

    def wait_hosts(self, timeout: float = 60.0) -> None:
        """Waits until a host has been heard of."""
        up = lambda: any(h["alive"] for h in json.loads(self.run("admin", "host", "list", "--json")))  # noqa: E731
        until(up, "a host that is alive", timeout, every=0.1)

    def launch(self, **variables: str) -> None:
        """Starts what does not run, without waiting."""
        assert any(p.popen is None for p in self.processes)
        for process in self.processes:
            if process.popen is None:
                process.launch(self.environment(), variables)

    def wait_ready(self, timeout: float = 60.0) -> None:
        for process in self.processes:
            process.wait_ready(timeout)

    def tail(self, count: int = 4000) -> str:
        if len(self.processes) == 1 and not self.cluster:
            return self.processes[0].tail(count)
        share = count // max(1, len(self.processes))
        return "\n".join(f"---- {p.name}\n{p.tail(share)}" for p in self.processes)

    def text(self) -> str:
        """Everything that was printed."""
        return "".join(p.output.read_text(errors="replace") for p in self.processes if p.output.exists())

    def wait_death(self, timeout: float = 60.0) -> int:
        """Waits for a process to end by itself; its status."""
        dead = until(lambda: next((p for p in self.processes if p.dead), None), "the end of a process", timeout, every=0.02)
        return dead.wait_death(timeout)

    def kill(self) -> None:
        """`kill -9`, of every process."""
        for process in self.processes:
            process.kill()

    def stop(self, timeout: float = 60.0) -> None:
        """An orderly end; guests run on."""
        for process in reversed(self.processes):
            if process.popen:
                process.stop(timeout)

    def restart(self) -> None:
        self.stop()
        self.start()

    def resident_mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024

    # ---- the command line

    def environment(self) -> dict[str, str]:
        """What every program of the tests runs with: nothing of the caller's AWS settings."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        kept = {name: os.environ[name] for name in ("LANG", "TERM", "RUST_LOG", "RUST_BACKTRACE") if name in os.environ}
        return kept | {"PATH": path, "HOME": str(self.home), "CUMULET_FAULTS_ALLOWED": "1"} | self.variables

    def execute(self, *arguments: str, timeout: float = 120.0) -> subprocess.CompletedProcess:
        """A command of the binary on this cloud, whatever its status is."""
        command = [str(self.binary), *arguments, "--state-dir", str(self.state)]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=self.environment())

    def run(self, *arguments: str, timeout: float = 120.0) -> str:
        """The output of a command of the binary that must succeed."""
        done = self.execute(*arguments, timeout=timeout)
        assert done.returncode == 0, f"{arguments[:2]} ended with {done.returncode}: {done.stderr}"
        return done.stdout.strip()

    def env(self) -> dict[str, str]:
        """What `cumulet env` exports, as a shell reads it."""
        pairs = [shlex.split(line) for line in self.run("env").splitlines()]
        assert all(len(pair) == 2 and pair[0] == "export" for pair in pairs), "cumulet env prints exports"
        return dict(assignment.split("=", 1) for _, assignment in pairs)

    def aws(self, *arguments: str, key: Key | None = None, timeout: float = 700.0):
        """The stock AWS CLI: its JSON answer, or None where it prints nothing."""
        done = self.aws_run(*arguments, key=key, timeout=timeout)
        assert done.returncode == 0, f"aws {' '.join(arguments)}: {done.stderr}"
        return json.loads(done.stdout) if done.stdout.strip() else None

    def aws_run(self, *arguments: str, key: Key | None = None, timeout: float = 700.0) -> subprocess.CompletedProcess:
        variables = self.environment() | self.env() | {"AWS_PAGER": "", "AWS_EC2_METADATA_DISABLED": "true"}
        if key is not None:
            variables |= {"AWS_ACCESS_KEY_ID": key.id, "AWS_SECRET_ACCESS_KEY": key.secret}
        command = [str(Path(sys.executable).parent / "aws"), "--output", "json", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=variables)

    # ---- who asks

    @property
    def endpoint(self) -> str:
        return f"http://{self.address}"

    @property
    def key(self) -> Key:
        """The first administrator's."""
        env = self.env()
        return Key(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"])

    @property
    def image(self) -> str:
        self._image = self._image or self.env()["CUMULET_IMAGE"]
        return self._image

    def first_account(self) -> Account:
        key = self.key
        return Account(self, self.client("sts", key).get_caller_identity()["Account"], key)

    def account(self) -> Account:
        """A new account with its administrator: tests that count things share no account."""
        with self._names_lock:
            self._names += 1
            name = f"test-{os.getpid()}-{self._names}"
        number = self.run("account", "create", name)
        self._ensure_admin(number)
        return Account(self, number, Key(*self.run("access-key", "create", "--account", number).split()))

    def _ensure_admin(self, number: str) -> None:
        users = self.run("user", "list", "--account", number)
        if not any(line.split()[-1] == "admin" for line in users.splitlines()):
            self.run("user", "create", "--account", number, "admin")

    def client(self, service: str = "ec2", key: Key | None = None, door: str = ""):
        """A boto3 client that checks every answer and retries none."""
        key, door = key or self.key, door or self.endpoint
        with _session_lock:
            if (service, key.id, door) not in self._clients:
                client = _session.client(
                    service,
                    region_name="us-east-1",
                    endpoint_url=door,
                    aws_access_key_id=key.id,
                    aws_secret_access_key=key.secret,
                    config=Config(
                        retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=60, max_pool_connections=64
                    ),
                )
                model_check.attach(client)
                self._clients[service, key.id, door] = client
            return self._clients[service, key.id, door]

    # ---- how it is

    def audit(self) -> dict:
        """The audit's report; its exit status must say the same."""
        done = self.execute("audit", "--json")
        report = json.loads(done.stdout)
        assert done.returncode == (0 if not report["differences"] else 1), done.stderr
        return report

    def wait_clean(self, timeout: float = 30.0) -> dict:
        """Waits until database and host agree."""

        def clean():
            report = self.audit()
            assert report["differences"] == []
            return report

        return until(clean, "a clean audit", timeout, every=0.5)

    # ---- the end

    def __enter__(self) -> "Cloud":
        try:
            return self.start()
        except BaseException:
            # What `with` has not entered it does not end.
            self._remove()
            raise

    def __exit__(self, kind, *_) -> None:
        self.close(check=kind is None)

    def close(self, check: bool = True) -> None:
        """Ends everything, and says what would have been left."""
        problems = []
        try:
            for process in self.processes:
                if process.dead:
                    problems.append(f"{process.name} ended by itself with {process.wait_death(1)}:\n{process.tail()}")
            # With real guests it has to come back, to end them.
            if any(p.popen is None for p in self.processes) and self.state.exists() and self.driver != "fake":
                self.start()
            if self.process:
                problems += self._finish()
        finally:
            problems += self._remove()
        assert not check or not problems, f"left behind: {problems}"

    def _remove(self) -> list[str]:
        """Ends the process where it still runs and takes away all that there is; what was left."""
        self.kill()
        left = host.leftovers(self.state, self.mark) if self.driver != "fake" else []
        host.remove(self.state, left)
        for client in self._clients.values():
            client.close()
        shutil.rmtree(self.home, ignore_errors=True)
        for port in self._ports:
            port.free()
        return left

    def _finish(self) -> list[str]:
        secrets = [self.key.secret]
        problems = []
        if self.driver != "fake":
            self.terminate_all()
            try:
                self.wait_clean()
            except AssertionError as error:
                problems.append(str(error))
        self.stop()
        text = self.text()
        problems += [f"a secret is in the log ({s[:4]}…)" for s in secrets if s in text]
        problems += [line for line in text.splitlines() if "panicked at" in line]
        return problems

    def terminate_all(self) -> None:
        """Ends the instances of every account."""
        for line in self.run("account", "list").splitlines():
            number = line.split()[0]
            key = Key(*self.run("access-key", "create", "--account", number).split())
            ec2 = self.client("ec2", key)
            pages = ec2.get_paginator("describe_instances").paginate()
            found = [i for page in pages for r in page["Reservations"] for i in r["Instances"]]
            ids = [i["InstanceId"] for i in found if i["State"]["Name"] != "terminated"]
            for instance in ids:
                off = {"Value": False}
                ec2.modify_instance_attribute(InstanceId=instance, DisableApiTermination=off)
            if ids:
                ec2.terminate_instances(InstanceIds=ids)
                ec2.get_waiter("instance_terminated").wait(
                    InstanceIds=ids, WaiterConfig={"Delay": 1, "MaxAttempts": 120}
                )
            self._delete_volumes(ec2)

    def _delete_volumes(self, ec2) -> None:
        """Ends what outlives instances."""
        free = [{"Name": "status", "Values": ["available"]}]
        pages = ec2.get_paginator("describe_volumes").paginate(Filters=free)
        for volume in [volume["VolumeId"] for page in pages for volume in page["Volumes"]]:
            ec2.delete_volume(VolumeId=volume)

