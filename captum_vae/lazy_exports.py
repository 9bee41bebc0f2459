"""Packages whose public names load on first use, so that importing one does not wait for torch."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from typing import Any


def load_on_first_use(package: str) -> None:
    """Make a package import its public names only when somebody asks for them (PEP 562).

    The package's ``__init__`` names them as any other does, for people and type checkers, but
    under ``if TYPE_CHECKING:``; its ``__all__`` lists them; and it calls this function::

        from typing import TYPE_CHECKING

        from captum_vae.lazy_exports import load_on_first_use

        if TYPE_CHECKING:
            from captum_vae.losses.elbo import ELBO

        __all__ = ["ELBO"]

        load_on_first_use(__name__)

    A public name must not be that of a module of the package: importing the module would put it
    in the name's place.

    Args:
        package: ``__name__`` of the package that calls.
    """
    module = sys.modules[package]
    homes = _imported_for_type_checking(inspect.getsource(module))

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(homes[name]), name)
        setattr(module, name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(module), *homes})

    # Set here instead of assigned there: a module that defines __getattr__ has, to a type checker,
    # every name, also a misspelt one.
    vars(module).update(__getattr__=load, __dir__=names)


def _imported_for_type_checking(source: str) -> dict[str, str]:
    """The module that each name is imported from under ``if TYPE_CHECKING:``."""
    blocks = (
        statement.body
        for statement in ast.parse(source).body
        if isinstance(statement, ast.If)
        and isinstance(statement.test, ast.Name)
        and statement.test.id == "TYPE_CHECKING"
    )
    return {
        alias.name: statement.module
        for block in blocks
        for statement in block
        if isinstance(statement, ast.ImportFrom) and statement.module
        for alias in statement.names
    }
