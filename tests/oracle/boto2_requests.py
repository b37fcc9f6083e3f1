"""Writes the requests of boto 2's connections to EC2 and VPC as JSON, for gateway/src/tests/examples/boto2.rs.

Nothing is sent: each request is caught where a connection would make it. Every public method is called with what it
must be given, then with each other argument too, then with all of them, and where an argument's value decides what is
sent, with each such value. What stands in braces are the ids of the scene in which the requests are played.

    python3 -m venv venv && venv/bin/pip install boto==2.49.0
    venv/bin/python tests/oracle/boto2_requests.py gateway/src/tests/testdata/boto2.json

boto 2.49 needs Python 3.11 or older.
"""

import inspect
import json
import sys
import warnings
from unittest import mock
from urllib.parse import quote

import boto.ec2.connection
import boto.ec2.regioninfo
import boto.vpc
from boto.ec2.blockdevicemapping import BlockDeviceMapping, BlockDeviceType
from boto.ec2.networkinterface import NetworkInterfaceCollection, NetworkInterfaceSpecification, PrivateIPAddress
from boto.ec2.reservedinstance import ReservedInstancesConfiguration

KEY = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB3X0m4Cvx0F2Oa6KBlbFZOcRQmCUzhcQGhwLbXqVsRC x"


def mapping(**devices):
    made = BlockDeviceMapping()
    for name, given in devices.items():
        made["/dev/" + name] = BlockDeviceType(**given)
    return made


LAUNCHED = mapping(
    sdf={"snapshot_id": "{snapshot}", "delete_on_termination": True},
    sdg={"size": 1, "volume_type": "gp3", "iops": 3000, "encrypted": True},
    sdh={"no_device": True},
    sdi={"ephemeral_name": "ephemeral0"},
)
REGISTERED = mapping(xvda={"snapshot_id": "{snapshot}", "delete_on_termination": True})

INTERFACES = {
    "associate_public_ip_address": [
        NetworkInterfaceSpecification(
            subnet_id="{subnet}", groups=["{group}"], associate_public_ip_address=True, description="d",
            delete_on_termination=True,
        )
    ],
    "private_ip_addresses": [
        NetworkInterfaceSpecification(
            device_index=0, subnet_id="{subnet}", private_ip_addresses=[PrivateIPAddress(None, "172.31.0.77", True)]
        )
    ],
    "private_ip_address": [NetworkInterfaceSpecification(subnet_id="{subnet}", private_ip_address="172.31.0.78")],
    "others": [
        NetworkInterfaceSpecification(network_interface_id="{interface}", device_index=0),
        NetworkInterfaceSpecification(
            device_index=1, subnet_id="{subnet}", secondary_private_ip_address_count=1, groups=["{group}"]
        ),
    ],
}  # fmt: skip
INTERFACES = {name: NetworkInterfaceCollection(*interfaces) for name, interfaces in INTERFACES.items()}

