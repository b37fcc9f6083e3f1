"""The commands beside `up`: env, doctor, config, db, image import and its refusals, and two clouds side by side."""

import base64
import hashlib
import json
import os
import re
import struct
import subprocess
import tomllib
from pathlib import Path

import pytest

from harness.cloud import BIN, TINY, Cloud
from harness.ec2 import instances, running, wait


def test_env_is_what_a_shell_needs(fake_cloud: Cloud):
    script = 'eval "$("$0" env --state-dir "$1")" && exec aws ec2 describe-regions --query "Regions[].RegionName" --output text'
    done = subprocess.run(
        ["sh", "-c", script, str(BIN), str(fake_cloud.state)],
        capture_output=True, text=True, env=fake_cloud.environment(), timeout=60,
    )  # fmt: skip
    assert done.stdout.strip() == "us-east-1", done.stderr
    env = fake_cloud.env()
    names = {"AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "CUMULET_IMAGE"}
    assert names <= env.keys() and env["AWS_ENDPOINT_URL"] == fake_cloud.endpoint
    assert re.fullmatch(r"ami-0[0-9a-f]{16}", env["CUMULET_IMAGE"])


@pytest.mark.roles
def test_the_cli_lists_and_waits(fake_cloud: Cloud):
    cloud = fake_cloud
    made = cloud.aws("ec2", "run-instances", "--image-id", cloud.image, "--instance-type", "t3.nano", "--count", "2")
    ids = [i["InstanceId"] for i in made["Instances"]]
    assert cloud.aws("ec2", "wait", "instance-running", "--instance-ids", *ids) is None
    rows = cloud.aws("ec2", "describe-instances", "--instance-ids", *ids, "--query", "Reservations[].Instances[].State.Name")
    assert rows == ["running", "running"]
    dry = cloud.aws_run("ec2", "terminate-instances", "--dry-run", "--instance-ids", *ids)
    assert dry.returncode != 0 and "DryRunOperation" in dry.stderr
    cloud.aws("ec2", "terminate-instances", "--instance-ids", *ids)
    assert cloud.aws("ec2", "wait", "instance-terminated", "--instance-ids", *ids) is None


def test_doctor_names_what_there_is(fake_cloud: Cloud):
    done = fake_cloud.execute("doctor")
    rows = {line.split()[1]: line for line in done.stdout.splitlines() if line.startswith(("ok", "MISSING", "limited", "SLOW", "slow"))}
    assert {"libvirt", "qemu", "acceleration", "nftables", "namespaces", "disk"} <= rows.keys(), done.stdout
    assert done.returncode == (1 if any(line.startswith(("MISSING", "SLOW")) for line in rows.values()) else 0)
    # A /dev/kvm that hangs is not KVM: only a guest that ran says so.
    assert re.search(r"KVM|emulation", rows["acceleration"])


def test_config_documents_every_key_and_is_a_file_itself(fake_cloud: Cloud, tmp_path: Path):
    done = subprocess.run([BIN, "config"], capture_output=True, text=True, check=True)
    keys = re.findall(r"^([a-z0-9_.]+) = ", done.stdout, re.M)
    variables = re.findall(r"^# \$(CUMULET_[A-Z0-9_]+)$", done.stdout, re.M)
    assert len(keys) == len(variables) >= 15 and "libvirt.accel" in keys
    assert variables[keys.index("libvirt.accel")] == "CUMULET_LIBVIRT_ACCEL"
    assert tomllib.loads(done.stdout)["libvirt"]["accel"] == "auto"


def test_wrong_configuration_is_named(tmp_path: Path):
    for text, variables, named in [
        ("colour = 'red'", {}, "log.colour"),
        ("[http]\nworker = 3", {}, 'no key "http.worker" (is "http.workers" meant?)'),
        ("[http]\nworkers = 'many'", {}, "http.workers"),
        ("driver = 'magic'", {}, "magic"),
        ("=", {}, "config.toml"),
        ("", {"CUMULET_FAKE_HOSTS": "0"}, "fake.hosts"),
    ]:
        config = tmp_path / "config.toml"
        config.write_text(text)
        done = subprocess.run(
            [BIN, "up", "--state-dir", tmp_path / "s", "--config", config, "--listen", "127.0.0.1:0"],
            capture_output=True, text=True, timeout=60, env=os.environ | {"CUMULET_DRIVER": "fake"} | variables if "driver" not in text else os.environ,
        )  # fmt: skip
        assert done.returncode == 1 and named in done.stderr, (text, done.stderr)


def test_the_environment_wins_over_the_file():
    with Cloud("fake", 'region = "eu-file-1"\navailability_zone = "eu-file-1a"\n', variables={"CUMULET_REGION": "eu-env-1", "CUMULET_AVAILABILITY_ZONE": "eu-env-1b"}) as cloud:
        ec2 = cloud.client()
        assert [r["RegionName"] for r in ec2.describe_regions()["Regions"]] == ["eu-env-1"]
        assert [z["ZoneName"] for z in ec2.describe_availability_zones()["AvailabilityZones"]] == ["eu-env-1b"]
        assert cloud.env()["AWS_DEFAULT_REGION"] == "eu-env-1"


@pytest.mark.roles
def test_db_status_and_migrate(fake_cloud: Cloud):
    rows = fake_cloud.run("db", "status").splitlines()
    assert len(rows) >= 4 and all(row.startswith("applied") for row in rows)
    assert fake_cloud.run("db", "migrate").splitlines() == rows


def test_a_state_directory_has_one_cloud(fake_cloud: Cloud):
    done = subprocess.run(
        [BIN, "up", "--state-dir", fake_cloud.state, "--driver", "fake", "--listen", "127.0.0.1:0"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1 and "already" in done.stderr


def test_commands_before_the_first_start(tmp_path: Path):
    for command in (["env"], ["audit"], ["image", "list"], ["account", "list"]):
        done = subprocess.run([BIN, *command, "--state-dir", tmp_path / "none"], capture_output=True, text=True)
        assert done.returncode == 1 and "none" in done.stderr and "panicked" not in done.stderr, command


@pytest.mark.one_process
def test_secrets_at_rest_are_sealed(fake_cloud: Cloud):
    secret = fake_cloud.key.secret.encode()
    data = b"a canary among the user data"
    running(fake_cloud.account(), 1, UserData=data.decode())
    looked_at = 0
    for folder, _, names in os.walk(fake_cloud.state):
        for path in (Path(folder, name) for name in names):
            try:
                if not path.is_file() or path.stat().st_size >= 50 << 20:
                    continue
                assert secret not in path.read_bytes(), path
                looked_at += 1
            except FileNotFoundError:  # the cloud runs meanwhile, and what it removes holds nothing
                pass
    assert looked_at >= 3
    database = b"".join(path.read_bytes() for path in fake_cloud.state.glob("cumulet.db*"))
    assert database and data not in database and base64.b64encode(data) not in database
    assert (fake_cloud.state / "master.key").stat().st_mode & 0o777 == 0o600
    assert fake_cloud.state.stat().st_mode & 0o777 == 0o711
    assert (fake_cloud.state / "cumulet.db").stat().st_mode & 0o077 == 0


@pytest.mark.roles
def test_two_clouds_side_by_side():
    with Cloud() as one, Cloud() as other:
        ids = running(one.first_account(), 2)
        assert instances(other.client()) == [] and one.key.id != other.key.id
        assert one.first_account().id != other.first_account().id
        other.stop()
        assert {i["InstanceId"] for i in instances(one.client())} == set(ids)
        other.start()


@pytest.mark.roles
def test_it_answers_again_after_a_restart_with_everything():
    with Cloud() as cloud:
        account = cloud.first_account()
        ids = running(account, 3)
        before = instances(account.ec2, ids)
        cloud.restart()
        assert instances(account.ec2, ids) == before
        assert cloud.wait_clean()["compared"] >= 3


def test_audit_sees_a_difference():
    """An audit that can't fail is none: a guest that the database does not know is found."""
    with Cloud() as cloud:
        running(cloud.first_account(), 2)
        assert cloud.wait_clean()["compared"] >= 2
        cloud.stop()
        (guests,) = cloud.state.glob("hosts/*/guests.json")
        kept = json.loads(guests.read_text().splitlines()[0]) if guests.read_text().startswith("{") else None
        text = guests.read_text()
        guests.write_text("")
        done = cloud.execute("audit")
        assert done.returncode == 1 and "differences" in done.stdout, (kept is not None, done.stdout)
        guests.write_text(text)
        cloud.start()
        cloud.wait_clean()


# ---- image import


def qcow2(path: Path, *options: str, size: str = "16M") -> Path:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *options, str(path), size], check=True)
    return path


def header(path: Path, **fields: int) -> Path:
    """Overwrites fields of a qcow2 header."""
    layout = {"version": (4, ">I"), "backing_offset": (8, ">Q"), "cluster_bits": (20, ">I"), "size": (24, ">Q"),
              "crypt": (32, ">I"), "l1_size": (36, ">I"), "l1_offset": (40, ">Q"), "incompatible": (72, ">Q")}  # fmt: skip
    data = bytearray(path.read_bytes())
    for name, value in fields.items():
        offset, form = layout[name]
        struct.pack_into(form, data, offset, value)
    path.write_bytes(data)
    return path


def cases(folder: Path) -> dict[str, tuple[Path, str, str]]:
    """What must not come in: the file, what it is declared to be, and a word of the reason."""
    secret = folder / "secret"
    secret.write_bytes(b"root:x:0:0" * 1000)
    base = qcow2(folder / "base.qcow2")
    backed = qcow2(folder / "backed.qcow2", "-b", str(base), "-F", "qcow2")
    data_file = folder / "external.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-o", f"data_file={folder}/data.raw,data_file_raw=on", data_file, "16M"],
        check=True,
    )  # fmt: skip
    vmdk, vhd, vdi = folder / "x.vmdk", folder / "x.vhd", folder / "x.vdi"
    for kind, path in (("vmdk", vmdk), ("vpc", vhd), ("vdi", vdi)):
        subprocess.run(["qemu-img", "create", "-q", "-f", kind, path, "16M"], check=True)
    descriptor = folder / "x.desc"
    descriptor.write_text(f'# Disk DescriptorFile\nversion=1\ncreateType="monolithicFlat"\nRW 2048 FLAT "{secret}" 0\n')
    empty, text, short = folder / "empty", folder / "json.raw", folder / "short.qcow2"
    empty.touch()
    text.write_text('json:{"driver":"raw","file":{"driver":"file","filename":"/etc/shadow"}}')
    short.write_bytes(base.read_bytes()[:60])

    # Other formats, and what in them leads out of the file.
    def made(kind: str, name: str, *options: str) -> Path:
        path = folder / name
        subprocess.run(["qemu-img", "create", "-q", "-f", kind, *options, str(path), "16M"], check=True)
        return path

    def edited(path: Path, name: str, old: bytes, new: bytes) -> Path:
        data = path.read_bytes()
        assert old in data, (name, old)
        (folder / name).write_bytes(data.replace(old, new[: len(old)].ljust(len(old))))
        return folder / name

    stream = made("vmdk", "stream.vmdk", "-o", "subformat=streamOptimized")
    flat = made("vmdk", "flat.vmdk", "-o", "subformat=monolithicFlat")
    vhdx = made("vhdx", "x.vhdx")
    child = bytearray(made("vpc", "child.vhd").read_bytes())
    for footer in (0, len(child) - 512):
        struct.pack_into(">I", child, footer + 60, 4)
        child[footer + 64 : footer + 68] = b"\0" * 4
        struct.pack_into(">I", child, footer + 64, ~sum(child[footer : footer + 512]) & 0xFFFFFFFF)
    differencing = folder / "child.vhd"
    differencing.write_bytes(child)
    dirty = folder / "dirty.vhdx"
    dirty.write_bytes(vhdx.read_bytes())
    with dirty.open("r+b") as file:
        for place in (64 << 10, 128 << 10):
            file.seek(place + 100)
            file.write(b"x")

    def changed(name: str, **fields: int) -> Path:
        path = folder / name
        path.write_bytes(base.read_bytes())
        return header(path, **fields)

    return {
        "backing file": (backed, "qcow2", "backing"),
        "backing file, declared raw": (backed, "raw", "qcow2"),
        "external data file": (data_file, "qcow2", ""),
        "a qcow2 declared raw": (base, "raw", "qcow2"),
        "a raw declared qcow2": (secret, "qcow2", "not"),
        "vmdk": (vmdk, "raw", "VMDK"),
        "vmdk descriptor": (descriptor, "raw", "VMDK"),
        "vhd": (vhd, "raw", "VHD"),
        "vdi": (vdi, "raw", "VDI"),
        "json reference": (text, "raw", "reference"),
        "empty": (empty, "raw", "empty"),
        "cut off": (short, "qcow2", "header"),
        "not there": (folder / "nothing", "raw", "nothing"),
        "a directory": (folder, "raw", ""),
        "version 9": (changed("v9", version=9), "qcow2", "version"),
        "encrypted": (changed("crypt", crypt=1), "qcow2", ""),
        "absurd clusters": (changed("clusters", cluster_bits=40), "qcow2", ""),
        "an exabyte": (changed("size", size=1 << 60), "qcow2", ""),
        "a table of a million entries": (changed("l1", l1_size=0x7FFFFFFF), "qcow2", ""),
        "a table beyond the end": (changed("l1far", l1_offset=1 << 40), "qcow2", ""),
        "unknown features": (changed("feature", incompatible=1 << 40), "qcow2", ""),
        "a device": (Path("/dev/zero"), "raw", ""),
        "a qcow2 declared vmdk": (base, "vmdk", "--format qcow2"),
        "a raw declared vhdx": (secret, "vhdx", "--format raw"),
        "a vmdk declared qcow2": (vmdk, "qcow2", "--format vmdk"),
        "a vhd declared vhdx": (vhd, "vhdx", "--format vhd"),
        "a flat vmdk": (flat, "vmdk", "VMDK descriptor"),
        "a descriptor declared vmdk": (descriptor, "vmdk", "VMDK descriptor"),
        "a vmdk with a parent": (edited(vmdk, "p.vmdk", b"parentCID=ffffffff", b"parentCID=00000001"), "vmdk", "parent"),
        "a vmdk with an extent": (edited(vmdk, "e.vmdk", b'"x.vmdk"', b'"/e/pwd"'), "vmdk", "not the file itself"),
        "a stream of another kind": (edited(stream, "k.vmdk", b"streamOptimized", b"monolithicFlat\""), "vmdk", "kind"),
        "a differencing vhd": (differencing, "vhd", "differencing"),
        "a vhdx without a sound header": (dirty, "vhdx", "no sound header"),
        "a vdi declared vmdk": (vdi, "vmdk", "VDI"),
    }


