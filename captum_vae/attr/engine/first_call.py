"""Checks of values at the first call with a layer, so that later calls read nothing back."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor
from torch.nn import Module

from captum_vae.posterior.read_back import Checks, is_traced, reading_back

_CHECKED: WeakKeyDictionary[Module, set[Hashable]] = WeakKeyDictionary()
"""The calls that were checked, by their first layer, which is not kept alive for it."""


@contextmanager
def checking(
    layers: Sequence[Module], inputs: Sequence[Any], checks: Checks = "first", *, of: str = ""
) -> Iterator[None]:
    """Let the block look at values, or not; inside a block that decides, that one's word holds.

    Args:
        layers: The layers explained. With ``first`` values are looked at in the first block for
            them that ends well, and again where device or type of the inputs are new.
        inputs: The model's inputs. Nothing is looked at while a call with them is traced.
        checks: ``first``, ``every`` or ``none``.
        of: What else tells one kind of call from another, such as the layers' side.
    """
    if is_traced(*inputs) or checks == "none":
        with reading_back(False):
            yield
        return
    kinds = tuple((x.device, x.dtype) for x in inputs if isinstance(x, Tensor))
    key = (*map(id, layers[1:]), of, kinds)
    checked = _CHECKED.setdefault(layers[0], set())
    due = checks == "every" or key not in checked
    with reading_back(due):
        yield
    if due:
        checked.add(key)
