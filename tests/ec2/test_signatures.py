"""Signatures against the running server: the attack cases S01-S16 that EC2 can meet, presigned requests, SigV2."""

import base64
import hashlib
import hmac
from datetime import datetime, timedelta, timezone

import boto.ec2.connection
import boto.ec2.regioninfo
import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from harness.cloud import Account, Cloud, Key
from harness.ec2 import error_of
from harness.signing import FORM, Raw, action, form

DESCRIBE = action("DescribeRegions")
OK = ("ok", 200)
DENIED = ("AuthFailure", 401)
NOT_COVERED = ("SignatureDoesNotMatch", 403)
INCOMPLETE = ("IncompleteSignature", 400)
EXPIRED = ("RequestExpired", 400)
MALFORMED = ("MalformedQueryString", 400)


def test_the_signer_of_these_tests_is_believed(raw: Raw):
    assert raw.post(DESCRIBE).error() == OK and raw.get(DESCRIBE).error() == OK


def test_botocores_signers(account: Account, raw: Raw):
    credentials = Credentials(account.key.id, account.key.secret)
    body = form(DESCRIBE)
    request = AWSRequest("POST", account.cloud.endpoint + "/", headers={"Content-Type": FORM}, data=body)
    SigV4Auth(credentials, "ec2", "us-east-1").add_auth(request)
    headers = dict(request.headers.items()) | {"Host": account.cloud.address}
    assert raw.send("POST", "/", headers, body).error() == OK
    request = AWSRequest("GET", account.cloud.endpoint + "/", params=DESCRIBE)
    SigV4QueryAuth(credentials, "ec2", "us-east-1", expires=60).add_auth(request)
    target = request.prepare().url.removeprefix(account.cloud.endpoint)
    assert raw.send("GET", target, {"Host": account.cloud.address}).error() == OK
    url = account.ec2.generate_presigned_url("describe_regions", HttpMethod="GET")
    assert raw.send("GET", url.removeprefix(account.cloud.endpoint), {"Host": account.cloud.address}).error() == OK


def test_s01_skew(raw: Raw):
    for minutes, expected in [(-14, OK), (14, OK), (-16, EXPIRED), (16, EXPIRED), (-1440, EXPIRED)]:
        signer = raw.signer.but(offset=timedelta(minutes=minutes))
        assert raw.post(DESCRIBE, signer).error() == expected, minutes


def test_s02_no_time(account: Account, raw: Raw):
    body = form(DESCRIBE)
    headers = raw.signer.but().headers(account.cloud.address, body)
    del headers["X-Amz-Date"]
    assert raw.send("POST", "/", headers, body).error() == INCOMPLETE


def test_s04_unsigned_headers(raw: Raw):
    for name in ("X-Amz-Security-Token", "X-Amz-Acl", "x-amz-copy-source", "X-Amz-Content-Sha256"):
        assert raw.post(DESCRIBE, headers={name: "x"}).error() == NOT_COVERED, name
    assert raw.post(DESCRIBE, headers={"X-Forwarded-Host": "evil.example", "X-Amzn-Trace-Id": "1"}).error() == OK


def test_s05_what_must_be_signed(raw: Raw):
    for signed in (["x-amz-date"], ["host"], ["host", "x-amz-date", "x-not-there"]):
        assert raw.post(DESCRIBE, raw.signer.but(signed=signed)).error() == NOT_COVERED, signed
    assert raw.post(DESCRIBE, raw.signer.but(signed=["host", "x-amz-date"])).error() == OK


def test_s06_scope(raw: Raw):
    yesterday = (datetime.now(timezone.utc) - timedelta(days=1)).strftime("%Y%m%d")
    for changes, expected in [
        ({"scope_date": yesterday}, DENIED),
        ({"service": "s3"}, DENIED),
        ({"service": "nonsense"}, DENIED),
        ({"region": "undefined-123"}, OK),
        ({"region": "eu-west-7"}, OK),
    ]:
        assert raw.post(DESCRIBE, raw.signer.but(**changes)).error() == expected, changes
    # Signed for another service of the same door, a request is that service's.
    assert raw.post(DESCRIBE, raw.signer.but(service="sts")).status == 400
    assert raw.post({"Action": "GetCallerIdentity", "Version": "2011-06-15"}, raw.signer.but(service="sts")).error() == OK
    assert raw.post({"Action": "GetCallerIdentity", "Version": "2011-06-15"}).error() == ("InvalidAction", 400)