def test_image_import_refuses_what_is_unsafe(fake_cloud: Cloud, tmp_path: Path):
    before = fake_cloud.run("image", "list")
    files = sorted((fake_cloud.state / "images").iterdir())
    for name, (path, declared, reason) in cases(tmp_path).items():
        done = fake_cloud.execute("image", "import", "--name", "no-such", "--format", declared, str(path), timeout=60)
        assert done.returncode == 1 and reason in done.stderr, (name, done.returncode, done.stderr)
        assert "panicked" not in done.stderr, name
    assert fake_cloud.run("image", "list") == before
    assert sorted((fake_cloud.state / "images").iterdir()) == files, "nothing half-imported stays"


KINDS = [
    ("vmdk", "vmdk", "subformat=monolithicSparse"),
    ("vmdk", "vmdk", "subformat=streamOptimized"),
    ("vhd", "vpc", "subformat=fixed,force_size=on"),
    ("vhd", "vpc", "subformat=dynamic,force_size=on"),
    ("vhdx", "vhdx", "subformat=dynamic"),
    ("vhdx", "vhdx", "subformat=fixed"),
]


def test_image_import_converts_other_formats(fake_cloud: Cloud, tmp_path: Path):
    raw = tmp_path / "disk.raw"
    raw.write_bytes(b"\0" * 510 + b"\x55\xaa" + os.urandom(3 << 20) + b"\0" * (5 << 20) + os.urandom(512))
    store, before = fake_cloud.state / "images", set((fake_cloud.state / "images").iterdir())
    made = []
    for number, (format, kind, options) in enumerate(KINDS):
        path = tmp_path / f"{number}.{format}"
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", kind, "-o", options, raw, path], check=True)
        for name in ("one", "two"):
            words = ["image", "import", "--name", f"{name}-{number}", "--format", format, str(path)]
            made.append(fake_cloud.run(*words))
    new = set(store.iterdir()) - before
    # The same disk twice is one file, whichever it came in; no partial one is left.
    assert 1 <= len(new) <= len(KINDS) and all(re.fullmatch("[0-9a-f]{64}", path.name) for path in new), new
    for path in new:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
        subprocess.run(["qemu-img", "compare", "-f", "qcow2", "-F", "raw", path, raw], check=True, capture_output=True)
    listed = [line.split() for line in fake_cloud.run("image", "list").splitlines()]
    assert {line[2] for line in listed if line[0] in made} == {"qcow2"}
    for id in made:
        fake_cloud.run("image", "delete", id)
    assert set(store.iterdir()) == before


