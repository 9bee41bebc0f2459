import importlib
import pkgutil
import subprocess
import sys

import pytest

import captum_vae

WALKED = pkgutil.walk_packages(captum_vae.__path__, "captum_vae.")
PACKAGES = ["captum_vae", *(found.name for found in WALKED if found.ispkg)]


def test_importing_every_package_imports_no_torch():
    code = f"import sys, {', '.join(PACKAGES)}; print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_loads_and_is_listed(package):
    module = importlib.import_module(package)
    for name in getattr(module, "__all__", ()):
        assert getattr(module, name) is not None
        assert name in dir(module)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_public_name_is_that_of_a_module_which_would_take_its_place(package):
    module = importlib.import_module(package)
    inside = {found.name for found in pkgutil.iter_modules(module.__path__)}
    assert inside.isdisjoint(getattr(module, "__all__", ()))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'captum_vae.losses' has no attribute 'ELBOW'"):
        importlib.import_module("captum_vae.losses").ELBOW  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'ELBOW'"):
        exec("from captum_vae.losses import ELBOW")
