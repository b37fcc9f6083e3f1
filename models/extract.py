#!/usr/bin/env python3
"""Makes the pinned models in this directory from botocore's data.

    python3 models/extract.py .../site-packages/botocore/data

Reads actions.toml for the operations wanted and writes SERVICE.json of each service (those
operations and the shapes they reach, without prose), SERVICE-operations.txt (every operation's name) and filters.toml (the filters that each operation's documentation lists). The output depends on the
input alone, so that running it twice gives the same bytes.
"""

import gzip
import html.parser
import json
import pathlib
import sys
import tomllib

HERE = pathlib.Path(__file__).parent
SERVICES = {
    "ec2": "2016-11-15",
    "sts": "2011-06-15",
    "iam": "2010-05-08",
    "service-quotas": "2019-06-24",
    "ssm": "2014-11-06",
}
# What codegen reads; everything else (documentation, HTTP bindings, deprecations) is dropped.
MEMBER_KEYS = ("shape", "locationName", "queryName", "idempotencyToken", "flattened")
SHAPE_KEYS = ("type", "required", "min", "max", "sensitive", "flattened", "timestampFormat")


def load(data, service, version):
    return json.loads(gzip.decompress((data / service / version / "service-2.json.gz").read_bytes()))


def reach(shapes, root, seen):
    if root in seen:
        return
    seen.add(root)
    shape = shapes[root]
    refs = list(shape.get("members", {}).values())
    refs += [shape[key] for key in ("member", "key", "value") if key in shape]
    for ref in refs:
        reach(shapes, ref["shape"], seen)


def strip_shape(shape):
    out = {key: shape[key] for key in SHAPE_KEYS if key in shape}
    if "members" in shape:
        out["members"] = {name: strip_ref(ref) for name, ref in shape["members"].items()}
    for key in ("member", "key", "value"):
        if key in shape:
            out[key] = strip_ref(shape[key])
    if shape["type"] == "string":
        # Lengths are checked where the value is understood; enums stay text on the wire.
        out = {key: value for key, value in out.items() if key not in ("min", "max")}
    return out


def strip_ref(ref):
    return {key: ref[key] for key in MEMBER_KEYS if key in ref}


def strip(model, wanted):
    operations, seen = {}, set()
    for name in sorted(wanted):
        operation = model["operations"][name]
        operations[name] = {}
        for side in ("input", "output"):
            if side in operation:
                operations[name][side] = operation[side]["shape"]
                if "resultWrapper" in operation[side]:
                    operations[name]["resultWrapper"] = operation[side]["resultWrapper"]
                reach(model["shapes"], operation[side]["shape"], seen)
    metadata = model["metadata"]
    head = {
        "name": metadata.get("signingName", metadata["endpointPrefix"]),
        "protocol": metadata["protocol"],
        "version": metadata["apiVersion"],
    }
    if metadata["protocol"] == "json":
        head |= {"jsonVersion": metadata["jsonVersion"], "targetPrefix": metadata["targetPrefix"]}
    else:
        head["namespace"] = metadata["xmlNamespace"]
    return head | {
        "operations": operations,
        "shapes": {name: strip_shape(model["shapes"][name]) for name in sorted(seen)},
    }


class FilterNames(html.parser.HTMLParser):
    """The first <code> of each <li> of the outermost list; nested lists hold values, not names."""

    def __init__(self):
        super().__init__()
        self.depth, self.fresh, self.code, self.names = 0, False, None, []

    def handle_starttag(self, tag, attrs):
        if tag == "ul":
            self.depth += 1
        elif tag == "li" and self.depth == 1:
            self.fresh = True
        elif tag == "code" and self.fresh and self.depth == 1:
            self.code, self.fresh = "", False

    def handle_endtag(self, tag):
        if tag == "ul":
            self.depth -= 1
        elif tag == "code" and self.code is not None:
            self.names.append(self.code.strip())
            self.code = None

    def handle_data(self, data):
        if self.code is not None:
            self.code += data
        elif data.strip():
            # Text before the first <code>: an item that is prose.
            self.fresh = False


def filter_names(documentation):
    parser = FilterNames()
    parser.feed(documentation)
    tag = lambda name: "tag:<key>" if name == "tag" or name.startswith("tag:") else name
    return sorted({tag(name) for name in parser.names})


def filters(model):
    found = {}
    for name, operation in model["operations"].items():
        shape = model["shapes"][operation["input"]["shape"]] if "input" in operation else {}
        members = shape.get("members", {})
        member = members.get("Filters") or members.get("Filter")
        if member and (names := filter_names(member.get("documentation", ""))):
            found[name] = names
    return found


def write_filters(found):
    lines = ["# Made by extract.py from the model's documentation; corrections go to patches.toml.", ""]
    for name in sorted(found):
        lines.append(f"{name} = [")
        lines += [f"    {json.dumps(filter_name)}," for filter_name in found[name]]
        lines.append("]")
    (HERE / "filters.toml").write_text("\n".join(lines) + "\n")


def dump(value):
    """Two levels of lines: one line a member, so that a new botocore makes a readable diff."""
    return json.dumps(value, indent=1, sort_keys=False) + "\n"


def main(data):
    manifest = tomllib.loads((HERE / "actions.toml").read_text())
    for service, version in SERVICES.items():
        model = load(data, service, version)
        (HERE / f"{service}.json").write_text(dump(strip(model, manifest[service])))
        (HERE / f"{service}-operations.txt").write_text("\n".join(sorted(model["operations"])) + "\n")
        if service == "ec2":
            write_filters(filters(model))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