def test_image_import_takes_what_is_safe(fake_cloud: Cloud, tmp_path: Path):
    raw = tmp_path / "disk.raw"
    raw.write_bytes(b"\0" * 510 + b"\x55\xaa" + b"\0" * 4096)
    ids = [
        fake_cloud.run("image", "import", "--name", "raw-disk", "--format", "raw", str(raw)),
        fake_cloud.run("image", "import", "--name", "qcow2-disk", "--format", "qcow2", str(qcow2(tmp_path / "a.qcow2"))),
        fake_cloud.run("image", "import", "--name", "compat", str(qcow2(tmp_path / "b.qcow2", "-o", "compat=0.10"))),
    ]
    assert len(set(ids)) == 3
    again = fake_cloud.run("image", "import", "--name", "same-content", "--format", "raw", str(raw))
    fake_cloud.run("image", "delete", ids[0])
    # The content stays as long as another image has it.
    account = fake_cloud.first_account()
    made = running(account, ImageId=again)
    used = fake_cloud.execute("image", "delete", again)
    assert used.returncode == 1 and "in use" in used.stderr
    account.ec2.terminate_instances(InstanceIds=made)
    wait(account, made, "terminated")
    for id in (again, *ids[1:]):
        fake_cloud.run("image", "delete", id)


