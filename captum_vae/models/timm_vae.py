"""VAEs on timm backbones; the published MVTec-AD model is one setting of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from typing_extensions import Self

from captum_vae.checks import check_flag, whole_number
from captum_vae.models.backbone import (
    InputNormalization,
    cut_backbone,
    intermediate_features,
    upsampling_steps,
)
from captum_vae.models.base import GaussianVAE, one_of, widths
from captum_vae.models.layers import (
    NamedLayers,
    hidden_layers,
    image_decoder,
    named_sequence,
    posterior_head,
)

HEADS = ("flatten", "pool")
INPUT_SCALES = ("unit", "backbone")


class TimmEncoder(nn.Module):
    """A timm ``backbone`` up to its feature layer, ``scale`` before it and ``head`` behind it."""

    def __init__(
        self,
        scale: nn.Module,
        backbone: nn.Module,
        index: int,
        head: nn.Module,
        *,
        frozen: bool = False,
    ) -> None:
        """Chain the parts; ``index`` is the feature layer's among timm's intermediates."""
        super().__init__()
        self.scale = scale
        self.backbone = backbone
        self.head = head
        self._index = index
        self._frozen = frozen
        if frozen:
            self.backbone.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; a frozen backbone stays in eval mode, so its statistics stay put."""
        super().train(mode)
        if self._frozen:
            self.backbone.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Hidden features of images (B, C, H, W)."""
        features = intermediate_features(self.backbone, self._index, self.scale(x))
        hidden: Tensor = self.head(features)
        return hidden


class TimmVAE(GaussianVAE):
    r"""A VAE on any timm backbone that offers intermediate features.

    The backbone is cut after ``feature_layer`` and what is left keeps timm's names, so that
    the layer to explain is ``encoder.backbone.layer4`` of a ResNet,
    ``encoder.backbone.stages.3`` of a ConvNeXt, ``encoder.backbone.blocks.11`` of a ViT. A
    ViT's tokens reach the head as a grid, without the class token; hooks on its blocks see
    tokens. Parameters that the features do not depend on are frozen.

    Layers:

    - ``encoder``: ``scale, backbone, head`` with ``head.flatten, head.fc1, head.fc1_relu``
      (and ``head.pool`` in front if ``head="pool"``).
    - ``mean``, ``log_variance``: Linear.
    - ``decoder``: ``fc1, fc1_relu, fc2, fc2_relu, unflatten``, then ``deconvi, normi, relui``
      doubling the size each, the last one without ``norm`` and ``relu``; ``output``.

    With ``latent="spatial"`` the posterior is a 1x1 convolution on the features and the
    decoder starts with a 1x1 convolution, ``project``.

    Args:
        backbone: Name of a timm architecture, with or without a pretrained tag.
        latent_dims: D, the number of latent dimensions.
        image_size: Height and width in pixels.
        in_channels: Number of channels of an image.
        pretrained: Whether timm downloads its published weights from the hub. :attr:`config` says
            False: a model rebuilt from its checkpoint takes its weights from there.
        weights: A local file of the backbone's weights instead, as timm's state_dict names them:
            .safetensors, or what torch.save wrote. It is read without running code in it;
            :attr:`config` says None.
        freeze: Whether training leaves the backbone as it is: its weights get no gradient, and its
            batch norm uses, and keeps, the statistics it came with, in train mode too.
        feature_layer: Layer whose output the encoder takes as features, by timm's name; None
            takes the last.
        head: ``"flatten"`` keeps the features' positions, ``"pool"`` averages over them.
        hidden: Width of the first of the two Linear layers on each side; None leaves them
            out. A spatial latent has none.
        decoder_channels: Widths of the decoder's feature maps, from the smallest to the largest.
            Images too small for that many doublings from a 4x4 map, and spatial latents on
            a finer grid, use the last ones.
        input_scale: ``"unit"`` feeds images as they are; ``"backbone"`` first applies the
            mean and standard deviation of the pretrained weights. None means ``"backbone"``
            if ``pretrained`` or ``weights`` are given.
        output: What the decoder returns: ``"sigmoid"``, ``"logits"`` or ``"linear"``.
        latent: Shape of z: ``"vector"`` or ``"spatial"``.

    Raises:
        ImportError: The package timm is not installed.
        TypeError: An argument is of another kind.
        FileNotFoundError: There is no such file of weights.
        ValueError: An argument is out of its range, the backbone (near names are listed) or
            the feature layer (the layers are listed) is unknown, the backbone cannot take
            the image size, or the file's weights are of another model.
        RuntimeError: The pretrained weights could not be had.

    Example::

        >>> vae = TimmVAE("convnext_atto", image_size=64, feature_layer="stages.2")
        >>> reconstruction, mean, log_variance = vae(torch.rand(2, 3, 64, 64))
        >>> layer = vae.get_submodule("encoder.backbone.stages.2")
    """

    def __init__(
        self,
        backbone: str = "resnet18",
        *,
        latent_dims: int = 32,
        image_size: int | Sequence[int] = 256,
        in_channels: int = 3,
        pretrained: bool = False,
        weights: str | Path | None = None,
        freeze: bool = False,
        feature_layer: str | None = None,
        head: str = "flatten",
        hidden: int | None = 1024,
        decoder_channels: Sequence[int] = (1024, 512, 256, 128, 64, 32),
        input_scale: str | None = None,
        output: str = "sigmoid",
        latent: str = "vector",
    ) -> None:
        """Build the layers; a pretrained backbone is downloaded here."""
        super().__init__(
            latent_dims,
            image_size=image_size,
            in_channels=in_channels,
            output=output,
            latent=latent,
        )
        for word, text in (("backbone", backbone), ("feature_layer", feature_layer or "")):
            if not isinstance(text, str):
                raise TypeError(f"{word}={text!r} must be a name that timm knows")
        check_flag("pretrained", pretrained)
        check_flag("freeze", freeze)
        self.backbone = backbone
        self.pretrained = pretrained
        self.weights = weights
        self.freeze = freeze
        self.head = one_of("head", head, HEADS)
        self.hidden = None if hidden is None else whole_number("hidden", hidden, least=1)
        self.decoder_channels = widths("decoder_channels", decoder_channels)
        default_scale = "backbone" if pretrained or weights is not None else "unit"
        self.input_scale = one_of(
            "input_scale", default_scale if input_scale is None else input_scale, INPUT_SCALES
        )
        cut = cut_backbone(
            backbone,
            feature_layer=feature_layer,
            image_size=self.image_size,
            in_channels=self.in_channels,
            pretrained=pretrained,
            weights=weights,
        )
        self.feature_layer = cut.layer

        width, *grid = cut.feature_shape
        layers: NamedLayers = {}
        if self.latent == "spatial":
            self.latent_shape = (self.latent_dims, *grid)
        else:
            self.latent_shape = (self.latent_dims,)
            if self.head == "pool":
                layers["pool"] = nn.AdaptiveAvgPool2d(1)
                grid = [1, 1]
            linear, width = hidden_layers(width * grid[0] * grid[1], self.hidden)
            layers |= linear
        scale: nn.Module = nn.Identity()
        if self.input_scale == "backbone":
            published = cut.model.pretrained_cfg
            scale = InputNormalization(published["mean"], published["std"], self.in_channels)
        self.encoder = TimmEncoder(
            scale, cut.model, cut.position, named_sequence(layers), frozen=freeze
        )
        self.mean = posterior_head(width, self.latent_dims, self.latent)
        self.log_variance = posterior_head(width, self.latent_dims, self.latent)
        steps = upsampling_steps(
            self.image_size, self.latent_shape[1:], most=len(self.decoder_channels)
        )
        self.decoder = image_decoder(
            self.latent_shape,
            hidden=self.hidden,
            channels=self.decoder_channels[-steps:],
            out_channels=self.in_channels,
            image_size=self.image_size,
            norm="batch",
            output=self.output,
        )

    @property
    def config(self) -> dict[str, Any]:
        """The constructor's arguments, JSON-serialisable, with no source of weights."""
        return super().config | {"pretrained": False, "weights": None}


