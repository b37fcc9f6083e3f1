"""Every answer in every test is held against the official model.

botocore itself is forgiving: it skips unknown elements, reads `True` as false and takes a login page for an
empty success. So the text of each answer is walked along the model: an element that the model does not have,
a value of the wrong type, or a list that is missing at the top level fails the test that asked.
"""

import base64
import json
import re
import tomllib
from pathlib import Path
from xml.etree import ElementTree

EC2 = "{http://ec2.amazonaws.com/doc/2016-11-15/}"
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
# Lists that are left out where they are empty, as the program itself has them: `Shape.Member`.
_patches = tomllib.loads((Path(__file__).parents[2] / "models/patches.toml").read_text())
OPTIONAL_LISTS = {patch["member"] for patch in _patches["optional_lists"]}


def attach(client) -> None:
    """Checks every answer that this client receives."""
    client.meta.events.register("before-parse", check)


def check(operation_model, response_dict, **_) -> None:
    body, status = response_dict["body"], response_dict["status_code"]
    headers = {name.lower(): value for name, value in response_dict["headers"].items()}
    if operation_model.service_model.metadata["protocol"] == "json":
        return check_json(operation_model, json.loads(body), status, headers)
    root = ElementTree.fromstring(body)
    assert headers["content-type"].lower() == "text/xml;charset=utf-8", headers
    if operation_model.service_model.metadata["protocol"] != "ec2":
        return check_query(operation_model, root, status)
    if status >= 300:
        return check_error(root, headers)
    name = operation_model.name
    assert root.tag == f"{EC2}{name}Response", root.tag
    first = root[0]
    assert first.tag == f"{EC2}requestId" and first.text == headers["x-amzn-requestid"], first.tag
    rest = list(root)[1:]
    shape = operation_model.output_shape
    if shape is None:
        assert [(e.tag, e.text) for e in rest] == [(f"{EC2}return", "true")], body
        return
    walk_structure(shape, rest, EC2, name)
    for member, of in shape.members.items():
        if of.type_name == "list" and f"{shape.name}.{member}" not in OPTIONAL_LISTS:
            wire = of.serialization.get("name", member)
            assert any(e.tag == EC2 + wire for e in rest), f"{name}: the list {wire} is missing"


def check_error(root, headers) -> None:
    """`Response/Errors/Error/{Code,Message}` and `RequestID`, in no namespace."""
    assert [e.tag for e in root] == ["Errors", "RequestID"] and root.tag == "Response", ElementTree.tostring(root)
    error = root[0][0]
    assert [e.tag for e in error] == ["Code", "Message"], ElementTree.tostring(root)
    assert root[1].text == headers["x-amzn-requestid"]


def check_query(operation_model, root, status: int) -> None:
    """The `query` protocol of STS and IAM: a result wrapper and the metadata, or an ErrorResponse."""
    namespace = "{" + operation_model.service_model.metadata["xmlNamespace"] + "}"
    if status >= 300:
        assert root.tag == f"{namespace}ErrorResponse", root.tag
        return
    name = operation_model.name
    assert root.tag == f"{namespace}{name}Response", root.tag
    result, metadata = root
    assert (result.tag, metadata.tag) == (f"{namespace}{name}Result", f"{namespace}ResponseMetadata")
    walk_structure(operation_model.output_shape, list(result), namespace, name)


def check_json(operation_model, document, status: int, headers) -> None:
    """awsJson: the members of the result, or `__type` and `message`; the version is the request's."""
    version = operation_model.service_model.metadata["jsonVersion"]
    assert headers["content-type"] == f"application/x-amz-json-{version}", headers
    assert headers["x-amzn-requestid"], headers
    if status >= 300:
        assert set(document) == {"__type", "message"} and headers["x-amzn-errortype"] == document["__type"], document
        return
    walk_json(operation_model.output_shape, document, operation_model.name)


def walk_json(shape, value, path: str) -> None:
    kind = shape.type_name
    if kind == "structure":
        for name, inner in value.items():
            assert name in shape.members, f"{path}: the model has no member {name}"
            walk_json(shape.members[name], inner, f"{path}.{name}")
    elif kind == "list":
        for index, inner in enumerate(value):
            walk_json(shape.member, inner, f"{path}[{index}]")
    elif kind == "map":
        for key, inner in value.items():
            walk_json(shape.value, inner, f"{path}.{key}")
    else:
        number = (int, float)
        types = {"string": str, "boolean": bool, "integer": int, "long": int, "double": number, "float": number}
        # Seconds since 1970.
        types["timestamp"] = number
        assert isinstance(value, types[kind]), f"{path}: {value!r} is no {kind}"
        if kind == "string" and getattr(shape, "enum", None):
            assert value in shape.enum, f"{path}: {value!r} is not one of {shape.enum}"


def walk_structure(shape, elements, namespace: str, path: str) -> None:
    wire = {of.serialization.get("name", name): of for name, of in shape.members.items()}
    seen = set()
    for element in elements:
        tag = element.tag.removeprefix(namespace)
        assert tag in wire, f"{path}: the model has no element {element.tag}"
        assert tag not in seen, f"{path}: the element {tag} is there twice"
        seen.add(tag)
        walk(wire[tag], element, namespace, f"{path}.{tag}")


def walk(shape, element, namespace: str, path: str) -> None:
    kind = shape.type_name
    if kind == "structure":
        walk_structure(shape, list(element), namespace, path)
    elif kind == "list":
        item = shape.member.serialization.get("name", "member")
        for index, child in enumerate(element):
            assert child.tag == namespace + item, f"{path}: an item is called {child.tag}, not {item}"
            walk(shape.member, child, namespace, f"{path}[{index}]")
    else:
        assert len(element) == 0, f"{path}: a scalar has children"
        scalar(shape, element.text or "", path)


def scalar(shape, text: str, path: str) -> None:
    kind = shape.type_name
    if kind == "boolean":
        assert text in ("true", "false"), f"{path}: {text!r} is not a boolean"
    elif kind in ("integer", "long"):
        int(text)
    elif kind in ("float", "double"):
        float(text)
    elif kind == "timestamp":
        assert TIMESTAMP.fullmatch(text), f"{path}: {text!r} is not a timestamp as EC2 writes them"
    elif kind == "blob":
        base64.b64decode(text, validate=True)
    elif kind == "string" and getattr(shape, "enum", None):
        assert text in shape.enum, f"{path}: {text!r} is not one of {shape.enum}"
