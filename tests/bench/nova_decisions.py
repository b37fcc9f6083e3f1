"""Nova's FilterScheduler in this process: how many decisions a second, with host states made by hand.

    python nova_decisions.py HOSTS [SECONDS]

Runs in an environment of its own (tests/requirements-bench-nova.txt). It calls what Nova's scheduler calls for
one instance after its queries (`SchedulerManager._get_sorted_hosts` and `consume_from_request`), with Nova's
default filters and weighers; no database, no placement service and no message bus is in the figure. Prints JSON.
"""

import json
import sys
import time
from unittest import mock

from nova import conf, objects
from nova.scheduler import host_manager, manager

ZONE = "nova"


def host(number: int) -> host_manager.HostState:
    """The host that the other side's example makes, too."""
    mixed = (number * 2654435761 & 0xFFFFFFFF) >> 8
    state = host_manager.HostState(f"host-{number:05}", f"host-{number:05}", "cell")
    state.uuid = f"00000000-0000-0000-0000-{number:012}"
    state.total_usable_ram_mb = state.free_ram_mb = 1_000_000_000 + mixed % 99_991
    state.total_usable_disk_gb = 100_000_000 + mixed % 9973
    state.free_disk_mb = state.total_usable_disk_gb * 1024
    state.vcpus_total = 1_000_000 + mixed % 997
    state.ram_allocation_ratio = state.cpu_allocation_ratio = state.disk_allocation_ratio = 1.0
    state.hypervisor_type, state.hypervisor_version = "QEMU", 1
    state.supported_instances = [["x86_64", "qemu", "hvm"]]
    state.stats = {"ssd": "true" if number % 2 == 0 else "false"}
    state.metrics = objects.MonitorMetricList(objects=[])
    state.service = host_manager.ReadOnlyDict({"disabled": False, "host": state.host})
    return state


def request():
    flavor = objects.Flavor(
        name="small", vcpus=2, memory_mb=512, root_gb=8, ephemeral_gb=0, swap=0,
        extra_specs={"capabilities:ssd": "true"},
    )
    image = objects.ImageMeta(properties=objects.ImageMetaProps(hw_architecture="x86_64"))
    return objects.RequestSpec(
        flavor=flavor, image=image, num_instances=1, project_id="p", user_id="u", availability_zone=None,
        instance_uuid="00000000-0000-0000-0000-000000000001", numa_topology=None,
        pci_requests=objects.InstancePCIRequests(requests=[]), scheduler_hints={}, instance_group=None,
        ignore_hosts=None, force_hosts=None, force_nodes=None, requested_destination=None, retry=None, limits=None,
        requested_resources=[], is_bfv=False,
    )


def main() -> None:
    size, seconds = int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 10.0
    objects.register_all()
    conf.CONF([], project="nova", version="34", default_config_files=[])
    conf.CONF.set_override("track_instance_changes", False, group="filter_scheduler")
    names = ["refresh_cells_caches", "_init_aggregates"]
    with mock.patch.multiple(host_manager.HostManager, **{name: mock.DEFAULT for name in names}):
        scheduler = manager.SchedulerManager.__new__(manager.SchedulerManager)
        scheduler.host_manager = host_manager.HostManager()
    states, spec = [host(number) for number in range(size)], request()
    # A compute service is up if it was heard of lately; the answer to that is no part of the decision.
    up = mock.patch("nova.servicegroup.API.service_is_up", return_value=True)
    times: list[float] = []
    with up:
        start = time.perf_counter()
        while len(times) < 3 or time.perf_counter() - start < seconds:
            one = time.perf_counter()
            chosen = scheduler._get_sorted_hosts(spec, states, 0)
            chosen[0].consume_from_request(spec)
            times.append(time.perf_counter() - one)
            assert len(chosen) == (size + 1) // 2, len(chosen)
    times.sort()
    filters = [type(each).__name__ for each in scheduler.host_manager.enabled_filters]
    weighers = [type(each).__name__ for each in scheduler.host_manager.weighers]
    print(json.dumps({
        "hosts": size, "decisions": len(times), "rate": len(times) / sum(times), "p50_us": 1e6 * times[len(times) // 2],
        "filters": filters, "weighers": weighers,
    }))


if __name__ == "__main__":
    main()
