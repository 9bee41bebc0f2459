"""What is installed by ``pip install captum-vae`` is enough to import every module."""

import pkgutil
import subprocess
import sys
from importlib.metadata import packages_distributions

import captum_vae
from captum_vae.commands.info import requirements

SCRIPT = """
import importlib, sys

blocked = set(sys.argv[1].split(","))

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in blocked:
            return self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(Without, sys.meta_path)
for name in sys.argv[2].split(","):
    importlib.import_module(name)
print("imported")
"""


def test_every_module_imports_without_any_extra():
    needed = requirements()
    required = {name.lower() for name in needed.pop("")}
    extras = {name.lower() for names in needed.values() for name in names} - required
    assert "lightning" in extras and "torchmetrics" in required
    blocked = {
        package
        for package, distributions in packages_distributions().items()
        if extras & {name.lower() for name in distributions}
    }
    modules = [
        found.name
        for found in pkgutil.walk_packages(captum_vae.__path__, "captum_vae.")
        if not found.name.endswith("__main__")
    ]
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, ",".join(sorted(blocked)), ",".join(modules)],
        capture_output=True,
        text=True,
    )
    assert run.stdout == "imported\n", run.stderr