# What an argument is given, by its name.
VALUES = {
    "addresses": ["192.0.2.1"],
    "addressing_type": "public",
    "allocation_ids": ["eipalloc-0123456789abcdef0"],
    "architecture": "x86_64",
    "attr": "description",
    "attribute": "launchPermission",
    "attribute_names": ["default-vpc"],
    "availability_zone": "us-east-1a",
    "block_device_map": LAUNCHED,
    "block_device_mapping": mapping(sdg={"size": 1}),
    "client_token": "t",
    "description": "d",
    "device": "/dev/sdf",
    "domain": "vpc",
    "executable_by": ["self"],
    "filters": {"tag:Name": ["a", "b*"]},
    "from_port": 22,
    "group_ids": ["{group}"],
    "group_name": "web",
    "groups": ["all"],
    "image_id": "{image}",
    "image_ids": ["{image}", "{made-image}"],
    "image_location": "bucket/manifest.xml",
    "include_all_instances": True,
    "instance_id": "{instance}",
    "instance_ids": ["{instance}", "{stopped}"],
    "instance_initiated_shutdown_behavior": "terminate",
    "instance_type": "t3.nano",
    "iops": 3000,
    "ip_protocol": "tcp",
    "cidr_ip": "11.0.0.0/8",
    "kernel_id": "aki-01234567",
    "kernel_ids": ["aki-01234567"],
    "key_name": "k",
    "keyname": "k",
    "keynames": ["k"],
    "kms_key_id": "alias/aws/ebs",
    "max_count": 2,
    "min_count": 1,
    "max_results": 6,
    "name": "new",
    "network_interface_ids": ["{interface}"],
    "network_interfaces": INTERFACES["associate_public_ip_address"],
    "operation": "remove",
    "owner": ["self"],
    "owners": ["self"],
    "placement": "us-east-1a",
    "placement_group": "p",
    "private_ip_address": "172.31.0.76",
    "public_key_material": KEY,
    "ramdisk_id": "ari-01234567",
    "ramdisk_ids": ["ari-01234567"],
    "region_names": ["us-east-1"],
    "resource_ids": ["{instance}", "{volume}"],
    "restorable_by": ["self"],
    "root_device_name": "/dev/xvda",
    "security_group_ids": ["{group}"],
    "security_groups": ["web"],
    "size": 8,
    "snapshot": "{snapshot}",
    "snapshot_id": "{snapshot}",
    "snapshot_ids": ["{snapshot}"],
    "source_image_id": "{made-image}",
    "source_region": "us-east-1",
    "source_snapshot_id": "{snapshot}",
    "sriov_net_support": "simple",
    "src_group_id": "{group}",
    "src_security_group_group_id": "{group}",
    "src_security_group_name": "default",
    "src_security_group_owner_id": "123456789012",
    "subnet_id": "{subnet}",
    "subnet_ids": ["{subnet}"],
    "tags": {"a": "b", "c": "", "d": None},
    "target_configurations": [ReservedInstancesConfiguration(availability_zone="us-east-1a", instance_count=1)],
    "tenancy": "default",
    "to_port": 22,
    "user_data": b"#!/bin/sh\necho + &\n",
    "user_ids": ["123456789012"],
    "virtualization_type": "hvm",
    "volume_id": "{volume}",
    "volume_ids": ["{volume}", "{attached}"],
    "volume_type": "gp3",
    "vpc_id": "{vpc}",
    "vpc_ids": ["{vpc}"],
    "zone": "us-east-1a",
    "zones": ["us-east-1a"],
    "price_schedules": [(1, 2)],
    "limit_price": (1, "USD"),
}

# Where a method takes another one of them.
OWN = {
    "authorize_security_group": {"group_id": "{group}"},
    "authorize_security_group_egress": {"group_id": "{group}", "cidr_ip": "12.0.0.0/8"},
    "attach_volume": {"instance_id": "{stopped}", "device": "/dev/sdf"},
    "create_image": {"instance_id": "{stopped}"},
    "create_key_pair": {"key_name": "new"},
    "create_placement_group": {"strategy": "spread"},
    "delete_placement_group": {"name": "p"},
    "delete_security_group": {"name": "web"},
    "delete_tags": {"tags": ["a", "b"]},
    "deregister_image": {"image_id": "{made-image}"},
    "detach_volume": {"volume_id": "{attached}"},
    "enable_volume_io": {"volume_id": "{attached}"},
    "get_all_instance_status": {"filters": {"instance-state-name": "running"}},
    "get_all_placement_groups": {"groupnames": ["p"], "filters": {"strategy": "spread"}},
    "get_all_regions": {"filters": {"region_name": "us-east-1"}},
    "get_all_security_groups": {"groupnames": ["web"]},
    "get_all_tags": {"filters": {"resource-id": "{instance}"}},
    "get_all_volume_status": {"filters": {"availability-zone": "us-east-1a"}},
    "get_all_zones": {"filters": {"state": "available"}},
    "get_instance_attribute": {"attribute": "userData"},
    "get_snapshot_attribute": {"attribute": "createVolumePermission"},
    "get_volume_attribute": {"attribute": "autoEnableIO"},
    "import_key_pair": {"key_name": "new"},
    "modify_image_attribute": {"image_id": "{made-image}"},
    "modify_instance_attribute": {"instance_id": "{stopped}", "attribute": "disableApiTermination", "value": True},
    "modify_snapshot_attribute": {"attribute": "createVolumePermission"},
    "modify_volume_attribute": {"attribute": "AutoEnableIO", "new_value": True},
    "reboot_instances": {"instance_ids": ["{instance}"]},
    "register_image": {"block_device_map": REGISTERED},
    "reset_image_attribute": {"image_id": "{made-image}"},
    "reset_snapshot_attribute": {"attribute": "createVolumePermission"},
    "revoke_security_group": {"group_id": "{group}", "ip_protocol": "-1", "cidr_ip": "10.0.0.0/8"},
    "revoke_security_group_egress": {"group_id": "{group}", "ip_protocol": "-1", "cidr_ip": "0.0.0.0/0"},
    "start_instances": {"instance_ids": ["{stopped}"]},
    "stop_instances": {"instance_ids": ["{instance}"]},
}

