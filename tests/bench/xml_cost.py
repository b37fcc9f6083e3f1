"""What writing an answer's XML costs by itself: the answer taken apart and written again by the same code."""

import re
import subprocess
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

from servers import EXAMPLES

NAMESPACE = "{http://ec2.amazonaws.com/doc/2016-11-15/}"
# Shapes that requests have too are read under their names there, which begin with a capital.
OF_REQUESTS = {"placement", "tagSet"}


def xml_cost(answer: bytes, folder: Path) -> float:
    """Microseconds."""
    form, output = folder / "instances.form", folder / "instances.xml"
    root = ElementTree.fromstring(answer)
    request_id = root.findtext(f"{NAMESPACE}requestId")
    form.write_text("\n".join(lines(root)))
    command = [str(EXAMPLES / "xml_cost"), request_id, str(form), str(output)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    # Members that stand empty in the answer have no form; they are some of its bytes, not a different answer.
    assert abs(len(output.read_bytes()) - len(answer)) < 0.1 * len(answer), (len(output.read_bytes()), len(answer))
    return float(done.stdout)


def lines(root: ElementTree.Element):
    """One line of form data for each instance, with its reservation around it."""
    for reservation in root.find(f"{NAMESPACE}reservationSet"):
        instances = reservation.find(f"{NAMESPACE}instancesSet")
        outer = [pair for child in reservation if child is not instances for pair in pairs(child, "reservationSet.1")]
        for instance in instances:
            inner = [pair for child in instance for pair in pairs(child, "reservationSet.1.instancesSet.1")]
            yield "&".join(f"{name}={quote(value, safe='')}" for name, value in outer + inner)


def pairs(element: ElementTree.Element, prefix: str, capital: bool = False):
    """An element as form data; the items of a list get their numbers."""
    tag = element.tag.removeprefix(NAMESPACE)
    name = f"{prefix}.{tag[0].upper() + tag[1:] if capital else tag}"
    children, capital = list(element), tag in OF_REQUESTS
    if not children:
        if element.text and not re.fullmatch(r"\s*", element.text):
            yield name, element.text
    elif children[0].tag == f"{NAMESPACE}item":
        for index, item in enumerate(children, 1):
            if len(item):
                for child in item:
                    yield from pairs(child, f"{name}.{index}", capital)
            else:
                yield f"{name}.{index}", item.text or ""
    else:
        for child in children:
            yield from pairs(child, name, capital)