def test_s08_the_body_is_covered(account: Account, raw: Raw):
    body = form(DESCRIBE)
    headers = raw.signer.but().headers(account.cloud.address, body)
    other = form(action("DescribeVpcs"))
    assert raw.send("POST", "/", headers, other).error() == DENIED
    for declared in ("UNSIGNED-PAYLOAD", hashlib.sha256(b"other").hexdigest(), "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"):
        signer = raw.signer.but(payload=declared)
        headers = signer.headers(account.cloud.address, body, more={"X-Amz-Content-SHA256": declared})
        assert raw.send("POST", "/", headers, body).error() == NOT_COVERED, declared
    right = {"X-Amz-Content-SHA256": hashlib.sha256(body).hexdigest()}
    assert raw.send("POST", "/", raw.signer.but().headers(account.cloud.address, body, more=right), body).error() == OK


def test_s09_other_algorithms(account: Account, raw: Raw):
    body = form(DESCRIBE)
    for header in (
        "AWS AKIAIOSFODNN7EXAMPLE:frJIUN8DYpKDtOLCwo//yllqDzg=", "Basic QUtJQTpzZWNyZXQ=", "Bearer x", "",
        "AWS4-HMAC-SHA1 Credential=a/20261121/r/ec2/aws4_request, SignedHeaders=host, Signature=00",
    ):  # fmt: skip
        headers = raw.signer.but().headers(account.cloud.address, body) | {"Authorization": header}
        assert raw.send("POST", "/", headers, body).error() == INCOMPLETE, header


def test_s11_two_readings_of_one_request(raw: Raw):
    assert raw.post(DESCRIBE, query="Action=TerminateInstances").error() == MALFORMED
    assert raw.post(b"Action=DescribeRegions&%41ction=DescribeVpcs&Version=2016-11-15").error() == MALFORMED
    # In the URL and nowhere else: fine.
    assert raw.post({"Action": "DescribeRegions"}, query="Version=2016-11-15").error() == OK


def test_s12_encodings(raw: Raw):
    for value in ("%", "%zz", "%C0%AF", "%FF", "%ED%A0%80"):
        body = f"Action=DescribeRegions&Version=2016-11-15&RegionName.1={value}".encode()
        assert raw.post(body).error() == MALFORMED, value
    # `;` separates nothing, and a plus is a space.
    assert raw.post(b"Action=DescribeRegions&Version=2016-11-15;DryRun=true").status == 400
    plus = raw.post(b"Action=DescribeRegions&Version=2016-11-15&RegionName.1=us+east")
    assert "us east" in plus.message


