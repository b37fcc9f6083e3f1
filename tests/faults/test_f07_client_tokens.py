"""F07: the same RunInstances, fifty times at once, over three gateways, of which one is killed in between: one
reservation, and whoever is answered is answered with it."""

from concurrent.futures import ThreadPoolExecutor

from botocore.exceptions import BotoCoreError, ClientError

from harness import figures
from harness.cloud import Cloud
from harness.ec2 import instances, wait
from harness.wait import until


def test_f07_one_token_over_three_gateways_of_which_one_dies(kind: str):
    with Cloud("fake", cluster=kind) as cloud:
        for _ in range(2):
            cloud.another("gateway")
        cloud.start()
        account = cloud.account()
        doors = [cloud.client("ec2", account.key, door) for door in cloud.doors]
        image = cloud.image

        def launch(number: int, token: str):
            wanted = {"ImageId": image, "InstanceType": "t3.nano", "MinCount": 2, "MaxCount": 2, "ClientToken": token}
            try:
                made = doors[number % len(doors)].run_instances(**wanted)
            except (BotoCoreError, ClientError) as error:
                return error
            return made["ReservationId"], tuple(i["InstanceId"] for i in made["Instances"])

        victim = cloud.processes[-1]
        for trial in range(10):
            token = f"trial-{trial}"
            with ThreadPoolExecutor(50) as pool:
                answers = [pool.submit(launch, number, token) for number in range(50)]
                until(lambda: any(a.done() for a in answers), "the first answer", 30, every=0.001)  # noqa: B023
                victim.kill()
                answers = [answer.result() for answer in answers]
            answered = {a for a in answers if isinstance(a, tuple)}
            assert len(answered) == 1, answers
            died = [a for a in answers if isinstance(a, Exception)]
            assert all(isinstance(a, BotoCoreError) for a in died), "no gateway that lives refuses"
            cloud.start()
            with figures.trial("F07"):
                again = launch(2, token)
            assert {again} == answered, "the one that came back says the same"
        assert len(instances(account.ec2)) == 20
        wait(account, [i["InstanceId"] for i in instances(account.ec2)], "running")
        cloud.wait_clean()
