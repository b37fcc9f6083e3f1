"""Short words for what most EC2 tests do: launch, wait, and be refused."""

from contextlib import contextmanager

from botocore.exceptions import ClientError

from .cloud import Account
from .wait import until

FAST = {"Delay": 1, "MaxAttempts": 60}


class Caught:
    """What a block is refused with. (Benchmarks use these words, too, and have no pytest.)"""

    value: ClientError | None = None


@contextmanager
def refused(code: str, status: int = 400, message: str = ""):
    """The block is answered with this code, and with this HTTP status."""
    caught = Caught()
    try:
        yield caught
    except ClientError as error:
        caught.value = error
    assert caught.value, f"it is done, and was to be answered with {code}"
    answer = caught.value.response
    got = (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"])
    assert got == (code, status), f"{got}: {answer['Error']['Message']}"
    assert message in answer["Error"]["Message"], answer["Error"]["Message"]


def error_of(call, *arguments, **named) -> tuple[str, int]:
    """The code and status that a call is answered with; `ok` and 200 when it is done."""
    try:
        call(*arguments, **named)
    except ClientError as error:
        return error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
    return "ok", 200


def run(account: Account, count: int = 1, **more) -> list[str]:
    """Accepted instances' ids."""
    wanted = {"ImageId": account.cloud.image, "InstanceType": "t3.nano", "MinCount": count, "MaxCount": count} | more
    return [instance["InstanceId"] for instance in account.ec2.run_instances(**wanted)["Instances"]]


def running(account: Account, count: int = 1, **more) -> list[str]:
    """Running instances' ids."""
    ids = run(account, count, **more)
    wait(account, ids, "running")
    return ids


def instances(ec2, ids: list[str] | None = None, **more) -> list[dict]:
    """Descriptions, in the order of the ids where there are some."""
    query = {"InstanceIds": ids} if ids else {}
    found = [i for r in ec2.describe_instances(**query, **more)["Reservations"] for i in r["Instances"]]
    return sorted(found, key=lambda i: ids.index(i["InstanceId"])) if ids else found


def instance(ec2, id: str) -> dict:
    return instances(ec2, [id])[0]


def states(ec2, ids: list[str]) -> set[str]:
    return {i["State"]["Name"] for i in instances(ec2, ids)}


def wait(account: Account, ids: list[str], state: str, timeout: float = 60.0) -> None:
    until(lambda: states(account.ec2, ids) == {state}, f"{ids} are {state}", timeout, every=0.1)


def default_group(ec2) -> str:
    found = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["default"]}])
    return found["SecurityGroups"][0]["GroupId"]


def filters(**wanted) -> list[dict]:
    """`instance_state_name=["running"]` and so on; `_` stands for `-`."""
    return [{"Name": name.replace("_", "-"), "Values": values} for name, values in wanted.items()]
