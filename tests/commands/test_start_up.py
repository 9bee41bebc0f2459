"""The help of a command imports what it says, not what the command runs."""

import subprocess
import sys

import pytest

from captum_vae.commands.main import COMMANDS

HEAVY = {"torch", "lightning", "matplotlib", "scipy", "sklearn", "timm", "captum", "torchmetrics"}

SCRIPT = """
import contextlib, sys
from captum_vae.commands.main import main
with contextlib.suppress(SystemExit):
    main(sys.argv[1:])
print(*{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", [[], *([name] for name in sorted(COMMANDS))])
def test_help_imports_nothing_heavy(arguments):
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments, "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.startswith("usage: captum-vae")
    assert HEAVY & set(run.stderr.split()) == set()
