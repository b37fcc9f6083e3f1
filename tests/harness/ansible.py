"""Ansible with the collection amazon.aws, which its package on PyPI has in it: plays against one account of a cloud."""

import json
import os
import subprocess
import sys
from pathlib import Path

from .cloud import Account

PROGRAM = Path(sys.executable).parent / "ansible-playbook"


def missing() -> str:
    """What is not here, and how to get it; nothing where all is."""
    return "" if PROGRAM.exists() else "Ansible is not in this environment (scripts/test-clients makes one that has it)"


class Ansible:
    """Plays against one account of a cloud."""

    def __init__(self, account: Account, folder: Path) -> None:
        self.account, self.folder = account, folder

    def play(self, *tasks: dict) -> dict[str, dict]:
        """Runs tasks; each one's result, by the task's name."""
        play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": list(tasks)}
        book = self.folder / "play.json"  # JSON is YAML
        book.write_text(json.dumps([play]))
        key = self.account.key
        environment = {
            "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            "ANSIBLE_LOCALHOST_WARNING": "False",
            "AWS_ACCESS_KEY_ID": key.id,
            "AWS_SECRET_ACCESS_KEY": key.secret,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.account.cloud.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        command = [str(PROGRAM), "-i", "localhost,", str(book)]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        (played,) = json.loads(done.stdout[done.stdout.index("{") :])["plays"]
        return {task["task"]["name"]: task["hosts"]["localhost"] for task in played["tasks"]}


def task(name: str, module: str, /, **arguments) -> dict:
    return {"name": name, f"amazon.aws.{module}": arguments}
