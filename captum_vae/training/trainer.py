"""The step loop: batches in, optimizer steps, log lines and checkpoints out."""

import signal
from collections.abc import Sized
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from captum_vae.metrics.activity import ActiveDimensions
from captum_vae.training.active_report import measure_active_dimensions
from captum_vae.training.batches import BatchOrder, SeededImages, load_batches
from captum_vae.training.checkpoint import (
    checkpoint_path,
    list_checkpoints,
    prune_checkpoints,
    read_checkpoint,
    write_checkpoint,
)
from captum_vae.training.configuration import Resume, TrainerConfig
from captum_vae.training.devices import (
    average_gradients,
    broadcast_weights,
    gather,
    largest,
    start_fabric,
)
from captum_vae.training.interrupts import Interrupts
from captum_vae.training.logs import RunLog, say
from captum_vae.training.objectives import VAEObjective
from captum_vae.training.random_state import seed_everything
from captum_vae.training.state import TrainingState

if TYPE_CHECKING:
    from lightning.fabric import Fabric


class NonFiniteLossError(FloatingPointError):
    """The loss or a weight became NaN or infinite; training stopped before saving it."""


@dataclass(frozen=True)
class TrainingResult:
    """What :meth:`Trainer.fit` leaves behind.

    Attributes:
        step: steps trained, over all resumed parts of the run.
        losses: their means over the last logged stretch.
        checkpoint: the last one.
        active: active dimensions over the data.
        is_first_process: whether this process is the one that writes files.
        device: the device trained on.
        processes: how many trained together.
    """

    step: int
    losses: dict[str, float]
    checkpoint: Path
    active: ActiveDimensions
    is_first_process: bool
    device: torch.device
    processes: int


class Trainer(TrainerConfig):
    """Trains a VAE for a number of steps; killed runs continue where their checkpoint left off.

    Under ``torchrun`` every process takes its share of each batch. On the CPU a resumed run ends
    with the weights of an uninterrupted one, bit for bit. The options are those of
    :class:`~captum_vae.training.configuration.TrainerConfig`.

    Example::

        Trainer(steps=2000, batch_size=32).fit(
            model, dataset, VAEObjective(ELBO("optimal_gaussian")), out="runs/mine"
        )
    """

    @classmethod
    def of(cls, config: TrainerConfig) -> "Trainer":
        """The trainer that a configuration describes."""
        return cls(**asdict(config))

    def fit(
        self,
        model: nn.Module,
        dataset: Dataset[Any],
        objective: VAEObjective,
        *,
        out: str | Path,
        resume: Resume = "auto",
    ) -> TrainingResult:
        """Train ``model`` in place and report its active dimensions.

        Args:
            model: ``model(x)`` gives (reconstruction, mean, log-variance, ...) and
                ``model.encode(x)`` (mean, log-variance).
            dataset: yields images, see :func:`captum_vae.training.batches.image_of`.
            objective: what to minimise.
            out: the run's folder: ``checkpoints/``, ``log.jsonl``.
            resume: ``"auto"`` continues the run that ``out`` holds, ``"never"`` refuses it.

        Returns:
            Losses, the last checkpoint and the active dimensions; the model is left on the
            training device in eval mode.

        Raises:
            ValueError: an empty data set, a batch that the processes cannot share, or a run in
                ``out`` that is not this one.
            NonFiniteLossError: the loss became NaN or infinite.
            OSError: a checkpoint could not be written.
        """
        images = len(cast(Sized, dataset))
        if images == 0:
            raise ValueError("the data set is empty")
        if resume not in get_args(Resume):
            raise ValueError(f"resume must be one of {get_args(Resume)}, got {resume!r}")
        fabric = start_fabric(self.accelerator, self.precision)
        if self.batch_size % fabric.world_size:
            raise ValueError(
                f"batch_size {self.batch_size} must be a multiple of the {fabric.world_size} "
                "processes that share it"
            )
        seed_everything(self.seed + fabric.global_rank)
        model.to(fabric.device).train()
        objective.to(fabric.device).train()
        broadcast_weights(model)
        broadcast_weights(objective)
        state = TrainingState(
            model,
            objective,
            objective.optimizers(model),
            settings={
                "seed": self.seed,
                "batch_size": self.batch_size,
                "precision": self.precision,
                "images": images,
                "objective": objective.config,
            },
            device=fabric.device,
        )
        run = _Run(self, fabric, state, Path(out) / "checkpoints")
        start = run.resume(resume)
        losses = run.train(dataset, images, start)
        active = measure_active_dimensions(
            model,
            dataset,
            device=fabric.device,
            workers=self.workers,
            rank=fabric.global_rank,
            world_size=fabric.world_size,
        )
        model.eval()
        return TrainingResult(
            step=max(start, self.steps),
            losses=losses,
            checkpoint=list_checkpoints(run.folder)[-1],
            active=active,
            is_first_process=fabric.is_global_zero,
            device=fabric.device,
            processes=fabric.world_size,
        )


