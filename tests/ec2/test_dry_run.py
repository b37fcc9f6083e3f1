"""DryRun with a stock client. That it changes nothing, whatever the operation, is tested in process
(gateway/src/tests/examples); here is what a host answers, and what a client makes of it."""

from harness.cloud import Account
from harness.ec2 import error_of, instances, run, running

DONE = ("DryRunOperation", 412)


def test_what_a_host_answers(account: Account, ec2):
    (id,) = running(account)
    reader = account.cloud.client("ec2", account.user("reader", read_only=True))
    for client in (ec2, reader):
        for call in (client.get_console_output, client.get_console_screenshot):
            assert error_of(call, DryRun=True, InstanceId=id) == DONE
    assert error_of(reader.reboot_instances, DryRun=True, InstanceIds=[id]) == ("UnauthorizedOperation", 403)


def test_a_rehearsal_does_not_use_up_the_client_token(account: Account, ec2):
    launch = {"ImageId": account.cloud.image, "InstanceType": "t3.nano", "MinCount": 1, "MaxCount": 1}
    assert error_of(ec2.run_instances, DryRun=True, ClientToken="t", **launch) == DONE
    assert len(run(account, ClientToken="t")) == 1 == len(instances(ec2))
