"""Build shim: metadata lives in setup.cfg; the README's links get the repository's address here."""

import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent


def metadata() -> dict[str, object]:
    """What follows from the repository's address, said once in setup.cfg; nothing without it."""
    config = ConfigParser()
    config.read(HERE / "setup.cfg", encoding="utf-8")
    repository = config.get("captum_vae", "repository", fallback="").strip().rstrip("/")
    if not repository:
        return {}
    readme = (HERE / "README.md").read_text(encoding="utf-8")
    # A package index shows the README alone: pictures and pages beside it need whole addresses.
    readme = re.sub(r"(!\[[^]]*\]\()(?=docs/)", rf"\1{repository}/raw/main/", readme)
    readme = re.sub(
        r"(\]\()(?=(?:docs|examples|LICENSE|CHANGELOG))", rf"\1{repository}/blob/main/", readme
    )
    return {
        "url": repository,
        "project_urls": {
            "Source": repository,
            "Changelog": f"{repository}/blob/main/CHANGELOG.md",
            "Issues": f"{repository}/issues",
        },
        "long_description": readme,
    }


setup(**metadata())
