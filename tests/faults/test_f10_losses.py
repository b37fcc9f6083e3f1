"""F10: every k-th message is lost, k = 1 to 10: what was asked meanwhile is done by the conductor alone, which sends again
what was not answered."""

import time

import pytest

from harness import figures
from harness.ec2 import instances, run, states, wait
from harness.life import Life, bad, console
from harness.wait import until

# After so many seconds the conductor sends again what was not answered.
PERIOD = 15

# How long messages are lost: what is sent for the second time is lost too. A host of which nothing is heard for 30
# seconds counts as dead, which is another fault.
LOSSES = 20


@pytest.mark.slow
@pytest.mark.parametrize("k", range(1, 11))
def test_f10_all_is_well_two_periods_after_the_losses(kind: str, k: int):
    cloud = bad(kind, f"lose={k}")
    losing = cloud.home / "losing"
    cloud.variables["CUMULET_FAULTS_WHILE"] = str(losing)
    with cloud:
        account = cloud.first_account()
        ec2 = account.ec2
        ids = run(account, 8)
        wait(account, ids, "running")
        stopped, rebooted, ended, untouched = (ids[at : at + 2] for at in range(0, 8, 2))
        losing.touch()
        ec2.stop_instances(InstanceIds=stopped)
        ec2.reboot_instances(InstanceIds=rebooted)
        ec2.terminate_instances(InstanceIds=ended)
        late, early = run(account, 2), run(account, 2)
        ec2.terminate_instances(InstanceIds=early)
        time.sleep(LOSSES)
        losing.unlink()
        with figures.trial(f"F10 one of {k} was lost") as trial:
            until(
                lambda: (
                    states(ec2, stopped) == {"stopped"}
                    and states(ec2, [*ended, *early]) == {"terminated"}
                    and states(ec2, [*untouched, *rebooted, *late]) == {"running"}
                    and all(console(account, id) == 2 for id in rebooted)
                ),
                "the end of all that was asked",
                2 * PERIOD,
            )
            trial.recovered()
            assert trial.seconds <= 2 * PERIOD
        assert all(console(account, id) == 1 for id in [*untouched, *late]), "nothing else has started over"
        assert len(instances(ec2)) == 12
        cloud.wait_clean()


# Where it never ends, what is sent again may be lost again, as may the answer: of a dozen instances one has bad luck
# several times over, the more so the more is lost. With k = 1 nothing would ever reach a host.
LATEST = {2: 480, 3: 240}


@pytest.mark.slow
@pytest.mark.parametrize("k", range(2, 11))
def test_f10_a_life_with_losses(kind: str, k: int):
    with bad(kind, f"lose={k}") as cloud:
        Life(cloud.first_account(), f"F10 one of {k} is always lost", LATEST.get(k, 150)).live()
