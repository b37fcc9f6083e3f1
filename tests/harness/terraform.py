"""Terraform with the stock AWS provider, from a mirror in the file system: nothing is fetched from anywhere."""

import json
import os
import shutil
import subprocess
from pathlib import Path

from .cloud import Account

VERSION = "5.100.0"
PROVIDER = "registry.terraform.io/hashicorp/aws"

# Where a mirror is looked for: the folder that holds `registry.terraform.io`.
PLACES = [Path.home() / ".terraform.d/plugins", *sorted(Path("/opt").glob("*")), Path("/usr/share/terraform/plugins")]


def mirror() -> Path | None:
    """The mirror that TF_PLUGIN_MIRROR names, or one that is found."""
    named = os.environ.get("TF_PLUGIN_MIRROR")
    places = [Path(named)] if named else PLACES
    return next((place for place in places if (place / PROVIDER / VERSION).is_dir()), None)


def missing() -> str:
    """What is not here, and how to get it; nothing where all is."""
    if not shutil.which("terraform"):
        return "Terraform: `terraform` is not installed"
    if not mirror():
        return f"Terraform: no mirror with {PROVIDER} {VERSION} (set TF_PLUGIN_MIRROR to the folder with registry.terraform.io)"
    return ""


class Terraform:
    """A folder with a configuration, for one account of a cloud."""

    def __init__(self, account: Account, folder: Path, resources: str) -> None:
        self.folder, self.home = folder, folder / "home"
        self.home.mkdir()
        (folder / "terraformrc").write_text(
            f'provider_installation {{\n  filesystem_mirror {{\n    path = "{mirror()}"\n  }}\n}}\n'
        )
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "TF_CLI_CONFIG_FILE": str(folder / "terraformrc"),
            "TF_IN_AUTOMATION": "1",
            "CHECKPOINT_DISABLE": "1",
            "AWS_ACCESS_KEY_ID": account.key.id,
            "AWS_SECRET_ACCESS_KEY": account.key.secret,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self.write(provider(account.cloud.endpoint) + resources)
        self.run("init", "-no-color", "-input=false")

    def write(self, text: str) -> None:
        (self.folder / "main.tf").write_text(text)

    def run(self, *words: str, codes: tuple[int, ...] = (0,)) -> subprocess.CompletedProcess:
        done = subprocess.run(
            ["terraform", *words], cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode in codes, f"terraform {words[0]}:\n{done.stdout}\n{done.stderr}"
        return done

    def apply(self) -> dict:
        """Makes it so; the outputs."""
        self.run("apply", "-no-color", "-input=false", "-auto-approve")
        outputs = json.loads(self.run("output", "-json").stdout)
        return {name: value["value"] for name, value in outputs.items()}

    def is_settled(self) -> bool:
        """Whether a plan finds nothing to do."""
        done = self.run("plan", "-no-color", "-input=false", "-detailed-exitcode", codes=(0, 2))
        assert done.returncode == 0, f"there is something to do still:\n{done.stdout}"
        return True

    def destroy(self) -> None:
        self.run("destroy", "-no-color", "-input=false", "-auto-approve")


def provider(endpoint: str) -> str:
    return f"""
terraform {{
  required_providers {{
    aws = {{
      source  = "hashicorp/aws"
      version = "{VERSION}"
    }}
  }}
}}

provider "aws" {{
  region = "us-east-1"
  endpoints {{
    ec2 = "{endpoint}"
    sts = "{endpoint}"
    iam = "{endpoint}"
    ssm = "{endpoint}"
  }}
}}
"""
