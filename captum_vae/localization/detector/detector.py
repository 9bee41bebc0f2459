"""From a VAE and normal images to verdicts on new ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from captum_vae.attr.export import ExportedFile
from captum_vae.attr.export.options import Format
from captum_vae.checks import warn_caller, whole_number
from captum_vae.data.image_bytes import as_batch
from captum_vae.data.resize import ImageSize, height_width
from captum_vae.data.value_range import check_unit_range, checked_value_range, to_value_range
from captum_vae.localization.detector.fitted import Fitted
from captum_vae.localization.detector.fitting import fit_detector
from captum_vae.localization.detector.fused_maps import fused_maps
from captum_vae.localization.detector.image_scores import image_scores
from captum_vae.localization.detector.normal_images import Unlabelled, clips_of, samples_of
from captum_vae.localization.detector.options import Promise
from captum_vae.localization.detector.prediction import Predictions
from captum_vae.localization.detector.promise_check import PromiseCheck, count_alarms
from captum_vae.localization.detector.scorer_choice import ScorerChoice
from captum_vae.localization.detector.scorer_record import fitted_state, load_fitted_state
from captum_vae.localization.image_batches import ImageBatches
from captum_vae.localization.model_pass import device_of
from captum_vae.localization.options import RESIDUAL_DISTANCE
from captum_vae.localization.protocol import check_smoothing
from captum_vae.models import LinearFeatureVAE
from captum_vae.models.encoders import Encoder
from captum_vae.progress import Progress, progress_bar

Self = TypeVar("Self", bound="AnomalyDetector")

FEATURES = "features"
"""The layer of a linear VAE of features that scorers read."""

Source = Any
"""Images: a path or several, an array or tensor in [0, 1], or a data set."""


class AnomalyDetector:
    """Finds what is unusual in images, having seen normal ones only.

    Normal images are split: models and scorers are fitted on some, a scorer is chosen on others,
    thresholds and p-values come from the rest. No image does two of these, so what is promised
    holds on new images.

    Example::

        detector = AnomalyDetector(vae, scorer="auto").fit("good/")
        print(detector.predict("new/"))
        detector.save("detector")

    Args:
        model: A trained VAE, of this package or your own. :meth:`from_backbone` needs none.
        scorer: "auto" chooses without labels among all that the package has; or the name of a
            registered scorer (``captum-vae plugins`` lists them), a scorer, or several of these,
            whose maps are averaged, each divided by its root mean square over normal images.
        layers: Dotted names of encoder layers whose features are compared; by default the last of
            each grid at strides 4 to 16.
        options: Further arguments of a scorer that is given by its name.
        smoothing: Standard deviation of a Gaussian over the maps, in pixels of the images; "auto"
            is the chosen one's, else a 64th of the image's shorter side.
        image_size: (h, w) or one number that files and arrays are resized to; by default what the
            model states, else the images' own.
        channels: 1 or 3, which they are converted to; by default what the model states.
        posterior: How to read the model's posterior, see
            :class:`captum_vae.posterior.PosteriorAdapter`; detected by default.
        value_range: Lowest and highest value that the model was trained on, such as (-1, 1).
            Images are in [0, 1] everywhere, and are brought to it for the model alone. None takes
            (0, 1), and :meth:`fit` refuses a model whose reconstructions show that it is another.
        **promise: Options of :class:`Promise`, such as alpha, pixel_rate and score.

    Attributes:
        promise: What is promised about new normal images.
        fitted: What was learned; None before :meth:`fit`.

    Raises:
        TypeError: An argument is of another kind.
        ValueError: A name is unknown, or a number out of its range.
    """

    def __init__(
        self,
        model: Any,
        scorer: Any = "auto",
        *,
        layers: str | Sequence[str] | None = None,
        options: Mapping[str, Any] | None = None,
        smoothing: float | str = "auto",
        image_size: ImageSize = None,
        channels: int | None = None,
        posterior: Any = None,
        value_range: Sequence[float] | None = None,
        **promise: Any,
    ) -> None:
        """Check what can be checked without images."""
        if smoothing != "auto":
            check_smoothing("smoothing", smoothing)
        self.promise = Promise(**promise)
        self.choice = ScorerChoice.of(scorer, layers, options)
        self.posterior = posterior
        self._model = model
        self._smoothing = smoothing
        self._size = height_width(image_size)
        self._channels = channels
        self._range = None if value_range is None else checked_value_range(value_range)
        self._closed_form = False
        self.fitted: Fitted | None = None

    @classmethod
    def from_backbone(
        cls: type[Self],
        encoder: Encoder,
        layers: str | Sequence[str] | None = None,
        *,
        scorer: Any = None,
        latent_dim: int | Literal["auto"] = "auto",
        image_size: int | Sequence[int] = 256,
        channels: int = 3,
        grid: int | Sequence[int] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        pretrained: bool | None = None,
        weights: str | Path | None = None,
        reshape_transform: Callable[[Tensor], Tensor] | str | None = None,
        **others: Any,
    ) -> Self:
        """A detector on the features of a frozen encoder, without a VAE of one's own.

        :meth:`fit` fits the linear VAE of the features in closed form, which takes seconds; what
        the latent does not explain of an image's features is anomalous.

        Example::

            detector = AnomalyDetector.from_backbone("resnet18").fit("good/")

        Args:
            encoder: The name of a timm model; or any module that is called with images, which is
                copied and frozen.
            layers: Dotted names of its layers, whose outputs are (B, K, h, w); None takes a timm
                model's layers at strides 4, 8 and 16.
            scorer: "auto", a name, a scorer or several; None takes the default of "auto", the
                distance of the features from what the latent explains of them: the larger of the
                root of the mean square over the channels and the Mahalanobis distance.
            latent_dim: D; "auto" takes the number under which images left out are likeliest.
            image_size: (h, w) or one number that images are resized to.
            channels: 1 or 3.
            grid: (h, w) that the layers' features are brought to; see
                :class:`captum_vae.models.FrozenFeatures`, also for what follows.
            mean: Mean of each colour channel of the encoder's training images, whose pixels are in
                [0, 1]; (0.5,) with ``std=(0.5,)`` for an encoder that takes images in [-1, 1].
            std: Standard deviation of each colour channel.
            pretrained: Whether timm downloads its published weights; None does for a timm model
                without ``weights``.
            weights: A local file of weights for a timm model.
            reshape_transform: From a layer's output to (B, K, h, w), for transformers of your own.
            **others: Further arguments of the class, such as smoothing and alpha.

        Raises:
            ValueError: There is no such model or layer, or an argument is out of range.
            RuntimeError: The published weights could not be had.
        """
        if others.get("value_range") is not None:
            raise ValueError(
                "value_range is for a VAE of your own; for an encoder that takes images in [-1, 1] "
                "give mean=(0.5,) and std=(0.5,), as timm models bring them along"
            )
        if pretrained is None:
            pretrained = isinstance(encoder, str) and ":" not in encoder and weights is None
        model = LinearFeatureVAE(
            encoder,
            layers if layers is None or isinstance(layers, str) else list(layers),
            latent_dims=latent_dim,
            image_size=image_size,
            in_channels=channels,
            grid=grid,
            mean=mean,
            std=std,
            pretrained=pretrained,
            weights=weights,
            reshape_transform=reshape_transform,
        ).eval()
        named = {"layers": [FEATURES], **others}
        if scorer is None:
            scorer = "feature_difference"
            named.setdefault("options", {"baselines": "explained", "distance": RESIDUAL_DISTANCE})
        detector = cls(model, scorer, **named)
        detector._closed_form = True
        return detector

    def fit(
        self: Self,
        normal: Source,
        *,
        calibration: Source = None,
        clips: Sequence[str] | None = None,
        batch_size: int = 16,
        workers: int = 0,
        progress: Progress = "auto",
    ) -> Self:
        """Fit, choose and calibrate on normal images.

        Args:
            normal: Normal images alone: a folder or another path, an array (N, H, W, C) of bytes, a
                tensor (N, C, H, W) in [0, 1], or a data set of images or Samples.
            calibration: Normal images that thresholds and p-values come from, in the same forms;
                give those that a model of your own was not trained on. By default a part of
                ``normal`` calibrates, whose images the model must not have seen either.
            clips: The clip of each image, where they are frames of several videos.
            batch_size: Images per pass.
            workers: Processes that load the images.
            progress: Whether bars are shown; "auto" shows them on a terminal only.

        Raises:
            ValueError: There are too few images, one is known to be anomalous, or the scorer cannot
                be fitted.
            TypeError: ``normal`` is something else.
            FileNotFoundError: There is no such path.
        """
        whole_number("batch_size", batch_size, least=1)
        whole_number("workers", workers, least=0)
        size, channels = self.wanted_images
        samples = samples_of(normal, "normal", size=size, channels=channels)
        apart = None
        if calibration is not None:
            apart = samples_of(calibration, "calibration", size=size, channels=channels)
        self.fitted = fit_detector(
            samples,
            self._model,
            clips=clips,
            apart=apart,
            promise=self.promise,
            choice=self.choice,
            posterior=self.posterior,
            smoothing=self._smoothing,
            value_range=self._range,
            closed_form=self._closed_form,
            batch_size=batch_size,
            workers=workers,
            progress=progress,
        )
        for remark in self.remarks:
            warn_caller(remark)
        return self

    def predict(
        self,
        images: Source,
        *,
        batch_size: int = 16,
        workers: int = 0,
        progress: Progress = "auto",
    ) -> Predictions:
        """Maps, masks, scores, p-values and verdicts of images, all in memory.

        :meth:`stream` keeps one batch at a time.

        Args:
            images: Images in any of the forms that :meth:`fit` takes; labels and masks, if there
                are any, are not read.
            batch_size: Images per pass.
            workers: Processes that load the images.
            progress: Whether a bar is shown.

        Returns:
            A sequence of predictions that prints as a table.

        Raises:
            ValueError: The detector was not fitted, or the images are of another size or range.
            TypeError: ``images`` is something else.
            FileNotFoundError: There is no such path.
        """
        parts = self.stream(images, batch_size=batch_size, workers=workers, progress=progress)
        return Predictions.joined(list(parts))

    def stream(
        self,
        images: Source,
        *,
        batch_size: int = 16,
        workers: int = 0,
        progress: Progress = "auto",
    ) -> Iterator[Predictions]:
        """The same as :meth:`predict`, batch by batch in constant memory."""
        whole_number("batch_size", batch_size, least=1)
        whole_number("workers", workers, least=0)
        fitted = self._known()
        samples = samples_of(images, "images", size=fitted.size, channels=fitted.channels)
        batches = ImageBatches(
            Unlabelled(samples, range(len(samples))),
            "images",
            batch_size=batch_size,
            workers=workers,
            bar=progress_bar(progress),
            truth=False,
        )
        for _, batch in batches.numbered("predicting"):
            yield self.predict_batch(batch.image, batch.name)

    def predict_batch(self, images: Tensor, names: Sequence[str] | None = None) -> Predictions:
        """Predictions of one batch of images as the model takes them.

        Args:
            images: (B, C, H, W) float in [0, 1], of the size that the detector was fitted on.
            names: B names; numbers by default.

        Raises:
            ValueError: The detector was not fitted, or the images have another shape.
        """
        fitted = self._known()
        wanted = (fitted.channels, *fitted.size)
        if images.dim() != 4 or tuple(images.shape[1:]) != wanted:
            raise ValueError(
                f"images has shape {tuple(images.shape)}; this detector was fitted on (B, "
                f"{', '.join(map(str, wanted))}): resize the images, or give them as files or as "
                "NumPy arrays, which it resizes itself"
            )
        check_unit_range(images, "images")
        maps = self.maps(images)
        threshold = fitted.pixel.threshold
        scores = image_scores(maps, self.promise.score, top=self.promise.top, threshold=threshold)
        masks = maps >= threshold
        p_values = fitted.image.p_values(scores.cpu().numpy())
        return Predictions(
            [str(place) for place in range(len(images))] if names is None else list(names),
            scores.cpu(),
            torch.from_numpy(p_values),
            torch.from_numpy(p_values <= self.promise.alpha),
            masks.double().mean((1, 2)).cpu(),
            maps.float().cpu(),
            masks.cpu(),
            self.promise.alpha,
        )

    def maps(self, images: Tensor) -> Tensor:
        """Smoothed anomaly maps (B, H, W) of images (B, C, H, W) as the model takes them."""
        fitted = self._known()
        device = device_of(fitted.model)
        images = images if device is None else images.to(device)
        images = to_value_range(images, fitted.value_range)
        return fused_maps(fitted.scorers, fitted.scales, fitted.protocol, images)

    def __call__(
        self, batch: Mapping[str, Any], *, image: str = "image", maps: bool = True
    ) -> dict[str, Any]:
        """Predictions beside the columns of a batch, as Ray Data and data loaders map batches.

        It can be called from several threads at once, and pickled to other processes.

        Args:
            batch: Columns by name; images as an array or list of (H, W, C) or (H, W) bytes, of any
                size, or as a float tensor (B, C, H, W) in [0, 1].
            image: Name of the column of images.
            maps: Whether the columns ``map`` (B, H, W) and ``mask`` are wanted.

        Returns:
            The batch with the columns ``score``, ``p_value``, ``anomalous``, ``area`` and, if
            wanted, ``map`` and ``mask``, NumPy arrays.

        Raises:
            ValueError: There is no such column, or it holds no images.
        """
        if not isinstance(batch, Mapping) or image not in batch:
            names = list(batch) if isinstance(batch, Mapping) else type(batch).__name__
            raise ValueError(f"batch has no column {image!r} of images; it has {names}")
        fitted = self._known()
        found = self.predict_batch(as_batch(batch[image], fitted.channels, fitted.size))
        columns = {
            "score": found.scores.numpy(),
            "p_value": found.p_values.numpy(),
            "anomalous": found.anomalous.numpy(),
            "area": found.areas.numpy(),
        }
        if maps:
            columns |= {"map": found.maps.numpy(), "mask": found.masks.numpy()}
        return {**batch, **columns}

    def check(
        self,
        normal: Source,
        *,
        clips: Sequence[str] | None = None,
        batch_size: int = 16,
        progress: Progress = "off",
    ) -> PromiseCheck:
        """What was promised against what is seen on normal images that the detector never met.

        Args:
            normal: Normal images, none of them given to :meth:`fit`.
            clips: The clip of each image, where they are frames of several videos.
            batch_size: Images per pass.
            progress: Whether a bar is shown; "auto" shows it on a terminal only.
        """
        fitted = self._known()
        samples = samples_of(normal, "normal", size=fitted.size, channels=fitted.channels)
        names = clips_of(samples, clips, fitted.image.unit)
        unseen = Unlabelled(samples, range(len(samples)), normal="normal")
        parts = self.stream(unseen, batch_size=batch_size, progress=progress)
        return count_alarms(parts, fitted.pixel, fitted.image, names)

    def to(self: Self, device: str | torch.device) -> Self:
        """Move model and scorers to a device."""
        fitted = self._known()
        if isinstance(fitted.model, nn.Module):
            fitted.model.to(device)
        for scorer in fitted.scorers:
            # Brings the tensors to the device of the scorer's model.
            load_fitted_state(scorer, fitted_state(scorer))
        return self

    def save(self, path: str | Path) -> Path:
        """Save everything fitted to a folder: ``detector.json`` and the tensors, without code.

        A model of this package is saved whole. A model of your own is not: give the same one again
        to :meth:`load`, which compares its digest.

        Args:
            path: The folder; it is created, and a detector that it holds is replaced whole.

        Raises:
            ValueError: The detector was not fitted.
            TypeError: A scorer of another package does not say what it has learned.
        """
        from captum_vae.localization.detector.saving import save_fitted

        return save_fitted(path, self._known(), self.promise, self.choice, self.posterior)

    def export(self, path: str | Path, *, format: Format = "onnx") -> ExportedFile:
        """Write the whole detector as one file that runs without this package.

        The file takes images ``image`` (B, C, H, W) in [0, 1] of the size that the detector was
        fitted on, and gives ``map`` and ``mask`` (B, H, W), ``score``, ``p_value``, ``anomalous``
        and ``area`` (B,), mask and anomalous as 0 and 1. It is compared with the detector before it
        is written.

        Args:
            path: The file.
            format: "onnx", which onnxruntime runs, or "torch" for a program of ``torch.export``.

        Raises:
            ValueError: The detector was not fitted.
            NotExportableError: The model does something that has no form in such a file.
            ModuleNotFoundError: The packages of the extra ``export`` are not installed.
        """
        from captum_vae.localization.detector.exporting import export_detector

        return export_detector(self._known(), self.promise, path, format)

    @classmethod
    def load(
        cls: type[Self],
        path: str | Path,
        model: Any = None,
        *,
        posterior: Any = None,
        device: str | torch.device = "cpu",
    ) -> Self:
        """A saved detector, ready to predict.

        Args:
            path: Its folder.
            model: Your own model, where the detector was fitted with one.
            posterior: How to read its posterior, where that was no words.
            device: Where the model goes.

        Raises:
            FileNotFoundError: There is none.
            DamagedFileError: A file was changed or cut short.
            ValueError: The model is missing, or is not the one that the detector was fitted with.
        """
        from captum_vae.localization.detector.saving import load_fitted

        found = load_fitted(path, model, posterior)
        detector = cls(
            found.fitted.model,
            found.asked,
            layers=found.layers,
            smoothing=found.fitted.protocol.smoothing,
            image_size=found.fitted.size,
            channels=found.fitted.channels,
            posterior=found.posterior,
            value_range=found.fitted.value_range,
            **found.promise,
        )
        detector.fitted = found.fitted
        return detector.to(device)

    @property
    def threshold(self) -> float:
        """The pixel threshold: from it on a pixel of a map is called anomalous."""
        return self._known().pixel.threshold

    @property
    def remarks(self) -> list[str]:
        """What a person should know before trusting the promises; usually empty."""
        fitted = self._known()
        told = [
            fitted.facts["normal"]["trained"],
            fitted.facts["normal"]["segments"],
            fitted.pixel.reason,
            fitted.image.remark,
            *(fitted.choice or {}).get("warnings", ()),
        ]
        return [text for text in told if text]

    def __repr__(self) -> str:
        """What it is made of and what it promises."""
        if self.fitted is None:
            return f"AnomalyDetector({self.choice.words}, not fitted)"
        pixel, image = self.fitted.pixel, self.fitted.image
        low, high = image.long_run()
        return "\n".join(
            [
                f"AnomalyDetector of {type(self.fitted.model).__name__}: {self.scorer_words}",
                f"  fitted on {self.fitted.facts['normal']['fitted']} of "
                f"{self.fitted.facts['normal']['images']} normal images at "
                f"{self.fitted.size[0]}x{self.fitted.size[1]}",
                f"  pixels: {pixel}",
                f"  images: anomalous at p <= {image.alpha:g}, false alarms {image.estimate:.3f} "
                f"(in the long run {low:.3f} to {high:.3f}, over {image.count} {image.unit})",
                *(f"  note: {remark}" for remark in self.remarks),
            ]
        )

    @property
    def scorer_words(self) -> str:
        """The scorers in words, with the smoothing."""
        fitted = self._known()
        names = [(fitted.choice or {}).get("name", "")] if fitted.choice else []
        names = names or [type(scorer).__name__ for scorer in fitted.scorers]
        return f"{' + '.join(names)}, smoothing {fitted.protocol.smoothing:g} px"

    def _known(self) -> Fitted:
        if self.fitted is None:
            raise ValueError("the detector knows no normal images; call fit(normal images) first")
        return self.fitted

    @property
    def model(self) -> Any:
        """The VAE."""
        return self._model

    @property
    def wanted_images(self) -> tuple[tuple[int, int] | None, int | None]:
        """(h, w) and channels of the images that it was fitted on, or that are stated before."""
        if self.fitted is not None:
            return self.fitted.size, self.fitted.channels
        size = self._size or height_width(getattr(self._model, "image_size", None))
        return size, self._channels or getattr(self._model, "in_channels", None)
