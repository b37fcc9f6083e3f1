"""A pretended Debian for scripts/setup-host: apt, dpkg, libvirt and id as one program under many names, over a
file that says what is installed and what is offered. Nothing of the real host is asked or changed.

The rule that the world keeps is the one that set-up stumbled over: the packages of one source go together in one
suite. Where what is wanted would break it, apt removes what is in the way, or refuses under --no-remove."""

import json
import os
import re
import socket
import sys
import time
from pathlib import Path

HOME = Path(os.environ["FAKE_DEBIAN"])
STATE = HOME / "world.json"


def load() -> dict:
    return json.loads(STATE.read_text())


def source(name: str) -> str:
    return next((family for family in ("qemu", "libvirt") if name.startswith(family)), name)


def candidate(world: dict, name: str, preferences: str) -> str:
    """The version that apt would take: by a preference, else what is installed, else the suite's."""
    offers = world["offers"].get(name, {"bookworm": "1"})
    for pin in re.findall(rf"src:{source(name)}\nPin: (.*)", preferences):
        kind, value = pin.split(" ", 1)
        for suite, version in offers.items():
            by_version = kind == "version" and version.startswith(value.rstrip("*"))
            named = re.fullmatch(value.removeprefix("n=").strip("/"), suite)
            if by_version or (kind == "release" and named):
                return version
    return world["installed"].get(name) or offers["bookworm"]


def plan(world: dict, names: list[str], preferences: str) -> tuple[dict, list[str]]:
    """What would be installed, and what removed."""
    wanted = {name: candidate(world, name, preferences) for name in names}
    removed = []
    for name, version in world["installed"].items():
        others = [v for n, v in wanted.items() if n != name and source(n) == source(name) != n]
        if name not in wanted and any(other != version for other in others):
            removed.append(name)
        excluded = world["excludes"].get(name, [])
        removed += [name for other in excluded if other in wanted]
    return {n: v for n, v in wanted.items() if world["installed"].get(n) != v}, removed


def refused(world: dict, wanted: dict, names: list[str], preferences: str) -> str | None:
    """A package that was asked for by name, and can't go with the others."""
    for name in names:
        for other in names:
            apart = candidate(world, name, preferences) != candidate(world, other, preferences)
            if source(name) == source(other) != name and apart:
                return name
    return next((name for name in wanted if name in world["unknown"]), None)


def install(arguments: list[str]) -> int:
    world = load()
    preferences, names, simulated = "", [], "-s" in arguments
    rest = iter(arguments)
    for argument in rest:
        if argument == "-o":
            option = next(rest)
            if option.startswith("Dir::Etc::preferences="):
                preferences = Path(option.split("=", 1)[1]).read_text()
        elif not argument.startswith("-") and argument != "install":
            names.append(argument)
    wanted, removed = plan(world, names, preferences)
    stuck = refused(world, wanted, names, preferences)
    if stuck or (removed and "--no-remove" in arguments):
        print(f"E: {stuck or removed[0]}: unable to correct problems", file=sys.stderr)
        return 100
    for name in removed:
        print(f"Remv {name} [{world['installed'][name]}]")
    for name, version in wanted.items():
        old = world["installed"].get(name)
        print(f"Inst {name} {f'[{old}] ' if old else ''}({version} Debian:12/bookworm [amd64])")
    if not simulated:
        world["log"].append(names)
        for name in removed:
            del world["installed"][name]
        world["installed"] |= {n: v for n, v in wanted.items() if n not in world["forgotten"]}
        STATE.write_text(json.dumps(world))
        provide(world)
    return world["apt_status"] if not simulated else 0


def provide(world: dict) -> None:
    """The programs of what is installed are there, but for those that got lost."""
    for program, package in world["programs"].items():
        there = HOME / "bin" / program
        if package in world["installed"] and program not in world["lost"] and not there.exists():
            there.symlink_to(world["fake"])


def dpkg_query(arguments: list[str]) -> int:
    form = arguments[arguments.index("-f") + 1]
    for name, version in load()["installed"].items():
        values = {"db:Status-Abbrev": "ii ", "Package": name, "Version": version, "source:Package": source(name)}
        print(re.sub(r"\$\{([^}]*)\}", lambda m: values.get(m[1], ""), form).replace("\\n", "\n"), end="")
    return 0


def policy(name: str) -> int:
    world = load()
    print(f"{name}:\n  Version table:")
    for suite, version in world["offers"].get(name, {}).items():
        mark = "***" if world["installed"].get(name) == version else "   "
        print(f" {mark} {version} 500\n        500 http://deb.debian.org/debian {suite}/main amd64 Packages")
    return 0


def main() -> int:
    me, arguments = Path(sys.argv[0]).name, sys.argv[1:]
    world = load()
    match me:
        case "apt-get" if "install" in arguments:
            return install(arguments)
        case "apt-get":
            return world["update_status"]
        case "apt-cache":
            return policy(arguments[-1]) if "policy" in arguments else 0
        case "dpkg-query":
            return dpkg_query(arguments)
        case "id":
            print("0" if "-u" in arguments else "libvirt-qemu kvm")
        case "libvirtd":
            with (HOME / "started").open("a") as file:
                file.write("libvirtd\n")
            socket.socket(socket.AF_UNIX).bind(str(HOME / "libvirt-sock"))
        case "virsh":
            time.sleep(world["call_seconds"])
    return 0


sys.exit(main())
