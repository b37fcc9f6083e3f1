"""F08: a client token with another request is refused, and with another account it is another token; one after the
other and at the same moment, over all gateways."""

from concurrent.futures import ThreadPoolExecutor

from botocore.exceptions import ClientError

from harness import figures
from harness.cloud import Account, Cloud
from harness.ec2 import instances, wait

TYPES = ("t3.nano", "t3.micro")
REFUSED = "IdempotentParameterMismatch"


def launch(account: Account, number: int, token: str, kind: str) -> str:
    """What the gateway of that number answers: an instance's id, or how it refuses."""
    cloud = account.cloud
    client = cloud.client("ec2", account.key, cloud.doors[number % len(cloud.doors)])
    try:
        made = client.run_instances(ImageId=cloud.image, InstanceType=kind, MinCount=1, MaxCount=1, ClientToken=token)
    except ClientError as error:
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 400, error
        return error.response["Error"]["Code"]
    return made["Instances"][0]["InstanceId"]


def race(accounts: list[Account], token: str) -> None:
    """Each account asks for two things with one token, by every gateway: it gets one of them."""
    asked = [(account, number, token, kind) for number in range(12) for account in accounts for kind in TYPES]
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(zip(asked, pool.map(lambda one: launch(*one), asked)))
    won = set()
    for account in accounts:
        by_kind = [{a for one, a in answers if one[0] is account and one[3] == kind} for kind in TYPES]
        assert {REFUSED} in by_kind, f"one of the two requests is refused, every time: {by_kind}"
        (made,) = next(answer for answer in by_kind if answer != {REFUSED})
        won.add(made)
    assert len(won) == len(accounts), "each has its own"


def test_f08_a_token_belongs_to_one_request_of_one_account(doors: Cloud):
    mine, theirs = doors.account(), doors.account()
    first = launch(mine, 0, "one", "t3.nano")
    for number in range(3):
        assert launch(mine, number, "one", "t3.micro") == REFUSED
        assert launch(mine, number, "one", "t3.nano") == first
    other = {launch(theirs, number, "one", "t3.micro") for number in range(3)}
    assert len(other) == 1 and first not in other and REFUSED not in other
    trials = 10 * figures.TRIALS
    for trial in range(trials):
        with figures.trial("F08 one token, two requests"):
            race([mine, theirs], f"race-{trial}")
    for account in (mine, theirs):
        seen = instances(account.ec2)
        assert len(seen) == 1 + trials, "one of each token"
        wait(account, [i["InstanceId"] for i in seen], "running")
