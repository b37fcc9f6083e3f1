"""The table at the end of a run: stages, the slowest tests of all runners, and what was skipped, last."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

NEXTEST = """<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="nextest-run" tests="2"><testsuite name="cumulet-backend">
<testcase name="store::a_write" classname="cumulet-backend" time="7.25"/>
<testcase name="store::b" classname="cumulet-backend" time="0.010"/>
</testsuite></testsuites>"""

PYTEST = """<testsuites><testsuite name="pytest">
<testcase classname="tests.ec2.test_tags" name="test_fifty_tags" time="12.5"/>
<testcase classname="tests.clients.test_terraform" name="test_one" time="0.0"><skipped type="pytest.skip" \
message="Terraform: not installed">where</skipped></testcase>
<testcase classname="tests.clients.test_terraform" name="test_two" time="0.0"><skipped type="pytest.skip" \
message="Terraform: not installed">where</skipped></testcase>
</testsuite></testsuites>"""


def summary(folder: Path) -> list[str]:
    done = subprocess.run([ROOT / "scripts/test-summary", folder], capture_output=True, text=True, check=True)
    return [" ".join(line.split()) for line in done.stdout.splitlines()]


def test_stages_slow_tests_and_at_last_what_was_skipped(tmp_path: Path):
    (tmp_path / "stages").write_text("30\tunit tests\n10\tformat\n")
    (tmp_path / "skipped").write_text("dependencies: cargo-deny is not installed\n")
    (tmp_path / "unit tests.xml").write_text(NEXTEST)
    (tmp_path / "end to end.xml").write_text(PYTEST)
    (tmp_path / "cut off.xml").write_text("<testsuites><testsuite")
    lines = summary(tmp_path)
    assert lines[:3] == ["seconds of each stage:", "30 75% unit tests", "10 25% format"]
    slowest = lines.index("the 5 slowest of 5 tests:")
    assert lines[slowest + 1 : slowest + 3] == [
        "12.5 end to end tests.ec2.test_tags::test_fifty_tags",
        "7.2 unit tests cumulet-backend::store::a_write",
    ]
    assert lines[-3:] == [
        "skipped:",
        "dependencies: cargo-deny is not installed",
        "2 × Terraform: not installed (end to end)",
    ]


def test_of_nothing_it_says_so(tmp_path: Path):
    assert summary(tmp_path) == ["nothing was skipped"]


STAGES = """
set -euo pipefail
. scripts/stages.sh
trap finish EXIT
slow() { echo beside; }
background "a slow one" slow
stage "first" true
skip "dependencies" "cargo-deny is not installed"
await "a slow one"
stage "last" {last}
"""


def stages(last: str) -> subprocess.CompletedProcess:
    return subprocess.run(["bash", "-c", STAGES.replace("{last}", last)], cwd=ROOT, capture_output=True, text=True)


def test_a_run_of_stages_ends_with_the_table():
    done = stages("true")
    assert done.returncode == 0, done.stderr
    heading = done.stdout.index("seconds of each stage:")
    told = done.stdout[heading:]
    assert "beside" in done.stdout and all(name in told for name in ("first", "a slow one", "last"))
    assert told.index("skipped:") > told.index("last") and "all stages passed" in told


def test_a_run_that_fails_names_its_stage_and_has_the_table_all_the_same():
    done = stages("false")
    assert done.returncode == 1
    assert "seconds of each stage:" in done.stdout and 'failed in the stage "last"' in done.stderr
