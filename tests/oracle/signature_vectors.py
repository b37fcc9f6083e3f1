"""Writes signed requests of botocore and boto as JSON, for the tests of gateway/src/auth.

Nothing is sent: each request is caught after signing.

    python3 -m venv venv && venv/bin/pip install botocore==1.44.5 boto==2.49.0
    venv/bin/python tests/oracle/signature_vectors.py gateway/src/auth/testdata

boto 2.49 needs Python 3.11 or older.
"""

import datetime
import json
import os
import sys
import time
import unittest.mock
from urllib.parse import urlsplit

import boto.auth
import boto.ec2.connection
import boto.ec2.regioninfo
import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.session

ACCESS = "AKIAIOSFODNN7EXAMPLE"
SESSION = "ASIAIOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TOKEN = "FwoGZXIvYXdzEJr//////////wEaDN+TEST/token=="
NOW = 1795224000
ENDPOINT = "http://cloud.example.com:8773"
ODD = "a b+c&d=e~f*g/h%20;é漢'()!"


def text(value):
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def vector(name, method, url, headers, body, access=ACCESS):
    parts = urlsplit(url)
    headers = [[key, text(value)] for key, value in headers]
    # Never signed, and it tells about the machine that this ran on.
    headers = [[key, "Botocore" if key == "User-Agent" else value] for key, value in headers]
    if not any(key.lower() == "host" for key, _ in headers):
        headers.append(["Host", parts.netloc])
    body = body or ""
    return {
        "name": name,
        "method": method,
        "path": parts.path or "/",
        "query": parts.query,
        "headers": headers,
        "body": body if isinstance(body, str) else body.decode("utf-8"),
        "access_key_id": access,
        "now": NOW,
    }


class Caught(Exception):
    pass


def client(service, region="us-east-1", endpoint=ENDPOINT, token=None):
    session = botocore.session.Session()
    session.set_credentials(SESSION if token else ACCESS, SECRET, token)
    return session.create_client(service, region_name=region, endpoint_url=endpoint)


def catch(name, made, operation, **kwargs):
    caught = []

    def keep(request, **_):
        caught.append(request)
        raise Caught

    made.meta.events.register("before-send", keep)
    try:
        getattr(made, operation)(**kwargs)
    except Caught:
        made.meta.events.unregister("before-send", keep)
    request = caught[0]
    access = SESSION if "X-Amz-Security-Token" in request.headers else ACCESS
    return vector(name, request.method, request.url, request.headers.items(), request.body, access)


def presigned(name, made, operation, params, token=None, method="GET"):
    url = made.generate_presigned_url(operation, Params=params, ExpiresIn=300, HttpMethod=method)
    return vector(name, method, url, [], "", SESSION if token else ACCESS)


def botocore_vectors():
    ec2, sts, iam = client("ec2"), client("sts"), client("iam")
    temporary = client("ec2", token=TOKEN)
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": ODD}]}]
    filters = {"Filters": [{"Name": "tag:Name", "Values": [ODD, "*", ""]}]}
    yield catch("ec2 post", ec2, "describe_regions")
    yield catch("ec2 post with odd characters", ec2, "run_instances", ImageId="ami-1", MinCount=1,
                MaxCount=1, UserData="#!/bin/sh\necho + &\n", TagSpecifications=tags, ClientToken="t")
    yield catch("ec2 post, another region", client("ec2", "undefined-123"), "describe_regions")
    yield catch("ec2 post, endpoint with a path", client("ec2", endpoint=ENDPOINT + "/services/compute"),
                "describe_regions")
    yield catch("ec2 post, endpoint with an odd path",
                client("ec2", endpoint=ENDPOINT + "/a%20b/./c/../@d//e=f/"), "describe_regions")
    yield catch("ec2 post, default port", client("ec2", endpoint="http://cloud.example.com"), "describe_regions")
    yield catch("ec2 post, session", temporary, "describe_regions")
    yield catch("sts post", sts, "get_caller_identity")
    yield catch("iam post", iam, "get_user")
    yield presigned("ec2 presigned", ec2, "describe_regions", {})
    yield presigned("ec2 presigned with odd characters", ec2, "describe_instances", filters)
    yield presigned("ec2 presigned post", ec2, "describe_regions", {}, method="POST")
    yield presigned("ec2 presigned, session", temporary, "describe_regions", {}, token=TOKEN)
    yield presigned("sts presigned", sts, "get_caller_identity", {})


