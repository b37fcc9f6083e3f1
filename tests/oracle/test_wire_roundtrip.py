"""The wire codec against botocore's own serializer and parser.

Random requests go through botocore's serializer into our decoder; random results go through our
writer into botocore's parser; both must come out as they went in.

CUMULET_ROUNDTRIP is the example `roundtrip` of the crate cumulet-wire, built with the feature
`oracle`; scripts/test builds it. CUMULET_ROUNDTRIP_SEED and _COUNT change the values.
"""

import base64
import datetime
import json
import os
import pathlib
import random
import subprocess
import tomllib
import urllib.parse
import xml.etree.ElementTree as ElementTree

import botocore
import botocore.parsers
import botocore.serialize
import botocore.session
import pytest

from harness.cloud import CACHE

ROOT = pathlib.Path(__file__).parents[2]
VERSION = "1.44.5"
SEED = int(os.environ.get("CUMULET_ROUNDTRIP_SEED", "20161115"))
COUNT = int(os.environ.get("CUMULET_ROUNDTRIP_COUNT", "60"))
MANIFEST = tomllib.loads((ROOT / "models/actions.toml").read_text())
PATCHES = tomllib.loads((ROOT / "models/patches.toml").read_text())
KEEP_EMPTY = {entry["member"] for entry in PATCHES["keep_empty"]}
ALPHABET = "abcXYZ019 -_./:;=&<>\"'%+#?\\*{}[]|~\t\n\ré東京\U0001F600"

SESSION = botocore.session.Session()
SERVICES = {name: SESSION.get_service_model(name) for name in MANIFEST}
JSON = [(service, name) for service in MANIFEST for name in MANIFEST[service] if SERVICES[service].protocol == "json"]
OPERATIONS = [pair for service in MANIFEST for name in MANIFEST[service] if (pair := (service, name)) not in JSON]


def reach(shape, seen):
    if shape is None or shape.name in seen:
        return seen
    if shape.type_name == "structure":
        seen.add(shape.name)
        for member in shape.members.values():
            reach(member, seen)
    elif shape.type_name == "list":
        reach(shape.member, seen)
    return seen


# A shape of both is read under its names in requests and written under its names in responses, wherever
# it stands; the example can't do otherwise.
REQUEST_SHAPES = {service: set() for service in MANIFEST}
RESPONSE_SHAPES = {service: set() for service in MANIFEST}
for service, name in OPERATIONS:
    reach(SERVICES[service].operation_model(name).input_shape, REQUEST_SHAPES[service])
    reach(SERVICES[service].operation_model(name).output_shape, RESPONSE_SHAPES[service])


class Generator:
    """Random values of a shape; never an empty structure or list, which have no form on the wire."""

    def __init__(self, seed, keep_empty):
        self.random = random.Random(seed)
        self.keep_empty = keep_empty

    def value(self, shape, path="", depth=0):
        return getattr(self, shape.type_name)(shape, path, depth)

    def structure(self, shape, path, depth):
        keep = 0.9 if depth == 0 else 0.5 if depth < 3 else 0.25
        required = set(shape.required_members)
        names = [n for n in shape.members if n in required or self.random.random() < keep]
        names = names or [self.random.choice(list(shape.members))] if shape.members else []
        return {n: self.value(shape.members[n], f"{shape.name}.{n}", depth + 1) for n in names}

    def list(self, shape, path, depth):
        # Sometimes more than nine, so that indices sorted as text would be found out.
        count = 12 if depth <= 1 and self.random.random() < 0.15 else self.random.randint(1, 3)
        return [self.value(shape.member, "", depth + 1) for _ in range(count)]

    def string(self, shape, path, depth):
        least = 0 if path in self.keep_empty else 1
        return "".join(self.random.choices(ALPHABET, k=self.random.randint(least, 12)))

    def boolean(self, shape, path, depth):
        return self.random.random() < 0.5

    def integer(self, shape, path, depth):
        return self.random.choice([0, 1, -1, 2**31 - 1, -(2**31), self.random.randint(0, 70000)])

    def long(self, shape, path, depth):
        return self.random.choice([0, -1, 2**63 - 1, -(2**63), self.random.randint(0, 2**40)])

    def double(self, shape, path, depth):
        return self.random.choice([0.0, 1.5, -2.25, 3.1, 1e-7, 123456789.125])

    float = double

    def timestamp(self, shape, path, depth):
        seconds, ms = self.random.randint(0, 4_000_000_000), self.random.choice([0, 1, 678, 999])
        start = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
        return start + datetime.timedelta(seconds=seconds, milliseconds=ms)

    def map(self, shape, path, depth):
        return {self.value(shape.key): self.value(shape.value, "", depth + 1) for _ in range(self.random.randint(1, 3))}

    def blob(self, shape, path, depth):
        return self.random.randbytes(self.random.randint(1, 40))


