#!/usr/bin/python3 -IS
"""Stands in a host's view of the files in the place of a system program: runs the real one, and writes down what it was
asked for and that it was done, so that a restored host gets its network by the very commands of the program that made
it. Its folder has the real programs (`real/NAME`) and the record (`commands.jsonl`)."""

import fcntl
import json
import os
import subprocess
import sys

FOLDER = "@FOLDER@"


def namespace():
    """The name of the network namespace that this runs in; nothing for the host's own."""
    mine = os.stat("/proc/self/ns/net").st_ino
    for entry in os.scandir("/run/netns"):
        if entry.stat().st_ino == mine:
            return entry.name
    return ""


def main():
    name, words = os.path.basename(sys.argv[0]), sys.argv[1:]
    # Only where it is said that there is input: whoever else calls may have one that never ends.
    given = sys.stdin.buffer.read() if "-" in words else None
    done = subprocess.run([f"{FOLDER}/real/{name}", *words], input=given, stdin=None if given is not None else 0)
    reads = {"list", "show", "-json", "-j"} & set(words)
    if done.returncode == 0 and not reads:
        what = {"program": name, "words": words, "input": (given or b"").decode(), "namespace": namespace()}
        with open(f"{FOLDER}/commands.jsonl", "a", encoding="utf-8") as record:
            fcntl.flock(record, fcntl.LOCK_EX)
            record.write(json.dumps(what) + "\n")
    return done.returncode


sys.exit(main())