@dataclass
class _Run:
    """One run under way: the trainer's settings bound to devices, state and folder."""

    trainer: Trainer
    fabric: "Fabric"
    state: TrainingState
    folder: Path
    saved: int = field(default=0, init=False)

    def resume(self, resume: Resume) -> int:
        """Load the newest checkpoint if there is one; return the step to start at."""
        found = list_checkpoints(self.folder)
        if not found:
            return 0
        if resume == "never":
            raise ValueError(
                f"{self.folder.parent} already holds a run ({found[-1].name}); choose another "
                "folder, or resume='auto' to continue it"
            )
        try:
            self.saved = self.state.restore(
                read_checkpoint(found[-1]),
                rank=self.fabric.global_rank,
                world_size=self.fabric.world_size,
            )
        except ValueError as error:
            raise ValueError(f"cannot resume from {found[-1]}: {error}") from error
        say(f"resuming after step {self.saved}", active=self.fabric.is_global_zero)
        return self.saved

    def train(self, dataset: Dataset[Any], images: int, start: int) -> dict[str, float]:
        """Run the steps from ``start``; return the last logged losses."""
        trainer, fabric = self.trainer, self.fabric
        loader = load_batches(
            SeededImages(dataset, seed=trainer.seed, rank=fabric.global_rank),
            BatchOrder(
                images,
                batch_size=trainer.batch_size * self.state.objective.batches_per_step,
                seed=trainer.seed,
                start=start,
                stop=trainer.steps,
                rank=fabric.global_rank,
                world_size=fabric.world_size,
            ),
            workers=trainer.workers,
            device=fabric.device,
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        network: Any = self.state.model
        if trainer.compile == "on":
            network = torch.compile(network)
        stop = 0
        with (
            Interrupts() as interrupts,
            RunLog(
                self.folder.parent,
                start=start,
                stop=trainer.steps,
                logger=trainer.logger,
                progress=trainer.progress,
                active=fabric.is_global_zero,
            ) as log,
        ):
            for step, batch in enumerate(loader, start):
                losses = self._losses(network, batch, step)
                diverged = not all(bool(losses[name].isfinite()) for name in self.state.optimizers)
                stop, diverged_anywhere = largest([interrupts.received, diverged], fabric.device)
                if diverged_anywhere:
                    raise NonFiniteLossError(self._diverged(losses, step))
                self._update(losses)
                log.add(losses, images=trainer.batch_size)
                done = step + 1
                if done % trainer.log_every == 0 or done == trainer.steps or stop:
                    log.write(done)
                if done % trainer.save_every == 0 or done == trainer.steps or stop:
                    self._save(done)
                if stop:
                    break
        if stop:
            say(
                f"stopped by {signal.Signals(stop).name} after step {self.saved}, saved; run the "
                "same command again to continue",
                active=fabric.is_global_zero,
            )
            signal.raise_signal(stop)
        return log.last

    def _losses(self, network: Any, batch: Tensor, step: int) -> dict[str, Tensor]:
        batch = batch.to(self.fabric.device, non_blocking=True)
        with self.fabric.autocast():
            losses: dict[str, Tensor] = self.state.objective(network, batch, step)
        return losses

    def _update(self, losses: dict[str, Tensor]) -> None:
        # Each optimizer clears what the losses before its own left in its gradients.
        for name, optimizer in self.state.optimizers.items():
            optimizer.zero_grad(set_to_none=True)
            losses[name].backward()  # type: ignore[no-untyped-call]
            average_gradients(p for group in optimizer.param_groups for p in group["params"])
            optimizer.step()

    def _save(self, step: int) -> None:
        if not self.state.is_finite():
            raise NonFiniteLossError(
                f"a weight is NaN or infinite after step {step}; {self._last_good()}"
            )
        random_states = gather(self.state.random_state())
        if self.fabric.is_global_zero:
            write_checkpoint(
                checkpoint_path(self.folder, step), self.state.capture(step, random_states)
            )
            prune_checkpoints(self.folder, self.trainer.keep)
        self.saved = step
        self.fabric.barrier()

    def _diverged(self, losses: dict[str, Tensor], step: int) -> str:
        values = ", ".join(f"{name} {float(value.detach()):.6g}" for name, value in losses.items())
        return f"the loss is not finite at step {step} ({values}); {self._last_good()}"

    def _last_good(self) -> str:
        found = list_checkpoints(self.folder)
        kept = f"the last good checkpoint is {found[-1]}" if found else "nothing was saved yet"
        return f"{kept}. Check the images for NaN, or train with a smaller learning_rate"
