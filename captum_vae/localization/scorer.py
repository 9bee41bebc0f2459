"""What an anomaly scorer is: fitted on normal images, it gives every image a map."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeVar, get_args, runtime_checkable

import torch
from torch import Tensor

from captum_vae.attr.engine.inputs import check_images
from captum_vae.checks import check_choice
from captum_vae.localization.model_pass import ModelPass, NormalImages, device_of
from captum_vae.localization.options import ScoreScale
from captum_vae.posterior import as_adapter
from captum_vae.posterior.calling import owner_of, unwrap

Self = TypeVar("Self", bound="Scorer")

Scale = ScoreScale

Fitting = Iterator[Callable[[ModelPass], None]]
"""A scorer's fit, see :meth:`Scorer.fit_normal`."""

_SOFTENING = {"location": 0.1, "shrunk": 1.0}
"""Share of the mean scale added at every location, so that none is divided by almost nothing."""


@runtime_checkable
class AnomalyScorer(Protocol):
    """The contract of a third party's scorer, registered under ``captum_vae.scorers``.

    What is registered is called with the model and the options of the configuration, and returns
    an object with these two methods.
    """

    def fit(self, normal: Iterable[Tensor]) -> Any:
        """Learn from batches of normal images (B, C, H, W), which can be gone through again."""

    def score(self, images: Tensor) -> Tensor:
        """Maps (B, H, W) of images (B, C, H, W), larger where more anomalous."""


