"""F12: the broker restarts, is killed, loses a queue, or asks to wait, with launches in flight. Reads go on, writes are
accepted or refused within five seconds, and what was accepted comes to be."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from harness import cluster, figures
from harness.cloud import Cloud
from harness.ec2 import instances, run, states, wait

PATIENCE = 5.0
CONVERGED = 60.0


def restart(broker, cloud: Cloud) -> None:
    broker.restart()


def kill(broker, cloud: Cloud) -> None:
    broker.kill()
    time.sleep(3)  # the time without a broker is what is tested
    broker.start()


def delete_queues(broker, cloud: Cloud) -> None:
    for queue in broker.queues(cloud.vhost):
        broker.delete_queue(cloud.vhost, queue)


def memory_alarm(broker, cloud: Cloud) -> None:
    broker.memory_alarm(True)
    time.sleep(3)
    broker.memory_alarm(False)


def disk_alarm(broker, cloud: Cloud) -> None:
    broker.disk_alarm(True)
    time.sleep(3)
    broker.disk_alarm(False)


LONG = [pytest.param(fault, marks=pytest.mark.slow) for fault in (kill, memory_alarm, disk_alarm)]


@pytest.mark.parametrize("fault", [restart, delete_queues, *LONG])
def test_f12_a_hundred_launches_in_flight(cloud: Cloud, fault):
    account = cloud.account()
    broker = cluster.broker()
    running = True
    # A quorum queue that is declared and killed within the same second stays without a leader (RabbitMQ 3.10): the
    # broker has to have written down that it has it.
    wait(account, run(account), "running")
    time.sleep(3)

    def launch(number: int) -> list[str]:
        began = time.monotonic()
        try:
            return run(account, ClientToken=f"token-{number}")
        except ClientError as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 503, error
            return []
        finally:
            assert time.monotonic() - began < PATIENCE, "a write hangs"

    def read() -> float:
        slowest = 0.0
        while running:
            began = time.monotonic()
            instances(account.ec2)
            slowest = max(slowest, time.monotonic() - began)
        return slowest

    with ThreadPoolExecutor(10) as pool:
        reader = pool.submit(read)
        launches = [pool.submit(launch, number) for number in range(100)]
        fault(broker, cloud)
        accepted = [id for made in launches for id in made.result()]
        running = False
        assert reader.result() < PATIENCE
    assert accepted
    with figures.trial("F12"):
        wait(account, accepted, "running", CONVERGED)
    assert len(instances(account.ec2)) == len(accepted) + 1, "none is lost, none is there twice"
    account.ec2.terminate_instances(InstanceIds=accepted)
    wait(account, accepted, "terminated", CONVERGED)
    assert states(account.ec2, accepted) == {"terminated"}
