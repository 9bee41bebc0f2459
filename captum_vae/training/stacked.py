"""K runs that differ in their seed alone, trained in one process.

Every run has a folder of its own, with the log and the checkpoints that
:class:`~captum_vae.training.Trainer` would write there: either of the two goes on where the other
stopped, and ``load_vae`` reads both. On the CPU the runs are those of the trainer to rounding,
since each draws the same numbers and sees the same images in the same order. There they take turns
step by step, and what is saved is work (:mod:`captum_vae.training.stacked_step`); on a GPU all of
them are one stack, and a step of K small models launches as many kernels as a step of one.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor
from torch.utils.data import Dataset

from captum_vae.checks import check_choice, whole_number
from captum_vae.files import holding
from captum_vae.losses.elbo import linear_warmup
from captum_vae.models.base import GaussianVAE
from captum_vae.models.stacked import Convolutions
from captum_vae.training.active_report import measure_active_dimensions
from captum_vae.training.checkpoint import (
    check_resumable,
    checkpoint_path,
    list_checkpoints,
    prune_checkpoints,
    read_checkpoint,
    write_checkpoint,
)
from captum_vae.training.configuration import CudaGraph, TrainerConfig
from captum_vae.training.contract import check_arguments, check_encoder, first_image
from captum_vae.training.data_digest import data_digest
from captum_vae.training.devices import chosen_device
from captum_vae.training.interrupts import Interrupts
from captum_vae.training.logs import RunLog, say
from captum_vae.training.memory import keep_freed_memory
from captum_vae.training.objectives import VAEObjective
from captum_vae.training.random_state import isolated_randomness, random_state, seed_everything
from captum_vae.training.stacked_adam import stack_adam, unstack_adam
from captum_vae.training.stacked_execution import EagerStep, GraphedStep
from captum_vae.training.stacked_inputs import (
    BlockNoise,
    NoiseSource,
    SequentialNoise,
    StackedImages,
)
from captum_vae.training.stacked_step import StackedStep, check_objectives_alike
from captum_vae.training.state import TrainingState
from captum_vae.training.trainer import NonFiniteLossError, TrainingResult


@dataclass
class StackedRun:
    """One of the runs.

    Attributes:
        seed: Its seed, which orders the images and draws the noise.
        model: Its VAE, which is trained in place.
        objective: Its objective.
        out: Its folder.
    """

    seed: int
    model: GaussianVAE
    objective: VAEObjective
    out: Path


def fit_stacked(
    runs: Sequence[StackedRun],
    dataset: Dataset[Any],
    config: TrainerConfig,
    *,
    at_once: int | None = None,
    convolutions: Convolutions = "auto",
    cuda_graph: CudaGraph = "off",
) -> list[TrainingResult]:
    """Train every run to ``config.steps``, or continue those that their folders hold.

    Args:
        runs: The runs, whose models and objectives are alike.
        dataset: A data set of images, the same for all.
        config: How to train; its own seed and ``workers`` do not matter, and ``compile`` must be
            off.
        at_once: How many runs make one stack; by default one on the CPU, where the memory of a
            single step stays in the processor's cache, and all of them on a GPU.
        convolutions: How the convolutions of a stack run; see
            :class:`~captum_vae.models.stacked.StackedVAE`.
        cuda_graph: With ``"on"``, a step is recorded as a CUDA graph and replayed, which needs a
            CUDA device and a data set that lies in its memory.

    Returns:
        A result for each run, in order; the models are left in eval mode.

    Raises:
        TypeError: An argument is of another kind.
        ValueError: The runs cannot be stacked, the device is not there, or a folder holds another
            run, or runs that stopped at different steps.
        NonFiniteLossError: A loss became NaN or infinite; the message names the seed.
        OSError: A checkpoint could not be written.
    """
    if not runs:
        raise ValueError("runs is empty; wanted at least one")
    check_choice("cuda_graph", cuda_graph, get_args(CudaGraph))
    device = chosen_device(config.accelerator, "accelerator")
    if cuda_graph == "on" and device.type != "cuda":
        raise ValueError("cuda_graph='on' needs a CUDA device; leave it off on the CPU")
    if config.compile == "on":
        raise ValueError("stacked runs are not compiled; leave compile off")
    size = (1 if device.type == "cpu" else len(runs)) if at_once is None else at_once
    whole_number("at_once", size, least=1)
    image = first_image(dataset)
    for run in runs:
        check_arguments(run.model, dataset, run.objective, run.out)
    check_objectives_alike([run.objective for run in runs])
    with ExitStack() as stack:
        for run in runs:
            stack.enter_context(holding(run.out))
        if device.type == "cpu":
            keep_freed_memory()
        return _Training(runs, dataset, config, device, image).fit(size, convolutions, cuda_graph)


@dataclass
class _Block:
    """Runs that make one stack, with what a step of theirs needs."""

    states: list[TrainingState]
    step: StackedStep
    run: EagerStep
    images: StackedImages
    noise: NoiseSource
    logs: list[RunLog] = field(default_factory=list)

    def load(self) -> None:
        """Take the optimizers' state over from the single runs'."""
        for name, optimizer in self.step.optimizers.items():
            stack_adam(optimizer, [state.optimizers[name] for state in self.states])

    def store(self) -> None:
        """Give weights and optimizers' state back to the single runs'."""
        self.step.write_back()
        for name, optimizer in self.step.optimizers.items():
            unstack_adam(optimizer, [state.optimizers[name] for state in self.states])


class _Training:
    """The runs under way."""

    def __init__(
        self,
        runs: Sequence[StackedRun],
        dataset: Dataset[Any],
        config: TrainerConfig,
        device: torch.device,
        image: Tensor,
    ) -> None:
        """Take every run's state from its folder, or start it."""
        self.runs, self.dataset, self.config, self.device = runs, dataset, config, device
        digest = data_digest(dataset)
        self.states = []
        for run in runs:
            run.model.to(device).train()
            check_encoder(run.model, image)
            run.objective.to(device).train()
            settings = {
                "seed": run.seed,
                "batch_size": config.batch_size,
                "precision": config.precision,
                "images": len(dataset),  # type: ignore[arg-type]
                "data": digest,
                "objective": run.objective.config,
            }
            optimizers = run.objective.optimizers(run.model)
            self.states.append(
                TrainingState(run.model, run.objective, optimizers, settings, device)
            )
        self.randomness = [_fresh_randomness(run.seed) for run in runs]
        self.start = self._resume()
        self.checkpoints: list[Path] = [
            checkpoint_path(run.out / "checkpoints", self.start) for run in runs
        ]

    def fit(
        self, at_once: int, convolutions: Convolutions, cuda_graph: CudaGraph
    ) -> list[TrainingResult]:
        """Train and report."""
        config = self.config
        starts = range(0, len(self.runs), at_once)
        graph = cuda_graph == "on"
        blocks = [self._block(slice(i, i + at_once), convolutions, graph) for i in starts]
        stop = 0
        with ExitStack() as stack:
            interrupts = stack.enter_context(Interrupts())
            for block in blocks:
                block.logs = [stack.enter_context(self._log(state)) for state in block.states]
            for step in range(self.start, config.steps):
                done = step + 1
                logged = done % config.log_every == 0 or done == config.steps
                beta = self._beta(step)
                for block in blocks:
                    losses = block.run(block.images.batch(step), block.noise.draw(step), beta)
                    # On a GPU reading a value back would stall every step.
                    if logged or self.device.type == "cpu":
                        self._check_finite(block, losses, step)
                    for place, log in enumerate(block.logs):
                        of_run = {name: value[place] for name, value in losses.items()}
                        log.add(of_run, images=config.batch_size)
                stop = interrupts.received
                if logged or stop:
                    for block in blocks:
                        for log in block.logs:
                            log.write(done)
                if done % config.save_every == 0 or done == config.steps or stop:
                    self._save(blocks, done)
                if stop:
                    break
        if stop:
            say(
                f"stopped by {signal.Signals(stop).name} after step {done}, saved; run the same "
                "command again to continue"
            )
            signal.raise_signal(stop)
        for block in blocks:
            block.store()
        logs = [log for block in blocks for log in block.logs]
        return [self._result(place, log) for place, log in enumerate(logs)]

    def _resume(self) -> int:
        """Load the newest step that every folder can go on from; 0 where none holds a run."""
        found = []
        for run, state in zip(self.runs, self.states, strict=True):
            resumable: dict[int, Path] = {}
            paths = list_checkpoints(run.out / "checkpoints")
            for path in paths:
                stored = read_checkpoint(path)
                try:
                    state.check_same_run(stored)
                except ValueError as error:
                    raise ValueError(f"cannot resume from {path}: {error}") from error
                if "optimizers" in stored:
                    check_resumable(stored)
                    resumable[int(stored["step"])] = path
            found.append(resumable)
        if not any(found):
            return 0
        common = set(found[0]).intersection(*found[1:])
        if not common:
            at = ", ".join(
                f"{run.out.name}: {max(steps) if steps else 'none'}"
                for run, steps in zip(self.runs, found, strict=True)
            )
            raise ValueError(
                f"the runs stopped at different steps ({at}) and cannot go on together; train "
                "those that are behind by themselves first, or choose another folder"
            )
        start = max(common)
        for place, (state, steps) in enumerate(zip(self.states, found, strict=True)):
            stored = read_checkpoint(steps[start])
            with isolated_randomness(0):
                state.restore(stored, rank=0, world_size=len(stored["random"]))
            self.randomness[place] = stored["random"][0]
        say(f"resuming {len(self.runs)} runs after step {start}")
        return start

    def _block(self, part: slice, convolutions: Convolutions, graphed: bool) -> _Block:
        runs, states = self.runs[part], self.states[part]
        step = StackedStep(
            [run.model for run in runs],
            [run.objective for run in runs],
            convolutions=convolutions,
            capturable=graphed,
        )
        seeds = [run.seed for run in runs]
        shape = (self.config.batch_size, runs[0].model.latent_shape[0])
        discriminated = step.discriminator is not None
        noise: NoiseSource
        if self.device.type == "cpu":
            known = [random["torch"] for random in self.randomness[part]]
            dtype = next(runs[0].model.parameters()).dtype
            noise = SequentialNoise(known, shape, discriminated=discriminated, dtype=dtype)
        else:
            noise = BlockNoise(seeds, shape, discriminated=discriminated, device=self.device)
        images = StackedImages(
            self.dataset,
            seeds,
            batch_size=self.config.batch_size * step.batches_per_step,
            device=self.device,
        )
        run = (GraphedStep if graphed else EagerStep)(step, self.config.precision, self.device)
        block = _Block(list(states), step, run, images, noise)
        block.load()
        return block

    def _log(self, state: TrainingState) -> AbstractContextManager[RunLog]:
        run = self.runs[self.states.index(state)]
        config = self.config
        return RunLog(
            run.out,
            start=self.start,
            stop=config.steps,
            logger=config.logger,
            progress=config.progress if run is self.runs[0] else "off",
        )

    def _check_finite(self, block: _Block, losses: dict[str, Tensor], step: int) -> None:
        for name in block.step.optimizers:
            broken = (~losses[name].isfinite()).nonzero().flatten().tolist()
            if broken:
                seed = block.states[broken[0]].settings["seed"]
                raise NonFiniteLossError(
                    f"the loss of seed {seed} is not finite at step {step} ({name} "
                    f"{float(losses[name][broken[0]]):.6g}); train with a smaller learning_rate, "
                    "or without this seed"
                )

    def _save(self, blocks: Sequence[_Block], step: int) -> None:
        """Write every run's checkpoint, and only then thin those before it."""
        for block in blocks:
            block.store()
        random = [state for block in blocks for state in block.noise.states()]
        for place, (run, state) in enumerate(zip(self.runs, self.states, strict=True)):
            if not state.is_finite():
                raise NonFiniteLossError(
                    f"a weight of seed {run.seed} is NaN or infinite after step {step}"
                )
            self.randomness[place] = {**self.randomness[place], "torch": random[place]}
            self.checkpoints[place] = checkpoint_path(run.out / "checkpoints", step)
            self.checkpoints[place].parent.mkdir(parents=True, exist_ok=True)
            write_checkpoint(self.checkpoints[place], state.capture(step, [self.randomness[place]]))
        for run in self.runs:
            prune_checkpoints(run.out / "checkpoints", self.config.keep, last=step)

    def _result(self, place: int, log: RunLog) -> TrainingResult:
        run = self.runs[place]
        active = measure_active_dimensions(run.model, self.dataset, device=self.device)
        run.model.eval()
        return TrainingResult(
            step=max(self.start, self.config.steps),
            losses=log.last,
            checkpoint=self.checkpoints[place],
            active=active,
            is_first_process=True,
            device=self.device,
            processes=1,
        )

    def _beta(self, step: int) -> float:
        """The weight of the KL at a step."""
        elbo = self.runs[0].objective.elbo
        return float(elbo.beta) * linear_warmup(step, elbo.warmup_steps)


def _fresh_randomness(seed: int) -> dict[str, Any]:
    """The generators' states with which a single run of a seed starts."""
    with isolated_randomness(0):
        seed_everything(seed)
        return random_state(torch.device("cpu"))
