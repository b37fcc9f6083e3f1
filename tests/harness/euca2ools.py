"""Requests as euca2ools 3.4 sends them, of its last source: it is in no registry. And what it reads of answers."""

import hashlib
from xml.etree import ElementTree

from .cloud import Cloud
from .signing import Answer, Raw, form

VERSION = "2015-10-01"
SIGNED = ["accept", "accept-encoding", "content-length", "content-type", "host", "x-amz-content-sha256", "x-amz-date"]
NAMESPACE = f"{{http://ec2.amazonaws.com/doc/{VERSION}/}}"


def euca(cloud: Cloud, raw: Raw, name: str, path: str = "/", region: str = "undefined-123", **parameters: str) -> Answer:
    """One request of `requestbuilder`'s HmacV4Auth."""
    pairs = {"Action": name, "Version": VERSION} | {k.replace("__", "."): v for k, v in parameters.items()}
    body = form(pairs)
    more = {
        "Accept": "*/*",
        "Accept-Encoding": "gzip, deflate",
        "Content-Length": str(len(body)),
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Amz-Content-SHA256": hashlib.sha256(body).hexdigest(),
        "User-Agent": "euca2ools/3.4-devel (cli; Linux 5.10) python/2.7 requestbuilder/0.7",
    }
    signer = raw.signer.but(region=region, signed=SIGNED)
    return raw.send("POST", path, signer.headers(cloud.address, body, path=path, more=more), body)


def tree(answer: Answer) -> ElementTree.Element:
    assert answer.status == 200, answer.text
    return ElementTree.fromstring(answer.body)


def texts(root: ElementTree.Element, path: str) -> list[str]:
    return [e.text for e in root.findall("/".join(NAMESPACE + part for part in path.split("/")))]


def read(root: ElementTree.Element, path: str, *names: str) -> list[dict[str, str | None]]:
    """What the tool reads of each element at a path (`.` is the answer itself); all of it has to be there."""
    rows = []
    for item in root.findall("/".join(part if part == "." else NAMESPACE + part for part in path.split("/"))):
        found = {name: item.find("/".join(NAMESPACE + part for part in name.split("/"))) for name in names}
        missing = [name for name, element in found.items() if element is None]
        assert not missing, f"{missing} of {path}: {ElementTree.tostring(root).decode()}"
        rows.append({name: element.text for name, element in found.items()})
    return rows
