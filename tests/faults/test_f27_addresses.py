"""F27: fifty launches at once in a subnet of sixteen addresses, of which eleven can be given out: eleven are, each
once, and the others are told that there is none."""

import ipaddress
from concurrent.futures import ThreadPoolExecutor

from harness import figures
from harness.cloud import Cloud
from harness.database import shrink
from harness.ec2 import error_of, instances, wait

BLOCK = ipaddress.IPv4Network("172.31.0.0/28")
# All but the first four and the last one, as on EC2.
FREE = {str(address) for address in list(BLOCK)[4:-1]}


def test_f27_each_free_address_is_given_out_once(doors: Cloud):
    account = doors.account()
    clients = [doors.client("ec2", account.key, door) for door in doors.doors]
    shrink(account, str(BLOCK))
    ec2 = account.ec2
    available = lambda: ec2.describe_subnets()["Subnets"][0]["AvailableIpAddressCount"]  # noqa: E731
    assert available() == len(FREE) == 11

    def launch(number: int) -> tuple[str, int]:
        wanted = {"ImageId": doors.image, "InstanceType": "t3.nano", "MinCount": 1, "MaxCount": 1}
        return error_of(clients[number % len(clients)].run_instances, **wanted)

    doors.image  # asked for before the threads
    for _ in range(3 * figures.TRIALS):
        with figures.trial("F27 address race"):
            with ThreadPoolExecutor(50) as pool:
                answers = list(pool.map(launch, range(50)))
            assert answers.count(("ok", 200)) == 11, set(answers)
            assert answers.count(("InsufficientFreeAddressesInSubnet", 400)) == 39, set(answers)
        there = [i for i in instances(ec2) if i["State"]["Name"] != "terminated"]
        assert sorted(i["PrivateIpAddress"] for i in there) == sorted(FREE)
        assert available() == 0
        macs = [nic["MacAddress"] for i in there for nic in i["NetworkInterfaces"]]
        assert len(set(macs)) == 11
        ids = [i["InstanceId"] for i in there]
        wait(account, ids, "running")
        ec2.terminate_instances(InstanceIds=ids)
        wait(account, ids, "terminated")
        assert available() == 11
