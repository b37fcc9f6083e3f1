"""Collects the AWS SigV4 test suite into one JSON file for the tests of gateway/src/auth.

    python3 tests/oracle/sigv4_suite.py SUITE > gateway/src/auth/testdata/suite.json

SUITE is `aws-signing-test-suite/v4` of the `aws-sigv4` crate (Apache-2.0). Left out are the cases
of services that don't normalise paths (S3), and folded headers, which HTTP no longer allows.
"""

import json
import os
import sys

SKIP = {"get-header-value-multiline"}


def read(*path):
    try:
        with open(os.path.join(*path), encoding="utf-8", newline="") as source:
            return source.read().replace("\r\n", "\n")
    except FileNotFoundError:
        return None


def main():
    cases = []
    for name in sorted(os.listdir(sys.argv[1])):
        context = json.loads(read(sys.argv[1], name, "context.json") or "{}")
        if name in SKIP or not context.get("normalize"):
            continue
        for kind in ("header", "query"):
            signed = read(sys.argv[1], name, f"{kind}-signed-request.txt")
            if signed is None:
                continue
            cases.append({
                "name": f"{name}/{kind}",
                "request": signed,
                "canonical": read(sys.argv[1], name, f"{kind}-canonical-request.txt"),
                "token": context["credentials"].get("token"),
                "unsigned_token": context.get("omit_session_token", False),
            })
    json.dump(cases, sys.stdout, indent=1, ensure_ascii=False)
    print()


if __name__ == "__main__":
    main()