class Scorer(ABC):
    """A scorer that reads its model through a :class:`ModelPass`, which several can share.

    A map depends on its own image alone, never on its batch-mates.

    Attributes:
        model: The VAE, in eval mode.
        adapter: Reads its posterior.
        layers: Dotted names of the layers whose features are read.
        scale: ``none``; ``location``: maps are divided by their root mean square over the
            normal images at each location, so that what is large on every normal image (edges,
            texture) does not count as anomalous; or ``shrunk``: by that and its mean over all
            locations in equal parts, so that faint noise on an empty background does not count
            as much as a defect on the object.
    """

    layers: tuple[str, ...] = ()

    FITTED: ClassVar[tuple[str, ...]] = ("_location_scale",)
    """Attributes that fitting sets: a tensor or None, or a dictionary of tensors by layer."""

    def __init__(self, model: Any, *, posterior: Any = None, scale: Scale = "none") -> None:
        """Name the model.

        Args:
            model: The VAE.
            posterior: How to read its posterior, see ``captum_vae.posterior.PosteriorAdapter``.
            scale: ``none``, ``location`` or ``shrunk``.

        Raises:
            ValueError: Another scale.
        """
        check_choice("scale", scale, get_args(Scale))
        self.adapter = as_adapter(model, posterior)
        self.model = owner_of(unwrap(model)) or model
        self.scale = scale
        self._location_scale: Tensor | None = None

    def fit(self: Self, normal: Iterable[Any]) -> Self:
        """Learn what is normal.

        Args:
            normal: Batches of normal images (B, C, H, W), or tuples that begin with them, in
                something that can be gone through several times (a list, a DataLoader); or one
                tensor (N, C, H, W); or :class:`NormalImages`, whose means scorers share.

        Raises:
            ValueError: No images.
            TypeError: An iterator, which can be read once only.
        """
        if not isinstance(normal, NormalImages):
            normal = NormalImages(
                normal, self.model, self.adapter, self.layers, device=device_of(self.model)
            )
        fit_together([self], normal)
        return self

    def score(self, images: Tensor) -> Tensor:
        """Anomaly maps.

        Args:
            images: (B, C, H, W).

        Returns:
            (B, H, W), detached, larger where more anomalous.

        Raises:
            ValueError: Images of another number of axes, or a scorer that was not fitted.
        """
        check_images("images", images)
        if images.dim() != 4 or not images.is_floating_point():
            raise ValueError(
                f"images has shape {tuple(images.shape)} and dtype {images.dtype}; wanted floating "
                "point (B, C, H, W)"
            )
        return self.score_pass(ModelPass(images, self.model, self.adapter, self.layers))

    def score_pass(self, shared: ModelPass) -> Tensor:
        """Maps (B, H, W) of a batch whose model calls may be shared with other scorers."""
        maps = self.unscaled_maps(shared)
        return maps if self.scale == "none" else maps / self._fitted(self._location_scale)

    @abstractmethod
    def fit_normal(self, normal: NormalImages) -> Fitting | None:
        """Learn from normal images and the means over them, all but the scale.

        What takes a pass over the images is yielded: a function that is called with every batch's
        :class:`ModelPass`. All scorers that are fitted together yield in turn and share the pass,
        so this may be a generator::

            squares = 0.0

            def add(shared):
                nonlocal squares
                squares += float(self.unscaled_maps(shared).square().sum())

            yield add  # comes back when all normal images have been seen
            self._scale = squares**0.5
        """

    @abstractmethod
    def unscaled_maps(self, shared: ModelPass) -> Tensor:
        """Maps (B, H, W) before the division by the scale."""

    def state_dict(self) -> dict[str, Tensor]:
        """What the scorer has learned from normal images, as tensors by name.

        A scorer made with the same model and options takes it by :meth:`load_state_dict`, and then
        gives the same maps. Empty before fitting, and where there is nothing to learn.
        """
        state: dict[str, Tensor] = {}
        for attribute in self.FITTED:
            value = getattr(self, attribute)
            name = attribute.lstrip("_")
            if isinstance(value, Mapping):
                state.update({f"{name}.{layer}": tensor for layer, tensor in value.items()})
            elif value is not None:
                state[name] = value
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take what a scorer of the same model and options has learned, instead of fitting.

        Args:
            state: What :meth:`state_dict` gave; tensors are brought to the model's device.

        Raises:
            ValueError: It holds something that this scorer does not learn, or of another layer.
        """
        attributes = {attribute.lstrip("_"): attribute for attribute in self.FITTED}
        found: dict[str, Any] = {}
        for key, value in state.items():
            name, _, layer = key.partition(".")
            if name not in attributes or (layer and layer not in self.layers):
                raise ValueError(
                    f"state holds {key!r}, which {type(self).__name__} of layers "
                    f"{list(self.layers)} does not learn; wanted the state of a scorer with the "
                    "same options"
                )
            tensor = self._on_device(value)
            if layer:
                found.setdefault(attributes[name], {})[layer] = tensor
            else:
                found[attributes[name]] = tensor
        for attribute, learned in found.items():
            setattr(self, attribute, learned)

    def _on_device(self, tensor: Tensor) -> Tensor:
        device = device_of(self.model)
        return tensor if device is None else tensor.to(device)

    def _fitted(self, value: Tensor | None) -> Tensor:
        if value is None:
            raise ValueError(
                f"{type(self).__name__} does not know what is normal; call fit(normal images) first"
            )
        return value


def fit_together(scorers: Sequence[Scorer], normal: NormalImages) -> None:
    """Fit scorers of one model; what they take from the normal images they take in shared passes.

    Args:
        scorers: Scorers of the model of ``normal``, reading no layers but those of ``normal``.
        normal: The normal images.
    """
    fits = [_fitting(scorer, normal) for scorer in scorers]
    while waiting := [(fit, add) for fit in fits if (add := next(fit, None)) is not None]:
        fits = [fit for fit, _ in waiting]
        for shared in normal.passes():
            for _, add in waiting:
                add(shared)


def _fitting(scorer: Scorer, normal: NormalImages) -> Fitting:
    """The scorer's own fit, and its scale at each location after it."""
    yield from scorer.fit_normal(normal) or ()
    if scorer.scale == "none":
        return
    squares = torch.zeros(())
    count = 0
    dtype = torch.float32

    def add(shared: ModelPass) -> None:
        nonlocal squares, count, dtype
        found = scorer.unscaled_maps(shared).double().square().sum(0)
        squares = squares.to(found.device) + found
        count += len(shared.images)
        dtype = shared.images.dtype

    yield add
    spread = (squares / count).sqrt()
    if not spread.any():
        raise ValueError(
            f"{type(scorer).__name__} gives an all-zero map for every normal image, so it has "
            "no scale; choose scale='none'"
        )
    scorer._location_scale = (spread + _SOFTENING[scorer.scale] * spread.mean()).to(dtype)
