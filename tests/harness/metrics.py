"""What processes count, as Prometheus would read it."""

import urllib.request
from collections import Counter

from .cloud import Cloud
from .port import free_port
from .process import Process


def counted(cloud: Cloud) -> Cloud:
    """The cloud, of which every process tells at a port of its own what it counts, from its next start on."""
    for process in cloud.processes:
        process.variables_of_its_own["CUMULET_METRICS_LISTEN"] = f"127.0.0.1:{free_port()}"
    return cloud


def of_process(process: Process) -> dict[str, float]:
    """A process's counters, without their labels' differences."""
    address = process.variables_of_its_own["CUMULET_METRICS_LISTEN"]
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found: Counter[str] = Counter()
    for line in lines:
        if line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            found[name.split("{")[0]] += float(value)
    return found


def of_cloud(cloud: Cloud) -> dict[str, float]:
    """All processes' counters, added up."""
    return sum((Counter(of_process(process)) for process in cloud.processes if process.popen), Counter())
