"""Registries backed by entry points: what the package offers by name, its own and third parties'.

A distribution registers an object in its packaging metadata, under one of the groups::

    [options.entry_points]
    captum_vae.scorers =
        my_scorer = my_package.scorers:MyScorer

The built-ins register in the same way. Nothing is imported before it is asked for by name.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

GROUPS = ("attributions", "posteriors", "models", "datasets", "scorers")
"""Kinds of plugins; the entry-point group of each is ``captum_vae.<kind>``."""


class PluginError(ValueError):
    """A name that is not registered, is registered twice, or whose plugin does not import."""


@dataclass(frozen=True)
class Plugin:
    """One registered object, not yet imported.

    Attributes:
        kind: Its kind, one of :data:`GROUPS`.
        name: The name that users write.
        reference: Where the object is, ``module:attribute``.
        distribution: The installed package that registers it.
    """

    kind: str
    name: str
    reference: str
    distribution: str

    def load(self) -> Any:
        """Import the object.

        Raises:
            PluginError: Importing it fails, for whatever reason; the message names the plugin.
        """
        try:
            return EntryPoint(self.name, self.reference, f"captum_vae.{self.kind}").load()
        # A plugin's module can raise anything at all, and must not take others with it.
        except Exception as error:
            raise PluginError(
                f"{self.kind} plugin {self.name!r} of {self.distribution} ({self.reference}) does "
                f"not import: {type(error).__name__}: {error}"
            ) from error


class Registry:
    """The plugins of one kind, by name.

    Example::

        >>> scorer = Registry("scorers").load("reconstruction_error")
    """

    def __init__(self, kind: str) -> None:
        """Read the metadata of the installed distributions; no plugin is imported.

        Args:
            kind: The kind, one of :data:`GROUPS`.

        Raises:
            ValueError: It is another word.
        """
        if kind not in GROUPS:
            raise ValueError(f"kind is {kind!r}; wanted one of {', '.join(GROUPS)}")
        self.kind = kind
        self._found: dict[str, list[Plugin]] = {}
        for entry in entry_points(group=f"captum_vae.{kind}"):
            owner = entry.dist.name if entry.dist is not None else "an unnamed distribution"
            plugin = Plugin(kind, entry.name, entry.value, owner)
            same_name = self._found.setdefault(entry.name, [])
            if plugin not in same_name:
                same_name.append(plugin)

    @property
    def names(self) -> list[str]:
        """All registered names, sorted."""
        return sorted(self._found)

    def plugin(self, name: str) -> Plugin:
        """The plugin of that name, not yet imported.

        Raises:
            PluginError: There is no such name, and the message lists those there are; or two
                distributions register it, and the message names both.
        """
        if name not in self._found:
            near = difflib.get_close_matches(name, self._found, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            known = ", ".join(self.names) or "none (is the package installed with pip?)"
            raise PluginError(f"{name!r} is not among the {self.kind}: {known}{hint}")
        same_name = self._found[name]
        if len(same_name) > 1:
            owners = " and ".join(f"{p.distribution} ({p.reference})" for p in same_name)
            raise PluginError(
                f"{name!r} among the {self.kind} is registered by {owners}; uninstall one of them"
            )
        return same_name[0]

    def load(self, name: str) -> Any:
        """Import the object registered under ``name``.

        Raises:
            PluginError: The name is not registered, registered twice, or does not import.
        """
        return self.plugin(name).load()

    def problems(self) -> dict[str, str]:
        """What is wrong with which name: duplicates, and plugins that do not import."""
        found = {}
        for name in self.names:
            try:
                self.load(name)
            except PluginError as error:
                found[name] = str(error)
        return found


def import_object(reference: str, argument: str) -> Callable[..., Any]:
    """The object at ``package.module:name``, also of a module in the current folder.

    Args:
        reference: The object's address as the user wrote it.
        argument: The option that the address was given to, for the message.

    Raises:
        ValueError: It does not import.
    """
    # An installed console script, unlike python -m, does not look in the current folder.
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    module, _, name = reference.partition(":")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    # A module of the user's can raise anything at all.
    except Exception as error:
        raise ValueError(
            f"{argument} is {reference!r}, which does not import ({type(error).__name__}: "
            f"{error}); wanted package.module:name of an installed module, or of one in the "
            "current folder or in PYTHONPATH"
        ) from error
    return found
