"""``captum-vae info``: what is installed, on which devices, for a bug report or a first look."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from pathlib import Path

import captum_vae
from captum_vae.plugins import GROUPS, Registry
from captum_vae.version import __version__

_REQUIREMENT = re.compile(r"^([\w.-]+)(?:\[[\w,]*\])?[^;]*(?:;.*extra\s*==\s*['\"](\w+)['\"])?")


def info() -> None:
    """Print versions, extras, devices, processes, plugins and where the data are."""
    print(info_text())


def info_text() -> str:
    """The text that ``captum-vae info`` prints."""
    needed = requirements()
    required = needed.pop("", [])
    lines = [
        f"captum_vae {__version__} in {Path(captum_vae.__file__).parent}",
        f"Python {platform.python_version()} on {platform.system()} {platform.machine()}",
        "",
        "packages:",
        *(f"  {name} {installed_version(name) or 'MISSING'}" for name in required),
        "",
        "extras (pip install 'captum-vae[NAME]'):",
        *(f"  {name}: {_extra_state(packages)}" for name, packages in needed.items()),
        "",
        "devices:",
        *(f"  {line}" for line in devices()),
        f"  {processes()}",
        "",
        "plugins (captum-vae plugins lists them):",
        *(f"  {_plugin_line(kind)}" for kind in GROUPS),
        "",
        f"CAPTUM_VAE_DATA: {_data_folder()}",
    ]
    return "\n".join(lines)


def installed_version(package: str) -> str | None:
    """The version of an installed distribution; None when it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def requirements() -> dict[str, list[str]]:
    """The distributions that captum-vae needs, under "", and those of each extra, by its name.

    Empty where the package runs from its source without being installed.
    """
    try:
        stated = importlib.metadata.requires("captum-vae") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    found: dict[str, list[str]] = {}
    for requirement in stated:
        match = _REQUIREMENT.match(requirement)
        # Those of some Python versions alone stand in for its standard library.
        if match and match[1] != "captum-vae" and "python_version" not in requirement:
            found.setdefault(match[2] or "", []).append(match[1])
    return found


def devices() -> list[str]:
    """One line for the CPU and one for each CUDA device."""
    import torch

    lines = [f"cpu: {os.cpu_count()} cores, {torch.get_num_threads()} threads"]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory = properties.total_memory / 2**30
        lines.append(f"cuda:{index}: {properties.name}, {memory:.0f} GiB")
    if len(lines) == 1:
        built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
        lines.append(f"cuda: none found (PyTorch is built {built})")
    return lines


def processes() -> str:
    """One line: how many processes run this, and what several could talk through."""
    import torch.distributed as dist

    backends = [
        name
        for name, there in (
            ("gloo", dist.is_available() and dist.is_gloo_available()),
            ("nccl", dist.is_available() and dist.is_nccl_available()),
        )
        if there
    ]
    count = int(os.environ.get("WORLD_SIZE", "1"))
    started = (
        f"{count} under torchrun" if "WORLD_SIZE" in os.environ else "1 (torchrun starts more)"
    )
    return f"processes: {started}; backends: {', '.join(backends) or 'none'}"


def _extra_state(packages: list[str]) -> str:
    missing = [name for name in packages if installed_version(name) is None]
    return f"missing {', '.join(missing)}" if missing else "installed"


def _plugin_line(kind: str) -> str:
    registry = Registry(kind)
    problems = registry.problems()
    failing = f", FAILING: {', '.join(problems)}" if problems else ""
    return f"{kind}: {len(registry.names)} registered{failing}"


def _data_folder() -> str:
    folder = os.environ.get("CAPTUM_VAE_DATA")
    if not folder:
        return "not set"
    return folder if Path(folder).is_dir() else f"{folder}, which is no folder"
