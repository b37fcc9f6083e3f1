"""Pages with a stock client, and across gateways; each paged operation and its limits are tested in process
(gateway/src/tests/examples)."""

import pytest

from harness.cloud import Account
from harness.ec2 import error_of, filters, run

TOKEN = "InvalidNextToken"


@pytest.mark.roles
def test_pages_hold_everything_once(account: Account, ec2):
    made = [id for _ in range(12) for id in run(account, 2)]
    for size in (5, 7, 1000):
        pages = ec2.get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": size})
        pages = [page["Reservations"] for page in pages]
        found = [i["InstanceId"] for page in pages for r in page for i in r["Instances"]]
        assert sorted(found) == sorted(made) and all(len(page) <= size for page in pages), size
    everything = ec2.describe_instances()
    assert "NextToken" not in everything and len(everything["Reservations"]) == 12


@pytest.mark.roles
def test_pages_stay_right_while_rows_come_and_go(account: Account, ec2):
    made = set(run(account, 1)[0] for _ in range(12))
    first = ec2.describe_instances(MaxResults=5)
    seen = [i["InstanceId"] for r in first["Reservations"] for i in r["Instances"]]
    ec2.terminate_instances(InstanceIds=seen[:3])
    late = run(account, 3)
    token = first["NextToken"]
    while token:
        page = ec2.describe_instances(MaxResults=5, NextToken=token)
        seen += [i["InstanceId"] for r in page["Reservations"] for i in r["Instances"]]
        token = page.get("NextToken")
    assert len(seen) == len(set(seen)) and made <= set(seen) <= made | set(late)


@pytest.mark.roles
def test_tokens_are_sealed(account: Account, ec2):
    for n in range(12):
        ec2.create_security_group(GroupName=f"g{n}", Description="d")
    token = ec2.describe_security_groups(MaxResults=5)["NextToken"]
    assert error_of(ec2.describe_security_groups, MaxResults=6, NextToken=token) == ("ok", 200), "the size may change"
    changed = token[:-1] + ("A" if token[-1] != "A" else "B")
    for bad in (changed, "nonsense", "a" * 3000, "", token + token, token[:10]):
        if bad:
            assert error_of(ec2.describe_security_groups, MaxResults=5, NextToken=bad) == (TOKEN, 400), bad[:20]
    # Bound to the operation, to the filters, and to the account.
    assert error_of(ec2.describe_security_group_rules, MaxResults=5, NextToken=token)[0] == TOKEN
    with_filter = {"Filters": filters(description=["d"])}
    assert error_of(ec2.describe_security_groups, MaxResults=5, NextToken=token, **with_filter)[0] == TOKEN
    other = account.cloud.account().ec2
    assert error_of(other.describe_security_groups, MaxResults=5, NextToken=token)[0] == TOKEN