def botocore_v2_vectors():
    credentials = botocore.credentials.Credentials(ACCESS, SECRET)
    for method, name in [("POST", "botocore SigV2 post"), ("GET", "botocore SigV2 get")]:
        params = {"Action": "DescribeInstances", "Version": "2010-08-31", "Filter.1.Name": "tag:Name",
                  "Filter.1.Value.1": ODD, "Filter.10.Name": "x"}
        where = {"data": params} if method == "POST" else {"params": params}
        request = botocore.awsrequest.AWSRequest(method, ENDPOINT + "/", **where)
        botocore.auth.SigV2Auth(credentials).add_auth(request)
        ready = request.prepare()
        yield vector(name, method, ready.url, ready.headers.items(), ready.body)


def boto_request(name, method, path, params, handler, sha1=False):
    region = boto.ec2.regioninfo.RegionInfo(name="us-east-1", endpoint="cloud.example.com")
    made = boto.ec2.connection.EC2Connection(ACCESS, SECRET, is_secure=False, port=8773, path=path, region=region)
    made.auth_service_name, made.auth_region_name = "ec2", "us-east-1"
    made._auth_handler = handler("cloud.example.com", boto.config, made.provider)
    made._auth_handler.service_name, made._auth_handler.region_name = "ec2", "us-east-1"
    if sha1:
        made._auth_handler._hmac_256 = None
    params = dict(params, Action="DescribeInstances", Version=made.APIVersion)
    if handler is boto.auth.QuerySignatureV2AuthHandler:
        # For SigV4 `authorize` sees to these by itself.
        params.update(AWSAccessKeyId=ACCESS)
    request = made.build_base_http_request(method, "/", "/", params, {}, "", made.server_name())
    request.authorize(connection=made)
    url = ENDPOINT + request.path
    return vector(name, method, url, request.headers.items(), request.body)


def boto_vectors():
    params = {"Filter.1.Name": "tag:Name", "Filter.1.Value.1": ODD}
    v2, v4 = boto.auth.QuerySignatureV2AuthHandler, boto.auth.HmacAuthV4Handler
    yield boto_request("boto SigV2 post", "POST", "/", params, v2)
    yield boto_request("boto SigV2 get", "GET", "/", params, v2)
    yield boto_request("boto SigV2 post to a path", "POST", "/services/Cloud", params, v2)
    yield boto_request("boto SigV2 post, SHA-1", "POST", "/", params, v2, sha1=True)
    yield boto_request("boto SigV2 get, SHA-1", "GET", "/", params, v2, sha1=True)
    yield boto_request("boto SigV4 post", "POST", "/", params, v4)


def write(directory, name, vectors):
    with open(os.path.join(directory, name), "w", encoding="utf-8") as out:
        json.dump(list(vectors), out, indent=1, ensure_ascii=False)
        out.write("\n")


def main():
    moment = datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc)
    gmtime = time.gmtime

    class Frozen(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return moment if tz else moment.replace(tzinfo=None)

        @classmethod
        def utcnow(cls):
            return moment.replace(tzinfo=None)

    with unittest.mock.patch("botocore.auth.get_current_datetime",
                             lambda remove_tzinfo=True: moment.replace(tzinfo=None) if remove_tzinfo else moment), \
            unittest.mock.patch("time.gmtime", lambda *a: gmtime(*(a or (NOW,)))), \
            unittest.mock.patch("datetime.datetime", Frozen):
        write(sys.argv[1], "botocore.json", botocore_vectors())
        write(sys.argv[1], "sigv2.json", [*botocore_v2_vectors(), *boto_vectors()])


if __name__ == "__main__":
    main()
