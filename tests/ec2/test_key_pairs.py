"""Key pairs: made here or brought along, their fingerprints as EC2 computes them."""

import base64
import hashlib
import re
import subprocess
from pathlib import Path

import pytest

from harness.cloud import Account
from harness.ec2 import error_of, filters, refused
from harness.guest import ssh_key


def shell(*words: str, data: bytes = b"") -> bytes:
    return subprocess.run(words, input=data, check=True, capture_output=True).stdout


def colons(digest: str) -> str:
    return ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))


def test_an_rsa_key(ec2, key_folder: Path):
    made = ec2.create_key_pair(KeyName="k")
    pem = made["KeyMaterial"]
    # euca-get-password and old tools read this form only.
    assert pem.startswith("-----BEGIN RSA PRIVATE KEY-----\n") and re.fullmatch(r"key-0[0-9a-f]{16}", made["KeyPairId"])
    der = shell("openssl", "pkcs8", "-topk8", "-nocrypt", "-outform", "DER", data=pem.encode())
    assert made["KeyFingerprint"] == colons(hashlib.sha1(der).hexdigest())
    path = key_folder / "k.pem"
    path.write_text(pem)
    path.chmod(0o600)
    (row,) = ec2.describe_key_pairs(IncludePublicKey=True)["KeyPairs"]
    assert row["PublicKey"].split()[:2] == shell("ssh-keygen", "-y", "-f", str(path)).decode().split()[:2]
    assert (row["KeyType"], row["KeyFingerprint"]) == ("rsa", made["KeyFingerprint"]) and row["CreateTime"]
    assert "PublicKey" not in ec2.describe_key_pairs()["KeyPairs"][0]


def test_an_ed25519_key(ec2, key_folder: Path):
    made = ec2.create_key_pair(KeyName="k", KeyType="ed25519")
    path = key_folder / "k"
    path.write_text(made["KeyMaterial"])
    path.chmod(0o600)
    public = shell("ssh-keygen", "-y", "-f", str(path)).decode()
    digest = hashlib.sha256(base64.b64decode(public.split()[1])).digest()
    assert public.startswith("ssh-ed25519 ") and made["KeyFingerprint"] == base64.b64encode(digest).decode()


def test_an_imported_rsa_key(ec2, key_folder: Path):
    path = key_folder / "id"
    shell("ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", str(path))
    made = ec2.import_key_pair(KeyName="k", PublicKeyMaterial=path.with_suffix(".pub").read_bytes())
    der = shell("openssl", "pkey", "-pubout", "-outform", "DER", data=as_pem(path))
    assert made["KeyFingerprint"] == colons(hashlib.md5(der).hexdigest()) and "KeyMaterial" not in made


def as_pem(path: Path) -> bytes:
    copy = path.with_name("pem")
    copy.write_bytes(path.read_bytes())
    copy.chmod(0o600)
    shell("ssh-keygen", "-q", "-p", "-m", "PEM", "-N", "", "-f", str(copy))
    return copy.read_bytes()


def test_an_imported_ed25519_key(ec2, key_folder: Path):
    _, public = ssh_key(key_folder)
    ec2.import_key_pair(KeyName="k", PublicKeyMaterial=public)
    (row,) = ec2.describe_key_pairs(KeyNames=["k"], IncludePublicKey=True)["KeyPairs"]
    assert row["KeyType"] == "ed25519" and row["PublicKey"].split()[1] == public.decode().split()[1]


@pytest.mark.parametrize(
    "material",
    [
        b"nonsense", b"", b"ssh-dss AAAAB3NzaC1kc3M=", b"ssh-rsa AAAA", b"-----BEGIN RSA PRIVATE KEY-----\nMIIE\n",
        b"ssh-ed25519 " + b"A" * 20000,
    ],
)  # fmt: skip
def test_what_is_no_public_key(ec2, material):
    expected = "InvalidKey.Format" if material else "MissingParameter"
    assert error_of(ec2.import_key_pair, KeyName="k", PublicKeyMaterial=material) == (expected, 400)
    assert ec2.describe_key_pairs()["KeyPairs"] == []


def test_names(ec2):
    ec2.create_key_pair(KeyName="k", KeyType="ed25519")
    with refused("InvalidKeyPair.Duplicate", message="'k' already exists"):
        ec2.create_key_pair(KeyName="k", KeyType="ed25519")
    with refused("InvalidParameterValue"):
        ec2.create_key_pair(KeyName="x" * 256, KeyType="ed25519")
    with refused("InvalidParameterValue"):
        ec2.create_key_pair(KeyName="k2", KeyType="dsa")


def test_describe_and_delete(account: Account, ec2):
    ids = {name: ec2.create_key_pair(KeyName=name, KeyType="ed25519")["KeyPairId"] for name in ("a", "b", "c")}
    assert [k["KeyName"] for k in ec2.describe_key_pairs(KeyPairIds=[ids["b"]])["KeyPairs"]] == ["b"]
    assert [k["KeyName"] for k in ec2.describe_key_pairs(Filters=filters(key_name=["a", "c"]))["KeyPairs"]] == ["a", "c"]
    with refused("InvalidKeyPair.NotFound"):
        ec2.describe_key_pairs(KeyNames=["a", "nobody"])
    assert ec2.delete_key_pair(KeyName="a")["KeyPairId"] == ids["a"]
    assert ec2.delete_key_pair(KeyPairId=ids["b"])["Return"]
    # As on EC2: what is not there is deleted already.
    assert ec2.delete_key_pair(KeyName="never was")["Return"]
    assert [k["KeyName"] for k in ec2.describe_key_pairs()["KeyPairs"]] == ["c"]
    with refused("InvalidKeyPair.NotFound"):
        account.cloud.account().ec2.describe_key_pairs(KeyNames=["c"])
