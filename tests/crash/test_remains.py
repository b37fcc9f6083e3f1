"""What a host has and should not have, when a cloud comes back: a guest of a terminated instance is destroyed; one that
the database does not know is reported and left alone."""

import json

from harness.cloud import Cloud
from harness.crash import Witness
from harness.ec2 import running, wait
from harness.wait import until

UNKNOWN = "i-0123456789abcdef0"


def test_the_guest_of_a_terminated_instance_is_destroyed_and_no_other():
    with Cloud() as cloud:
        account = cloud.first_account()
        witness = Witness(account)
        (ended,) = running(account)
        (guests,) = cloud.state.glob("hosts/*/guests.json")
        theirs = [line for line in guests.read_text().splitlines() if json.loads(line)["instance"] == ended]
        account.ec2.terminate_instances(InstanceIds=[ended])
        wait(account, [ended], "terminated")
        cloud.stop()
        back = json.loads(theirs[-1])
        assert back["guest"]["on"]
        with guests.open("a") as file:
            for instance in (ended, UNKNOWN):
                file.write(json.dumps(back | {"instance": instance}) + "\n")
        found = "; ".join(cloud.audit()["differences"])
        assert ended in found and UNKNOWN in found
        cloud.start()

        def gone():
            differences = cloud.audit()["differences"]
            assert all(UNKNOWN in difference for difference in differences), differences
            return differences

        assert len(until(gone, f"the guest of {ended} is gone")) == 1
        cloud.restart()
        assert len(gone()) == 1, "and the unknown one is there for good"
        witness.untouched()
