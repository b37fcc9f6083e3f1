"""Signature version 4, written out so that a test can break any one part of it; and requests as raw as needed."""

import hashlib
import hmac
import http.client
import re
import socket
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from io import BytesIO
from urllib.parse import quote
from xml.etree import ElementTree

from .cloud import Cloud, Key

FORM = "application/x-www-form-urlencoded; charset=utf-8"
VERSION = "2016-11-15"


@dataclass
class Answer:
    """What came back."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def code(self) -> str:
        """The error code, or `ok`."""
        if self.status == 200:
            return "ok"
        found = re.search(r"<Code>([^<]*)</Code>", self.text)
        return found[1] if found else f"no code: {self.text[:200]}"

    @property
    def message(self) -> str:
        return next(e.text or "" for e in ElementTree.fromstring(self.body).iter() if e.tag.endswith("Message"))

    def error(self) -> tuple[str, int]:
        return self.code, self.status


def form(parameters: dict | list) -> bytes:
    """Parameters as a form; values may be bytes."""
    pairs = parameters.items() if isinstance(parameters, dict) else parameters
    return "&".join(f"{quote(k, safe='-._~')}={quote(str(v) if isinstance(v, int) else v, safe='-._~')}" for k, v in pairs).encode()


def action(name: str, **parameters) -> dict:
    """An EC2 request's parameters; `__` in a name stands for the dots of the wire."""
    return {"Action": name, "Version": VERSION} | {k.replace("__", "."): v for k, v in parameters.items()}


@dataclass
class Signer:
    """A correct signature, but for what a test overrides."""

    key: Key
    service: str = "ec2"
    region: str = "us-east-1"
    offset: timedelta = timedelta()
    scope_date: str | None = None
    signed: list[str] | None = None
    payload: str | None = None
    algorithm: str = "AWS4-HMAC-SHA256"
    expires: str = "300"
    break_signature: bool = False
    token: str | None = None
    now: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    def but(self, **changes) -> "Signer":
        return replace(self, now=datetime.now(timezone.utc), **changes)

    @property
    def stamp(self) -> str:
        return (self.now + self.offset).strftime("%Y%m%dT%H%M%SZ")

    @property
    def scope(self) -> str:
        return f"{self.scope_date or self.stamp[:8]}/{self.region}/{self.service}/aws4_request"

    def signature(self, method: str, path: str, query: str, headers: dict, names: list[str], body: bytes) -> str:
        lower = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
        canonical_headers = "".join(f"{name}:{lower.get(name, '')}\n" for name in names)
        payload = self.payload or hashlib.sha256(body).hexdigest()
        pairs = "&".join(sorted(query.split("&"))) if query else ""
        canonical = "\n".join([method, path, pairs, canonical_headers, ";".join(names), payload])
        to_sign = "\n".join([self.algorithm, self.stamp, self.scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = b"AWS4" + self.key.secret.encode()
        for part in [*self.scope.split("/")[:3], "aws4_request"]:
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        made = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
        return made[:-1] + ("0" if made[-1] != "0" else "1") if self.break_signature else made

    def headers(self, host: str, body: bytes, method: str = "POST", path: str = "/", query: str = "", more=None) -> dict:
        """The headers of a request that is signed in its Authorization header."""
        headers = {"Host": host, "Content-Type": FORM, "X-Amz-Date": self.stamp} | (more or {})
        if self.token:
            headers["X-Amz-Security-Token"] = self.token
        names = self.signed if self.signed is not None else sorted(name.lower() for name in headers)
        signature = self.signature(method, path, query, headers, names, body)
        credential = f"Credential={self.key.id}/{self.scope}"
        authorization = f"{self.algorithm} {credential}, SignedHeaders={';'.join(names)}, Signature={signature}"
        return headers | {"Authorization": authorization}

    def presigned(self, host: str, parameters: dict | list) -> str:
        """The query of a GET request that is signed in it."""
        pairs = list(parameters.items() if isinstance(parameters, dict) else parameters) + [
            ("X-Amz-Algorithm", self.algorithm),
            ("X-Amz-Credential", f"{self.key.id}/{self.scope}"),
            ("X-Amz-Date", self.stamp),
            ("X-Amz-Expires", self.expires),
            ("X-Amz-SignedHeaders", ";".join(self.signed or ["host"])),
        ]
        query = form(pairs).decode()
        signature = self.signature("GET", "/", query, {"Host": host}, self.signed or ["host"], b"")
        return f"{query}&X-Amz-Signature={signature}"


class Raw:
    """Requests to a cloud that no library has been over."""

    def __init__(self, cloud: Cloud, key: Key) -> None:
        self.cloud, self.signer = cloud, Signer(key)

    def send(self, method: str, target: str, headers: dict | list, body: bytes = b"", timeout: float = 30.0) -> Answer:
        """One request with exactly these headers (and the length of its body)."""
        connection = http.client.HTTPConnection(self.cloud.address, timeout=timeout)
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            pairs = list(headers.items() if isinstance(headers, dict) else headers)
            if not any(name.lower() in ("content-length", "transfer-encoding") for name, _ in pairs):
                pairs.append(("Content-Length", str(len(body))))
            for name, value in pairs:
                connection.putheader(name, value)
            connection.endheaders()
            try:
                connection.send(body)
            except (BrokenPipeError, ConnectionResetError):
                pass  # refused before all of it was read
            return answer_of(connection.getresponse())
        finally:
            connection.close()

    def post(self, parameters: dict | list | bytes, signer: Signer | None = None, *, path="/", query="", headers=None) -> Answer:
        """A POST signed in its header; `headers` are sent and not signed."""
        body = parameters if isinstance(parameters, bytes) else form(parameters)
        signer = signer or self.signer.but()
        signed = signer.headers(self.cloud.address, body, path=path, query=query)
        return self.send("POST", path + (f"?{query}" if query else ""), signed | (headers or {}), body)

    def get(self, parameters: dict | list, signer: Signer | None = None) -> Answer:
        """A presigned GET."""
        query = (signer or self.signer.but()).presigned(self.cloud.address, parameters)
        return self.send("GET", f"/?{query}", {"Host": self.cloud.address})

    def bytes(self, data: bytes, timeout: float = 30.0) -> Answer:
        """Whatever is on the line."""
        host, port = self.cloud.address.split(":")
        with socket.create_connection((host, int(port)), timeout) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            received = b""
            while part := connection.recv(65536):
                received += part
        response = http.client.HTTPResponse(FakeSocket(received))
        response.begin()
        return answer_of(response)


class FakeSocket:
    """Bytes that http.client reads as a connection."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def makefile(self, *_, **__) -> BytesIO:
        return BytesIO(self.data)


def answer_of(response: http.client.HTTPResponse) -> Answer:
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, response.read(), headers)
