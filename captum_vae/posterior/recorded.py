"""What runs while the operations of a call are recorded, for export."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from captum_vae.posterior.read_back import is_traced


@contextmanager
def unrecorded() -> Iterator[None]:
    """Look at values without recording it, where the operations of a call are recorded.

    ``make_fx`` runs on real tensors, so that they can be looked at; what is decided by them then
    holds for the example alone.
    """
    if not is_traced():
        yield
        return
    from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing

    with disable_proxy_modes_tracing():
        yield