@pytest.mark.skipif(not TINY.exists(), reason="the tiny guest is not built")
def test_the_tiny_image_is_registered_once():
    with Cloud() as cloud:
        first = cloud.image
        cloud.restart()
        assert cloud.image == first and cloud.run("image", "list").count("cumulet-tiny") == 1


@pytest.mark.one_process
def test_a_cloud_that_does_not_start_leaves_nothing():
    """The harness's own: `with` ends nothing that it could not enter."""
    cloud = Cloud("fake", "listen = 1\nnonsense = true\n")
    with pytest.raises(RuntimeError, match="nonsense"), cloud:
        pass
    assert cloud.process is None and not cloud.home.exists()
    # One that starts too slowly for its deadline is ended too.
    slow = Cloud("fake", variables={"CUMULET_FAKE_LATENCY_MS": "600000"})
    slow.wait_ready = lambda timeout: Cloud.wait_ready(slow, 0)
    with pytest.raises(AssertionError, match="cumulet is ready"), slow:
        pass
    assert slow.process is None and not slow.home.exists()


def test_a_cloud_that_dies_is_not_overlooked():
    cloud = Cloud("fake").start()
    popen = cloud.process.popen
    popen.kill()
    popen.wait()
    with pytest.raises(AssertionError, match="ended by itself with -9"):
        cloud.close()
    assert not cloud.home.exists()
