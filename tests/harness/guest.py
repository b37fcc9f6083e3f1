"""A real guest, looked into from the host: its console, and commands over SSH."""

import shlex
import socket
import subprocess
import tempfile
from pathlib import Path

from .cloud import Account, Cloud
from .ec2 import default_group
from .wait import until

# Under emulation, on two busy processors.
BOOT = 150.0
TINY_READY = "cumulet-tiny ready:"
FAST = {"Delay": 1, "MaxAttempts": 180}


def ssh_key(folder: Path, name: str = "id") -> tuple[Path, bytes]:
    """A fresh ED25519 key pair: the private key's file, and the public key as ImportKeyPair takes it."""
    path = folder / name
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)], check=True, capture_output=True
    )
    return path, path.with_suffix(".pub").read_bytes()


def shell_key(account: Account, folder: Path) -> Path:
    """Opens an account's guests for SSH: a key pair `k`, and the port in its default group. The private key's file."""
    key, public = ssh_key(folder)
    account.ec2.import_key_pair(KeyName="k", PublicKeyMaterial=public)
    allow(account, default_group(account.ec2), "tcp", (22, 22))
    return key


class Guest:
    """One instance, its address and the key that opens it."""

    def __init__(self, account: Account, instance: str, key: Path, user: str = "root") -> None:
        self.account, self.id, self.key, self.user = account, instance, key, user
        self._control: Path | None = None

    @property
    def cloud(self) -> Cloud:
        return self.account.cloud

    @property
    def ec2(self):
        return self.account.ec2

    def describe(self) -> dict:
        return self.ec2.describe_instances(InstanceIds=[self.id])["Reservations"][0]["Instances"][0]

    @property
    def state(self) -> str:
        return self.describe()["State"]["Name"]

    @property
    def private(self) -> str:
        return self.describe()["PrivateIpAddress"]

    @property
    def public(self) -> str:
        return self.describe()["PublicIpAddress"]

    def wait_state(self, name: str, timeout: float = 90.0) -> dict:
        def there():
            seen = self.describe()
            assert seen["State"]["Name"] == name, seen["State"]["Name"]
            return seen

        return until(there, f"{self.id} is {name}", timeout)

    # ---- the console

    def console(self) -> str:
        return self.ec2.get_console_output(InstanceId=self.id).get("Output", "")

    def wait_console(self, text: str, count: int = 1, timeout: float = BOOT) -> str:
        """The console's text, once `text` is in it `count` times."""

        def there():
            console = self.console()
            assert console.count(text) >= count, console[-1500:]
            return console

        return until(there, f"{text!r} on the console of {self.id} ({count})", timeout, every=0.5)

    # ---- SSH

    def ssh_command(self, command: str, connect: int = 8) -> list[str]:
        options = {
            "BatchMode": "yes", "StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null", "LogLevel": "ERROR",
            "ConnectTimeout": str(connect), "IdentitiesOnly": "yes", "ServerAliveInterval": "5",
            # A guest under emulation is not heard for a while when all processors are busy.
            "ServerAliveCountMax": "12",
        }  # fmt: skip
        words = ["ssh", "-F", "none", "-i", str(self.key)]
        for name, value in options.items():
            words += ["-o", f"{name}={value}"]
        if self._control:
            words += ["-S", str(self._control)]
        return [*words, f"{self.user}@{self.public}", command]

    def ssh(self, command: str, check: bool = True, timeout: float = 60.0) -> str:
        """Runs a shell command in the guest."""
        done = subprocess.run(
            self.ssh_command(command), capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL
        )
        assert not check or done.returncode == 0, f"{command!r} in {self.id}: {done.returncode} {done.stderr}"
        return done.stdout.strip()

    def try_ssh(self, command: str) -> str | None:
        """The same, or None when it fails."""
        done = subprocess.run(self.ssh_command(command, connect=3), capture_output=True, text=True, timeout=60)
        return done.stdout.strip() if done.returncode == 0 else None

    def wait_ssh(self, timeout: float = BOOT) -> "Guest":
        """Waits for the SSH server; later commands share one connection."""
        assert until(lambda: self.try_ssh("echo works"), f"ssh to {self.id}", timeout, every=0.5) == "works"
        self._control = Path(tempfile.mkdtemp(prefix="ssh-", dir="/tmp")) / "c"
        subprocess.run(
            [*self.ssh_command("true")[:-2], "-M", "-f", "-N", f"{self.user}@{self.public}"],
            check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60,
        )  # fmt: skip
        return self

    def hang_up(self) -> None:
        """Ends the shared connection; the next command makes its own."""
        if self._control:
            gone = ["ssh", "-F", "none", "-S", str(self._control), "-O", "exit", "guest"]
            subprocess.run(gone, capture_output=True, timeout=20)
            self._control.unlink(missing_ok=True)
            self._control.parent.rmdir()
            self._control = None

    def uptime(self) -> float:
        return float(self.ssh("cat /proc/uptime").split()[0])

    def seconds(self, command: str) -> float:
        """How long a command takes, by the guest's own clock."""
        before, after = self.ssh(f"cut -d' ' -f1 /proc/uptime; {command}; cut -d' ' -f1 /proc/uptime", timeout=120).split()
        return float(after) - float(before)

    # ---- packets

    def can_connect(self, address: str, port: int, timeout: int = 4) -> bool:
        """Whether a TCP connection out of this guest is answered."""
        probe = f"echo | timeout {timeout} nc -w {timeout} {shlex.quote(address)} {port} >/dev/null 2>&1; echo $?"
        return self.ssh(probe) == "0"

    def can_ping(self, address: str) -> bool:
        return self.ssh(f"ping -c 1 -W 3 {address} >/dev/null 2>&1; echo $?") == "0"


def reachable(address: str, port: int, timeout: float = 4.0) -> bool:
    """Whether a TCP connection from the host is accepted."""
    try:
        socket.create_connection((address, port), timeout).close()
        return True
    except OSError:
        return False


def launch(account: Account, key: Path, key_name: str, count: int = 1, user: str = "root", **more) -> list[Guest]:
    """Real guests of the tiny image, accepted and on their way."""
    wanted = {"ImageId": account.cloud.image, "InstanceType": "t2.nano"} | more
    made = account.ec2.run_instances(MinCount=count, MaxCount=count, KeyName=key_name, **wanted)
    return [Guest(account, instance["InstanceId"], key, user) for instance in made["Instances"]]


def terminate(account: Account, *guests: Guest) -> None:
    """Ends guests and waits for their end."""
    for guest in guests:
        guest.hang_up()
    ids = [guest.id for guest in guests]
    account.ec2.terminate_instances(InstanceIds=ids)
    account.ec2.get_waiter("instance_terminated").wait(InstanceIds=ids, WaiterConfig=FAST)


def allow(account: Account, group: str, protocol: str, ports: tuple[int, int], cidr: str = "0.0.0.0/0") -> None:
    """Lets something into a group."""
    rule = {"IpProtocol": protocol, "FromPort": ports[0], "ToPort": ports[1], "IpRanges": [{"CidrIp": cidr}]}
    account.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[rule])