# What a method can do nothing without, though its signature says that it can.
NEEDED = {
    "authorize_security_group": ["group_name", "ip_protocol", "from_port", "to_port", "cidr_ip"],
    "authorize_security_group_deprecated": ["ip_protocol", "from_port", "to_port", "cidr_ip"],
    "authorize_security_group_egress": ["from_port", "to_port", "cidr_ip"],
    "copy_image": ["name"],
    "delete_security_group": ["name"],
    "modify_image_attribute": ["user_ids"],
    "modify_snapshot_attribute": ["user_ids"],
    "reboot_instances": ["instance_ids"],
    "register_image": ["name", "root_device_name", "block_device_map"],
    "revoke_security_group": ["group_name", "ip_protocol", "cidr_ip"],
    "revoke_security_group_deprecated": ["ip_protocol", "from_port", "to_port", "cidr_ip"],
    "revoke_security_group_egress": ["cidr_ip"],
    "run_instances": ["instance_type"],
    "start_instances": ["instance_ids"],
    "stop_instances": ["instance_ids"],
    "terminate_instances": ["instance_ids"],
}

# Calls beside those that the signatures give: each value that decides what is sent.
MORE = [
    *(("run_instances", {"image_id": "{image}", "network_interfaces": i}) for i in INTERFACES.values()),
    *(
        ("get_instance_attribute", {"instance_id": "{instance}", "attribute": name})
        for name in (
            "instanceType", "kernel", "ramdisk", "userData", "disableApiTermination", "rootDeviceName",
            "instanceInitiatedShutdownBehavior", "blockDeviceMapping", "productCodes", "sourceDestCheck", "groupSet",
            "ebsOptimized",
        )
    ),
    *(
        ("modify_instance_attribute", {"instance_id": "{stopped}", "attribute": name, "value": value})
        for name, value in (
            ("instanceType", "t3.micro"), ("kernel", "aki-01234567"), ("ramdisk", "ari-01234567"),
            ("userData", "IyEvYmluL3NoCg=="), ("disableApiTermination", "false"), ("sourceDestCheck", True),
            ("instanceInitiatedShutdownBehavior", "terminate"), ("blockDeviceMapping", ["/dev/xvda=true"]),
            ("blockDeviceMapping", ["/dev/xvda"]), ("groupSet", ["{group}"]), ("ebsOptimized", False),
        )
    ),
    *(
        ("get_image_attribute", {"image_id": "{made-image}", "attribute": name})
        for name in ("launchPermission", "description", "productCodes", "blockDeviceMapping", "kernel", "ramdisk")
    ),
    *(
        (f"modify_{kind}_attribute", {f"{kind}_id": id, "attribute": attribute, "operation": operation, **more})
        for kind, id, attribute in (
            ("image", "{made-image}", "launchPermission"),
            ("snapshot", "{snapshot}", "createVolumePermission"),
        )
        for operation in ("add", "remove")
        for more in ({"user_ids": "123456789012"}, {"groups": "all"}, {"user_ids": ["123456789012"], "groups": ["all"]})
    ),
    ("get_volume_attribute", {"volume_id": "{volume}", "attribute": "productCodes"}),
    ("get_snapshot_attribute", {"snapshot_id": "{snapshot}", "attribute": "productCodes"}),
    ("authorize_security_group", {"group_name": "web", "src_security_group_name": "default"}),
    ("authorize_security_group", {
        "group_id": "{group}", "ip_protocol": "tcp", "from_port": 1, "to_port": 2,
        "cidr_ip": ["11.0.0.0/8", "12.0.0.0/8"],
    }),
    ("authorize_security_group", {
        "group_id": "{group}", "ip_protocol": "icmp", "from_port": -1, "to_port": -1,
        "src_security_group_group_id": "{group}",
    }),
    ("revoke_security_group", {"group_name": "web", "src_security_group_name": "default"}),
    ("revoke_security_group", {"group_id": "{group}", "ip_protocol": "-1", "cidr_ip": "10.0.0.0/8"}),
    ("delete_security_group", {"group_id": "{group}"}),
    ("register_image", {"name": "new", "root_device_name": "/dev/xvda", "snapshot_id": "{snapshot}"}),
    # A text in place of a list, a filter's bare value, names as Python has them.
    ("get_all_reservations", {"instance_ids": "{instance}", "filters": {"instance_state_name": "running"}}),
    ("get_all_volumes", {"volume_ids": "{volume}", "filters": {"encrypted": "false", "size": 4}}),
    # The names of filters that its documentation has, some of them older than EC2's own.
    ("get_all_subnets", {
        "filters": [("state", "available"), ("vpcId", "{vpc}"), ("cidrBlock", "x"), ("availabilityZone", "us-east-1a")],
    }),
    ("get_all_vpcs", {"filters": [("state", "available"), ("cidrBlock", "172.31.0.0/16"), ("dhcpOptionsId", "x")]}),
    ("terminate_instances", {"instance_ids": "{instance}"}),
    ("create_tags", {"resource_ids": "{instance}", "tags": {"Name": "n"}}),
    ("delete_tags", {"resource_ids": ["{instance}"], "tags": {"a": ""}}),
]  # fmt: skip

