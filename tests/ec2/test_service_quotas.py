"""Service Quotas with the stock client, over awsJson: what is answered is what is enforced."""

import pytest

from harness.cloud import Account
from harness.ec2 import error_of, refused


@pytest.fixture
def quotas(account: Account):
    return account.client("service-quotas")


def test_what_is_answered_is_enforced(account: Account, ec2, quotas):
    vcpus = quotas.get_service_quota(ServiceCode="ec2", QuotaCode="L-1216C47A")["Quota"]
    assert vcpus["QuotaName"].startswith("Running On-Demand Standard") and vcpus["Adjustable"] and not vcpus["GlobalQuota"]
    assert vcpus["QuotaArn"] == f"arn:aws:servicequotas:us-east-1:{account.id}:ec2/L-1216C47A"
    instances = quotas.get_service_quota(ServiceCode="ec2", QuotaCode="C-Instances")["Quota"]["Value"]
    told = ec2.describe_account_attributes(AttributeNames=["max-instances"])["AccountAttributes"]
    assert [float(v["AttributeValue"]) for a in told for v in a["AttributeValues"]] == [instances]
    groups = quotas.get_service_quota(ServiceCode="vpc", QuotaCode="L-2AFB9258")["Quota"]["Value"]
    made = [ec2.create_security_group(GroupName=f"g{n}", Description="d")["GroupId"] for n in range(int(groups) + 1)]
    launch = {"ImageId": account.cloud.image, "InstanceType": "t3.nano", "MinCount": 1, "MaxCount": 1, "DryRun": True}
    assert error_of(ec2.run_instances, SecurityGroupIds=made[1:], **launch) == ("DryRunOperation", 412)
    assert error_of(ec2.run_instances, SecurityGroupIds=made, **launch) == ("SecurityGroupsPerInterfaceLimitExceeded", 400)


def test_lists_and_pages(quotas):
    services = quotas.list_services()["Services"]
    assert [s["ServiceCode"] for s in services] == ["ec2", "vpc"]
    for service in ("ec2", "vpc"):
        whole = quotas.list_service_quotas(ServiceCode=service)["Quotas"]
        pages = quotas.get_paginator("list_service_quotas").paginate(ServiceCode=service, PaginationConfig={"PageSize": 1})
        assert [q for page in pages for q in page["Quotas"]] == whole and len(whole) >= 3


def test_refusals_are_the_models_exceptions(quotas):
    with pytest.raises(quotas.exceptions.NoSuchResourceException):
        quotas.get_service_quota(ServiceCode="ec2", QuotaCode="L-00000000")
    with pytest.raises(quotas.exceptions.NoSuchResourceException):
        quotas.list_service_quotas(ServiceCode="nothing")
    with pytest.raises(quotas.exceptions.InvalidPaginationTokenException):
        quotas.list_service_quotas(ServiceCode="ec2", NextToken="nonsense")
    with refused("UnsupportedOperationException"):
        quotas.request_service_quota_increase(ServiceCode="ec2", QuotaCode="L-1216C47A", DesiredValue=1000.0)


def test_who_is_not_known_is_told_in_json(account: Account):
    kms = account.client("kms")
    with refused("InvalidSignatureException", message="not served here"):
        kms.list_keys()
