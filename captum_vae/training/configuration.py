"""A training run as plain options: model, data, objective and trainer.

Commands build these from a command line or a YAML file. Nothing here needs torch, so that their
help comes at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from captum_vae.attr.options import Order, Rectifier
from captum_vae.checks import LARGEST_SEED, check_choice, checked_seed, real_number, whole_number
from captum_vae.losses.options import Aggregation, Gate, Likelihood, Mode
from captum_vae.progress import Progress

Accelerator = Literal["auto", "cpu", "cuda"]
"""The kind of device that computes; auto takes CUDA where there is a device."""

Precision = Literal["float32", "bfloat16"]
"""The precision of the forward pass; weights and losses stay in float32."""

Resume = Literal["auto", "never", "weights"]
"""Whether a run that the output folder holds is continued or refused; weights continues it also
where the last checkpoint is damaged, from the weights of the one before."""

Compile = Literal["off", "on"] | bool
"""Whether the model passes through ``torch.compile``. YAML reads on and off as a bool."""

CudaGraph = Literal["off", "on"]
"""Whether a step of stacked runs is recorded once as a CUDA graph and replayed."""

Logger = Literal["jsonl", "tensorboard"]
"""Where losses are logged: log.jsonl, or TensorBoard as well."""

Initialization = Literal["pytorch", "data"]
"""How weights are drawn before training; data scales the encoder's layers on images."""

ScoreName = Literal["factor_vae", "beta_vae", "mig", "dci", "sap", "modularity"]
"""A disentanglement score; see :mod:`captum_vae.metrics.disentanglement`."""

VoteProtocolName = Literal["paper", "publish", "dlib", "replication_b"]
"""How many votes factor_vae and beta_vae take; see :class:`captum_vae.metrics.VoteProtocol`."""

PruneRule = Literal["std", "kl"]
"""By what a dimension is left out of the vote: the std of its mean, as published, or its KL."""


@dataclass
class ModelConfig:
    """Which VAE to train.

    Attributes:
        name: A registered model, such as conv, mnist, ucsd or resnet18 (captum-vae plugins lists
            them), or package.module:Class of your own. Your class is called with image_size,
            in_channels and the options, and keeps the contract of captum_vae.models.GaussianVAE:
            encode(images) gives mean and log-variance, decode(z) gives images, calling it gives
            (reconstruction, mean, log-variance), and the attributes config (the arguments that
            rebuild it), latent_shape ((D,) for a vector) and output (what decode gives: sigmoid,
            logits or linear) describe it.
        options: Arguments of the model; image_size and in_channels default to those of the data.
        initialization: How weights start: pytorch, or data to scale the encoder's layers on images
            of the data, which keeps look-alike images from collapsing the posterior.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    initialization: Initialization = "pytorch"

    def __post_init__(self) -> None:
        """Refuse what is of the wrong type, with the option's name."""
        _check_name("model.name", self.name)
        _check_options("model.options", self.options)
        check_choice("model.initialization", self.initialization, get_args(Initialization))


@dataclass
class DataConfig:
    """What to train on.

    Attributes:
        name: A registered data set, such as digits, folder, mnist or mvtec (captum-vae plugins
            lists them), or package.module:Class of your own.
        root: The folder the data set lies in, for folder that of the normal images; environment
            variables are expanded.
        options: Further arguments of the data set.
        augment: Arguments of captum_vae.data.Augmented; leave out for no augmentation.
        held_out: Share of the images, or of whole clips of frames, that are left out. A training
            run lists them in held_out.txt, and captum-vae detect calibrates on them; 0 leaves none
            out.
    """

    name: str
    root: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    augment: dict[str, Any] | None = None
    held_out: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is of the wrong type, with the option's name."""
        _check_name("data.name", self.name)
        if self.root is not None and not isinstance(self.root, str):
            raise TypeError(f"data.root must be a folder's path as text, got {self.root!r}")
        _check_options("data.options", self.options)
        if self.augment is not None:
            _check_options("data.augment", self.augment)
        self.held_out = real_number("data.held_out", self.held_out, least=0)


@dataclass
class AttentionConfig:
    """Attention disentanglement, added to the objective.

    Attributes:
        layer: Dotted name of the encoder layer whose features the maps weigh.
        weight: Factor of the overlap in the loss, lambda in the paper.
        mode: What overlap means: paper, replication or normalised.
        pairs: Pairs of latent dimensions: all, a number of them drawn anew at every step, or a list
            of pairs.
        aggregation: How the pairs' overlaps become one number: mean or sum.
        gate: Whether collapsed dimensions are left out: kl leaves them out, none counts all.
        rectifier: How maps are made non-negative: relu or abs; by default the mode's way.
        order: When maps are rectified: after_sum or channelwise; by default the mode's way.
        seed: Seed of the pairs drawn.
    """

    layer: str
    weight: float = 1.0
    mode: Mode = "normalised"
    pairs: Literal["all"] | int | list[tuple[int, int]] = "all"
    aggregation: Aggregation = "mean"
    gate: Gate = "none"
    rectifier: Rectifier | None = None
    order: Order | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what is of the wrong type or out of range, with the option's name."""
        at = "objective.attention"
        _check_name(f"{at}.layer", self.layer)
        self.weight = real_number(f"{at}.weight", self.weight, least=0)
        check_choice(f"{at}.mode", self.mode, get_args(Mode))
        check_choice(f"{at}.aggregation", self.aggregation, get_args(Aggregation))
        check_choice(f"{at}.gate", self.gate, get_args(Gate))
        check_choice(f"{at}.rectifier", self.rectifier, (None, *get_args(Rectifier)))
        check_choice(f"{at}.order", self.order, (None, *get_args(Order)))
        self.seed = checked_seed(self.seed, name=f"{at}.seed")