# Methods that make requests of others' answers, and such as make none.
NOT_THEIRS = {"trim_snapshots", "associate_network_acl", "disassociate_network_acl", "get_params"}


class Caught(Exception):
    pass


def text(value):
    """A value as boto sends it."""
    return boto.utils.get_utf8_value(value).decode("utf-8")


def caught(connection, method, arguments):
    """The form that a call would send."""
    sent = []

    def make_request(action, params=None, path="/", verb="GET"):
        sent.append({"Action": action, "Version": connection.APIVersion, **(params or {})})
        raise Caught

    with mock.patch.object(connection, "make_request", make_request), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            getattr(connection, method)(**arguments)
        except Caught:
            pass
    (form,) = sent
    return "&".join(f"{quote(name, safe='')}={quote(text(value), safe='/:{}')}" for name, value in form.items())


def calls(method, function):
    """The arguments of the calls that a method's signature gives."""
    parameters = {name: p for name, p in inspect.signature(function).parameters.items() if name != "self"}

    def value(name):
        own = OWN.get(method, {})
        if name in own:
            return own[name]
        given = parameters[name].default
        return VALUES.get(name, not given if isinstance(given, bool) else "x")

    needed = [name for name, p in parameters.items() if p.default is p.empty or name in NEEDED.get(method, [])]
    least = {name: value(name) for name in needed}
    rest = [name for name in parameters if name not in least]
    yield least
    for name in rest:
        if name != "dry_run":
            yield least | {name: value(name)}
    yield least | {name: value(name) for name in rest}


def requests():
    region = boto.ec2.regioninfo.RegionInfo(name="us-east-1", endpoint="cloud.example.com")
    connection = boto.vpc.VPCConnection("AKIAIOSFODNN7EXAMPLE", "secret", region=region)
    own = {**vars(boto.ec2.connection.EC2Connection), **vars(boto.vpc.VPCConnection)}
    methods = {
        name: function
        for name, function in own.items()
        if inspect.isfunction(function) and not name.startswith(("_", "build_")) and name not in NOT_THEIRS
    }
    every = [(name, arguments) for name, function in methods.items() for arguments in calls(name, function)]
    seen = set()
    for method, arguments in every + MORE:
        form = caught(connection, method, arguments)
        if form not in seen:
            seen.add(form)
            yield {"method": method, "form": form}


def main():
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        rows = (json.dumps(row, ensure_ascii=False) for row in requests())
        out.write("[\n" + ",\n".join(rows) + "\n]\n")


if __name__ == "__main__":
    main()