def test_s13_ambiguous_requests(account: Account, raw: Raw):
    body = form(DESCRIBE)
    host = account.cloud.address
    good = raw.signer.but().headers(host, body)
    lines = "".join(f"{k}: {v}\r\n" for k, v in good.items())
    length = f"Content-Length: {len(body)}\r\n"

    def status(head: str) -> int:
        return raw.bytes(head.encode() + b"\r\n" + body).status

    assert status(f"POST / HTTP/1.1\r\n{lines}{length}") == 200
    assert status(f"POST http://{host}/ HTTP/1.1\r\n{lines}{length}") == 200, "as behind a proxy"
    for name, head in [
        ("two Authorization headers", f"POST / HTTP/1.1\r\n{lines}Authorization: {good['Authorization']}\r\n{length}"),
        ("two hosts", f"POST / HTTP/1.1\r\n{lines}Host: evil.example\r\n{length}"),
        ("two dates", f"POST / HTTP/1.1\r\n{lines}X-Amz-Date: {good['X-Amz-Date']}\r\n{length}"),
        ("absolute form of another host", f"POST http://evil.example/ HTTP/1.1\r\n{lines}{length}"),
        ("both lengths", f"POST / HTTP/1.1\r\n{lines}{length}Transfer-Encoding: chunked\r\n"),
        ("two lengths", f"POST / HTTP/1.1\r\n{lines}{length}Content-Length: 1\r\n"),
        ("folded header", f"POST / HTTP/1.1\r\n{lines}X-Folded: a\r\n b\r\n{length}"),
        ("no host", "POST / HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in good.items() if k != "Host") + length),
    ]:
        assert 400 <= status(head) < 500, name
    query = raw.signer.but().presigned(host, DESCRIBE)
    both = raw.send("GET", f"/?{query}", raw.signer.but().headers(host, b"", "GET", query=query))
    assert both.status == 400, "header and query both sign"


def test_s15_presigned(raw: Raw):
    for changes, expected in [
        ({"expires": "604800"}, OK),
        ({"expires": "1", "offset": timedelta(seconds=-5)}, EXPIRED),
        ({"expires": "0"}, ("InvalidQueryParameter", 400)),
        ({"expires": "-1"}, ("InvalidQueryParameter", 400)),
        ({"expires": "604801"}, ("InvalidQueryParameter", 400)),
        ({"expires": "4294967295"}, ("InvalidQueryParameter", 400)),
        ({"expires": "soon"}, ("InvalidQueryParameter", 400)),
        ({"offset": timedelta(minutes=20)}, EXPIRED),
        ({"break_signature": True}, DENIED),
        ({"signed": ["x-custom"]}, NOT_COVERED),
    ]:
        assert raw.get(DESCRIBE, raw.signer.but(**changes)).error() == expected, changes


def test_tokens_of_sessions_that_are_none(raw: Raw):
    assert raw.post(DESCRIBE, raw.signer.but(token="x")).error() == DENIED


# ---- version 2


class Boto2(boto.ec2.connection.EC2Connection):
    """boto of 2018, which signs with version 2 unless told otherwise by its configuration."""

    def _required_auth_capability(self):
        return ["ec2"]


def boto2(cloud: Cloud, key: Key, kind=Boto2):
    host, port = cloud.address.split(":")
    region = boto.ec2.regioninfo.RegionInfo(name="us-east-1", endpoint=host)
    connection = kind(
        key.id, key.secret, is_secure=False, host=host, port=int(port), path="/", region=region, debug=0
    )
    connection.num_retries = 0
    return connection


def test_sigv2_is_off_unless_configured(account: Account):
    connection = boto2(account.cloud, account.key)
    with pytest.raises(boto.exception.EC2ResponseError) as caught:
        connection.get_all_regions()
    assert (caught.value.error_code, caught.value.status) == DENIED
    connection.close()


def test_boto_of_2018_with_sigv4(account: Account):
    connection = boto2(account.cloud, account.key, boto.ec2.connection.EC2Connection)
    connection.auth_region_name, connection.auth_service_name = "us-east-1", "ec2"
    assert [r.name for r in connection.get_all_regions()] == ["us-east-1"]
    connection.close()


@pytest.fixture(scope="module")
def old_cloud():
    with Cloud("fake", "[auth]\nsigv2 = true\n") as cloud:
        yield cloud


def test_boto_of_2018_with_sigv2(old_cloud: Cloud):
    connection = boto2(old_cloud, old_cloud.key)
    assert [r.name for r in connection.get_all_regions()] == ["us-east-1"]
    reservation = connection.run_instances(old_cloud.image, instance_type="t3.nano", min_count=2, max_count=2)
    ids = [i.id for i in reservation.instances]
    assert sorted(i.id for r in connection.get_all_reservations(instance_ids=ids) for i in r.instances) == sorted(ids)
    connection.create_tags(ids, {"a b": "c+d/é"})
    assert connection.get_all_reservations(instance_ids=ids)[0].instances[0].tags == {"a b": "c+d/é"}
    assert connection.get_console_output(ids[0]).instance_id == ids[0]
    with pytest.raises(boto.exception.EC2ResponseError) as caught:
        connection.terminate_instances(["i-00000000000000001"])
    assert caught.value.error_code == "InvalidInstanceID.NotFound"
    connection.close()


def sigv2(raw: Raw, key: Key, **changes) -> tuple[str, int]:
    now = datetime.now(timezone.utc) + changes.pop("offset", timedelta())
    digest = {"HmacSHA256": hashlib.sha256, "HmacSHA1": hashlib.sha1}
    parameters = DESCRIBE | {
        "AWSAccessKeyId": key.id,
        "SignatureVersion": "2",
        "SignatureMethod": "HmacSHA256",
        "Timestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    parameters = {k: v for k, v in (parameters | changes).items() if v is not None}
    query = form(sorted(parameters.items())).decode()
    to_sign = f"POST\n{raw.cloud.address}\n/\n{query}"
    algorithm = digest.get(parameters.get("SignatureMethod"), hashlib.sha256)
    signature = base64.b64encode(hmac.new(key.secret.encode(), to_sign.encode(), algorithm).digest()).decode()
    body = form(list(parameters.items()) + [("Signature", signature)])
    return raw.send("POST", "/", {"Host": raw.cloud.address, "Content-Type": FORM}, body).error()


def test_sigv2_rules(old_cloud: Cloud):
    key = old_cloud.key
    raw = Raw(old_cloud, key)
    assert sigv2(raw, key) == OK
    for changes in (
        {"offset": timedelta(minutes=-20)}, {"offset": timedelta(minutes=20)}, {"Timestamp": None},
        {"SignatureMethod": "HmacSHA1"}, {"SignatureMethod": "HmacMD5"}, {"SignatureVersion": "1"},
        {"SignatureVersion": "0"}, {"Expires": "2001-01-01T00:00:00Z", "Timestamp": None},
    ):  # fmt: skip
        code, status = sigv2(raw, key, **changes)
        assert status in (400, 401, 403), (changes, code)
    assert sigv2(raw, Key(key.id, "wrong")) == DENIED
    assert error_of(old_cloud.client("ec2", key).describe_regions) == OK