@dataclass
class ObjectiveConfig:
    """What to minimise.

    Attributes:
        name: The loss: vae, or factor_vae for a total-correlation penalty on top.
        likelihood: What the decoder's output means: bernoulli, gaussian or optimal_gaussian.
        beta: Final weight of the KL.
        warmup_steps: Steps over which the weight of the KL climbs from 0.
        free_bits: Nats per dimension below which the KL is not rewarded.
        variance: Variance of a pixel, for gaussian.
        learning_rate: Learning rate of Adam.
        gamma: Weight of the total correlation, for factor_vae.
        discriminator_learning_rate: Learning rate of the discriminator's Adam, for factor_vae.
        attention: Attention disentanglement on top of either loss; leave out for none.
    """

    name: Literal["vae", "factor_vae"] = "vae"
    likelihood: Likelihood = "optimal_gaussian"
    beta: float = 1.0
    warmup_steps: int = 0
    free_bits: float = 0.0
    variance: float = 1.0
    learning_rate: float = 1e-3
    gamma: float = 10.0
    discriminator_learning_rate: float = 1e-4
    attention: AttentionConfig | None = None

    def __post_init__(self) -> None:
        """Refuse what is of the wrong type or out of range, with the option's name."""
        check_choice("objective.name", self.name, ("vae", "factor_vae"))
        check_choice("objective.likelihood", self.likelihood, get_args(Likelihood))
        for name in ("beta", "free_bits"):
            setattr(self, name, real_number(f"objective.{name}", getattr(self, name), least=0))
        for name in ("variance", "learning_rate", "gamma", "discriminator_learning_rate"):
            setattr(self, name, real_number(f"objective.{name}", getattr(self, name), above=0))
        self.warmup_steps = whole_number("objective.warmup_steps", self.warmup_steps, least=0)
        if self.attention is not None and not isinstance(self.attention, AttentionConfig):
            raise TypeError(
                f"objective.attention must be an AttentionConfig or None, got {self.attention!r}"
            )


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """How to train: steps, batches, devices, checkpoints and logs.

    Attributes:
        steps: Optimizer steps in all.
        batch_size: Images per step over all processes, a multiple of their number.
        seed: Seed of sampling noise, data order and augmentation; from Python, the model is yours
            to initialise.
        accelerator: What computes: cpu, cuda, or auto for CUDA where there is a device.
        precision: Number format, float32, or bfloat16 for autocast.
        compile: With on, the model goes through torch.compile.
        workers: Processes that load data; they do not change the result.
        save_every: Steps between checkpoints.
        keep: How many checkpoints to keep; the last alone holds the optimizers' state, which takes
            two thirds of it, and can be resumed from.
        log_every: Steps between log lines.
        logger: What is logged to: jsonl for log.jsonl, or tensorboard for that and TensorBoard's
            own files.
        progress: Whether the progress bar shows; auto shows it on a terminal only.
    """

    steps: int = 10_000
    batch_size: int = 64
    seed: int = 0
    accelerator: Accelerator = "auto"
    precision: Precision = "float32"
    compile: Compile = "off"
    workers: int = 0
    save_every: int = 1000
    keep: int = 3
    log_every: int = 50
    logger: Logger = "jsonl"
    progress: Progress = "auto"

    def __post_init__(self) -> None:
        """Check the numbers and names.

        Raises:
            TypeError: A number is no whole number.
            ValueError: A number is out of range, or a word is none of the choices.
        """
        limits = {"steps": 1, "batch_size": 1, "save_every": 1, "keep": 1, "log_every": 1}
        for name, least in {**limits, "seed": 0, "workers": 0}.items():
            most = LARGEST_SEED if name == "seed" else None
            number = whole_number(name, getattr(self, name), least=least, most=most)
            # A plain int also where NumPy's came: settings are written as JSON.
            object.__setattr__(self, name, number)
        for name, choice in {
            "accelerator": Accelerator,
            "precision": Precision,
            "logger": Logger,
        }.items():
            check_choice(name, getattr(self, name), get_args(choice))
        for name, words in {"compile": ("off", "on"), "progress": ("auto", "on", "off")}.items():
            value = getattr(self, name)
            if isinstance(value, bool):
                object.__setattr__(self, name, "on" if value else "off")
            else:
                check_choice(name, value, words)


def _check_name(argument: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise TypeError(f"{argument} must be a name, got {value!r}")


def _check_options(argument: str, value: object) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"{argument} must be a dict of arguments by name, got {value!r}")
