"""F15: the database server gives up one in ten transactions, as it does one of two that wait for each other: nobody who
asks is told of it, and it is counted."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import cluster, figures
from harness.cloud import Account, Cloud
from harness.ec2 import error_of, instances, run, wait
from harness.metrics import counted, of_cloud
from harness.wait import until

CLIENTS, ROUNDS = 8, 12


def one_client(account: Account, seed: int) -> list[tuple[str, int]]:
    """What a client's calls are answered with, of whom every round makes an instance and changes things of it."""
    ec2, order = account.ec2, random.Random(seed)
    answers = []

    def ask(call, **named) -> bool:
        answers.append(error_of(call, **named))
        return answers[-1] == ("ok", 200)

    for number in range(ROUNDS):
        token = f"{seed}-{number}"
        wanted = {"ImageId": account.cloud.image, "InstanceType": "t3.nano", "MinCount": 1, "MaxCount": 1}
        assert ask(ec2.run_instances, ClientToken=token, **wanted), answers[-1]
        ids = [i["InstanceId"] for i in instances(ec2, Filters=[{"Name": "client-token", "Values": [token]}])]
        ask(ec2.create_tags, Resources=ids, Tags=[{"Key": "round", "Value": str(number)}])
        ask(ec2.create_security_group, GroupName=token, Description="d")
        ask(order.choice([ec2.stop_instances, ec2.reboot_instances, ec2.terminate_instances]), InstanceIds=ids)
    return answers


@pytest.mark.parametrize("database", [cluster.KIND] if cluster.KIND else ["postgresql", "mariadb"])
def test_f15_conflicts_are_nobodys_business(database: str):
    faults = {"CUMULET_FAULTS": "conflicts=10"}
    with counted(Cloud("fake", variables=faults, cluster=database)) as cloud:
        account = cloud.first_account()
        cloud.image  # asked for before the threads
        with figures.trial("F15 conflicts") as trial:
            with ThreadPoolExecutor(CLIENTS) as pool:
                answers = [a for each in pool.map(lambda seed: one_client(account, seed), range(CLIENTS)) for a in each]
            trial.back()
            assert len(answers) == CLIENTS * ROUNDS * 4
            assert [answer for answer in answers if answer[1] >= 500] == []
            assert {code for code, _ in answers} <= {"ok", "IncorrectInstanceState"}

            def arrived() -> bool:
                under_way = {"pending", "stopping", "shutting-down"}
                return not under_way & {i["State"]["Name"] for i in instances(account.ec2)}

            until(arrived, "nothing is under way", 60)
            trial.recovered()
        assert len(instances(account.ec2)) == CLIENTS * ROUNDS, "each is there once"
        retries = until(lambda: of_cloud(cloud)["cumulet_database_retries_total"], "retries are counted", 10)
        assert retries >= len(answers) / 100
        ids = [i["InstanceId"] for i in instances(account.ec2)]
        account.ec2.terminate_instances(InstanceIds=ids)
        wait(account, ids, "terminated")
        cloud.wait_clean(60)
        (id,) = run(account)
        wait(account, [id], "running")