class ResNet18VAE(TimmVAE):
    """The MVTec-AD VAE (supplement of Liu et al. 2020, Table 3, as replication b words it).

    Encoder: ResNet18 without its last two layers (pooling and classifier), then two Linear
    layers, read as 1024 hidden units and the posterior (one Linear each for mean and
    log-variance). Decoder: two Linear layers (1024 and 1024 x 4 x 4), then six transposed
    convolutions 512-256-128-64-32-3 (kernel 4, stride 2, padding 1) with batch normalisation
    and ReLU, and a sigmoid. The text gives no widths; the decoder's are those of replication
    a's code, the encoder's 1024 mirrors it. The last convolution has neither normalisation
    nor ReLU: a ReLU in front of a sigmoid could not paint below 0.5.

    72,803,363 parameters at the published setting. Published training: 256x256 images, Adam at
    1e-4, batch 8, 100 epochs over 10,000 augmented images.

    Layers to explain: ``encoder.backbone.layer1`` (64x64) to ``encoder.backbone.layer4`` (8x8).

    Args:
        latent_dims: D; 32 by default.
        image_size: Height and width in pixels; 256 as published.
        in_channels: Number of channels of an image; 3 as published.
        pretrained: Whether timm downloads its published weights from the hub.
        weights: A local file of the backbone's weights instead, as in :class:`TimmVAE`.
        freeze: Whether training leaves the backbone as it is, batch norm's statistics included.
        input_scale: ``"unit"``, as published, or ``"backbone"``, which is the default if
            ``pretrained`` or ``weights`` are given.
        output: What the decoder returns: ``"sigmoid"``, ``"logits"`` or ``"linear"``.
        latent: Shape of z: ``"vector"``, as published, or ``"spatial"``.

    Example::

        >>> vae = ResNet18VAE(image_size=128).eval()
        >>> reconstruction, mean, log_variance = vae(torch.rand(1, 3, 128, 128))
    """

    def __init__(
        self,
        latent_dims: int = 32,
        *,
        image_size: int | Sequence[int] = 256,
        in_channels: int = 3,
        pretrained: bool = False,
        weights: str | Path | None = None,
        freeze: bool = False,
        input_scale: str | None = None,
        output: str = "sigmoid",
        latent: str = "vector",
    ) -> None:
        """Build the layers; a pretrained backbone is downloaded here."""
        super().__init__(
            "resnet18",
            latent_dims=latent_dims,
            image_size=image_size,
            in_channels=in_channels,
            pretrained=pretrained,
            weights=weights,
            freeze=freeze,
            input_scale=input_scale,
            output=output,
            latent=latent,
        )