def query_name(member, name, protocol):
    if protocol == "ec2":
        serialization = member.serialization
        if "queryName" in serialization:
            return serialization["queryName"]
        if "name" in serialization:
            return serialization["name"][0].upper() + serialization["name"][1:]
        return name
    return member.serialization.get("name", name)


def flatten(shape, value, prefix, service, out):
    """A result as form data: what our side reads to have something to write."""
    protocol = SERVICES[service].protocol
    if shape.type_name == "structure":
        for name, inner in value.items():
            member = shape.members[name]
            if shape.name in REQUEST_SHAPES[service]:
                wire = query_name(member, name, protocol)
            else:
                wire = member.serialization.get("name", name)
            flatten(member, inner, f"{prefix}.{wire}" if prefix else wire, service, out)
    elif shape.type_name == "list":
        dot = ".member" if protocol == "query" else ""
        for index, inner in enumerate(value, 1):
            flatten(shape.member, inner, f"{prefix}{dot}.{index}", service, out)
    else:
        out[prefix] = text_of(shape, value)


def text_of(shape, value):
    if shape.type_name == "boolean":
        return "true" if value else "false"
    if shape.type_name == "timestamp":
        return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if shape.type_name == "blob":
        return base64.b64encode(value).decode()
    return str(value)


def unflatten(shape, element, service):
    """What our side understood of a request, read back from the XML that it shows."""
    if shape.type_name == "structure":
        if shape.name in RESPONSE_SHAPES[service]:
            names = {m.serialization.get("name", n): n for n, m in shape.members.items()}
        else:
            protocol = SERVICES[service].protocol
            names = {query_name(m, n, protocol): n for n, m in shape.members.items()}
        found = {}
        for child in element:
            name = names.get(child.tag)
            if name is None:
                # A member that only a patch has; the requests here never carry one.
                assert not child.text and not len(child), f"{child.tag} is not of {shape.name}"
                continue
            found[name] = unflatten(shape.members[name], child, service)
        return found
    if shape.type_name == "list":
        return [unflatten(shape.member, child, service) for child in element]
    text = element.text or ""
    convert = {
        "boolean": lambda: {"true": True, "false": False}[text],
        "integer": lambda: int(text),
        "long": lambda: int(text),
        "double": lambda: float(text),
        "float": lambda: float(text),
        "blob": lambda: base64.b64decode(text, validate=True),
        "timestamp": lambda: datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(
            tzinfo=datetime.timezone.utc
        ),
    }
    return convert.get(shape.type_name, lambda: text)()


def without_empty_lists(value):
    """An empty list and none are the same on the wire."""
    if isinstance(value, dict):
        return {k: without_empty_lists(v) for k, v in value.items() if v != []}
    if isinstance(value, list):
        return [without_empty_lists(v) for v in value]
    return value


@pytest.fixture(scope="session")
def program():
    assert botocore.__version__ == VERSION, f"the oracle is botocore {VERSION}"
    built = pathlib.Path(os.environ.get("CUMULET_ROUNDTRIP", CACHE / "target/debug/examples/roundtrip"))
    assert built.exists(), f"{built} is not built; run scripts/test"
    return [built]


def run(program, lines):
    data = "".join(line + "\n" for line in lines).encode()
    done = subprocess.run(program, cwd=ROOT, input=data, stdout=subprocess.PIPE, check=True, timeout=300)
    rest, answers = done.stdout, []
    while rest:
        head, _, rest = rest.partition(b"\n")
        status, length = head.split()
        answers.append((status.decode(), rest[: int(length)]))
        rest = rest[int(length) + 1 :]
    assert len(answers) == len(lines)
    return answers


def values(shape, service, salt):
    generator = Generator(f"{SEED}/{salt}", KEEP_EMPTY if service == "ec2" else set())
    return [generator.value(shape) for _ in range(COUNT)]


def shuffled(pairs, salt):
    """The order of parameters means nothing."""
    pairs = list(pairs)
    random.Random(f"{SEED}/{salt}").shuffle(pairs)
    return urllib.parse.urlencode(pairs)


