"""Reading values back from the device, which stalls it: at a model's first call, or on request."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor

from captum_vae.checks import check_choice

Checks = Literal["first", "every", "none"]
"""When values are looked at: at a model's ``first`` call, at ``every`` call, or at ``none``."""


def check_checks(checks: Any) -> Checks:
    """``checks`` itself.

    Raises:
        ValueError: Another word than ``first``, ``every`` and ``none``.
    """
    check_choice("checks", checks, get_args(Checks))
    return cast(Checks, checks)


_reading: ContextVar[bool | None] = ContextVar("reading_back", default=None)


@contextmanager
def reading_back(allowed: bool) -> Iterator[None]:
    """A block, of this thread alone, in which values may be read back from any device, or never.

    The outermost block decides.
    """
    if _reading.get() is not None:
        yield
        return
    token = _reading.set(allowed)
    try:
        yield
    finally:
        _reading.reset(token)


def is_decided() -> bool:
    """Whether a block around this call decides what may be read back."""
    return _reading.get() is not None


def may_read_back(tensor: Tensor) -> bool:
    """Whether a check may look at the values of a tensor.

    Outside any :func:`reading_back` block, on the CPU alone, where nothing stalls. Never where
    there are no values to look at: on the meta device, and while a call is traced.
    """
    allowed = _reading.get()
    if allowed is None:
        allowed = tensor.device.type == "cpu"
    return allowed and not tensor.is_meta and not is_traced(tensor)


def is_traced(*values: Any) -> bool:
    """Whether a call with these arguments is recorded (make_fx, export, compile), not computed."""
    if torch.compiler.is_compiling():
        return True
    # Neither module is imported here: where nobody has, nobody traces.
    fake = sys.modules.get("torch._subclasses.fake_tensor")
    if fake is not None and any(isinstance(value, fake.FakeTensor) for value in values):
        return True
    functional = sys.modules.get("torch._subclasses.functional_tensor")
    if functional is not None and any(
        isinstance(value, functional.FunctionalTensor) for value in values
    ):
        return True
    proxies = sys.modules.get("torch.fx.experimental.proxy_tensor")
    return proxies is not None and proxies.get_proxy_mode() is not None
