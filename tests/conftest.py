"""Shared fixtures: where the real data is, and reproducible randomness."""

import os
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of real data named by CAPTUM_VAE_DATA; tests that need it skip without it."""
    root = os.environ.get("CAPTUM_VAE_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("set CAPTUM_VAE_DATA to a folder with mnist/, ucsd/, mvtec_ad/, dsprites/")
    return Path(root)