@pytest.mark.parametrize(("service", "name"), OPERATIONS, ids=[name for _, name in OPERATIONS])
def test_requests(program, service, name):
    operation = SERVICES[service].operation_model(name)
    protocol = SERVICES[service].protocol
    serializer = botocore.serialize.create_serializer(protocol, include_validation=False)
    given = values(operation.input_shape, service, name)
    lines = []
    for index, params in enumerate(given):
        body = serializer.serialize_to_request(params, operation)["body"]
        lines.append(f"request\t{service}\t{name}\t{shuffled(body.items(), index)}")
    for params, line, (status, xml) in zip(given, lines, run(program, lines)):
        assert status == "ok", f"{xml.decode()}: {line}"
        understood = unflatten(operation.input_shape, ElementTree.fromstring(xml), service)
        assert without_empty_lists(understood) == params, line


@pytest.mark.parametrize(("service", "name"), OPERATIONS, ids=[name for _, name in OPERATIONS])
def test_responses(program, service, name):
    operation = SERVICES[service].operation_model(name)
    parser = botocore.parsers.create_parser(SERVICES[service].protocol)
    shape = operation.output_shape
    given = values(shape, service, name) if shape else [{}]
    lines = []
    for index, result in enumerate(given):
        form = {}
        if shape:
            flatten(shape, result, "", service, form)
        lines.append(f"response\t{service}\t{name}\t{shuffled(form.items(), index)}")
    for result, line, (status, xml) in zip(given, lines, run(program, lines)):
        assert status == "ok", f"{xml.decode()}: {line}"
        root = ElementTree.fromstring(xml)
        metadata = SERVICES[service].metadata
        assert root.tag == "{%s}%sResponse" % (metadata["xmlNamespace"].rstrip("/") + "/", name)
        parsed = parser.parse({"status_code": 200, "headers": {}, "body": xml}, shape)
        assert parsed.pop("ResponseMetadata")["RequestId"], line
        assert without_empty_lists(parsed) == result, line
        if shape is None:
            assert [child.text for child in root] == ["00000000-0000-4000-8000-000000000000", "true"]


@pytest.mark.parametrize("name", [n for s, n in OPERATIONS if s == "ec2" and SERVICES[s].operation_model(n).output_shape])
def test_empty_results_have_their_lists(program, name):
    shape = SERVICES["ec2"].operation_model(name).output_shape
    optional = {entry["member"] for entry in PATCHES["optional_lists"]}
    [(status, xml)] = run(program, [f"response\tec2\t{name}\t"])
    assert status == "ok"
    parsed = botocore.parsers.create_parser("ec2").parse({"status_code": 200, "headers": {}, "body": xml}, shape)
    lists = {n for n, m in shape.members.items() if m.type_name == "list"}
    assert {n for n, value in parsed.items() if value == []} == {
        n for n in lists if f"{shape.name}.{n}" not in optional
    }


@pytest.mark.parametrize(("service", "name"), JSON, ids=[name for _, name in JSON])
def test_requests_of_json(program, service, name):
    """What botocore sends is understood, and written again as it was."""
    operation = SERVICES[service].operation_model(name)
    serializer = botocore.serialize.create_serializer("json", include_validation=False)
    bodies = []
    for params in values(operation.input_shape, service, name):
        request = serializer.serialize_to_request(params, operation)
        assert request["headers"]["X-Amz-Target"] == f"{SERVICES[service].metadata['targetPrefix']}.{name}"
        bodies.append(request["body"].decode())
    lines = [f"request\t{service}\t{name}\t{body}" for body in bodies]
    for body, (status, text) in zip(bodies, run(program, lines)):
        assert status == "ok", f"{text.decode()}: {body}"
        assert without_empty_lists(json.loads(text)) == json.loads(body)


def seconds(moment):
    """A moment as JSON has it."""
    return moment.timestamp()


@pytest.mark.parametrize(("service", "name"), JSON, ids=[name for _, name in JSON])
def test_responses_of_json(program, service, name):
    operation = SERVICES[service].operation_model(name)
    parser = botocore.parsers.create_parser("json")
    given = values(operation.output_shape, service, name)
    lines = [f"response\t{service}\t{name}\t{json.dumps(result, default=seconds)}" for result in given]
    for result, line, (status, text) in zip(given, lines, run(program, lines)):
        assert status == "ok", f"{text.decode()}: {line}"
        parsed = parser.parse({"status_code": 200, "headers": {}, "body": text}, operation.output_shape)
        parsed.pop("ResponseMetadata", None)
        assert without_empty_lists(parsed) == result, line
