"""The step loop: batches in, optimizer steps, log lines and checkpoints out."""

import signal
import warnings
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from captum_vae.checks import check_choice
from captum_vae.data.loading import is_of_a_dead_loader, naming_dead_loaders
from captum_vae.files import DamagedFileError, holding
from captum_vae.lost_processes import stopping_in_agreement, telling_lost_processes
from captum_vae.metrics.activity import ActiveDimensions
from captum_vae.processes import gather
from captum_vae.provenance import run_record
from captum_vae.training.active_report import measure_active_dimensions
from captum_vae.training.batches import (
    BatchOrder,
    SeededImages,
    load_batches,
)
from captum_vae.training.checkpoint import (
    check_resumable,
    checkpoint_path,
    list_checkpoints,
    prune_checkpoints,
    read_checkpoint,
    strays,
    write_checkpoint,
)
from captum_vae.training.configuration import Resume, TrainerConfig
from captum_vae.training.contract import check_arguments, check_encoder, first_image
from captum_vae.training.data_digest import data_digest
from captum_vae.training.devices import (
    average_gradients,
    broadcast_weights,
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
        step: Steps trained, over all resumed parts of the run.
        losses: Means of the losses over the last logged stretch, by name.
        checkpoint: The last checkpoint.
        active: Which latent dimensions are active over the data.
        is_first_process: Whether this process is the one that writes files.
        device: The device trained on.
        processes: How many processes trained together.
    """

    step: int
    losses: dict[str, float]
    checkpoint: Path
    active: ActiveDimensions
    is_first_process: bool
    device: torch.device
    processes: int

    def report(self, settings: dict[str, Any], *, seconds: float) -> dict[str, Any]:
        """Everything needed to repeat the run and compare its outcome, ready for JSON.

        Args:
            settings: Options of the model, the data, the objective and the trainer; those of the
                trainer hold the seed.
            seconds: Wall time of this part of the run.
        """
        return {
            **run_record(self.device, seed=settings["trainer"]["seed"]),
            "processes": self.processes,
            "protocol": settings,
            "steps": self.step,
            "seconds": round(seconds, 1),
            "final_losses": {name: round(value, 4) for name, value in self.losses.items()},
            "active_dimensions": self.active.to_dict(),
        }


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
        on_step: Callable[[nn.Module, int], object] | None = None,
    ) -> TrainingResult:
        """Train ``model`` in place and report its active dimensions.

        Args:
            model: A module: ``model(x)`` gives (reconstruction, mean, log-variance, ...) and
                ``model.encode(x)`` (mean, log-variance).
            dataset: A data set of images, see :func:`captum_vae.training.batches.image_of`.
            objective: What to minimise.
            out: The run's folder, for ``checkpoints/`` and ``log.jsonl``. No other run may write
                there meanwhile.
            resume: ``"auto"`` continues the run that ``out`` holds, if the settings and the images
                are the same; ``"never"`` refuses it.
            on_step: Called after every step on the first process with the model and the steps done,
                such as a :class:`~captum_vae.training.LatentMonitor`.

        Returns:
            Losses, the last checkpoint and the active dimensions; the model is left on the
            training device in eval mode.

        Raises:
            TypeError: An argument is of another kind, or the data set yields no images.
            ValueError: The data set is empty or its images do not fit the model, the processes
                cannot share a batch, another run is writing to ``out``, or the one that it holds
                is not this one or is damaged.
            NonFiniteLossError: The loss became NaN or infinite.
            LostProcessError: Another of the processes that train together was killed or crashed;
                the same run started again continues at its last checkpoint.
            OSError: A checkpoint could not be written, or a process that loads images died.
        """
        check_arguments(model, dataset, objective, out)
        check_choice("resume", resume, get_args(Resume))
        if on_step is not None and not callable(on_step):
            raise TypeError(
                f"on_step is a {type(on_step).__name__}; wanted a function of model and step"
            )
        image = first_image(dataset)
        fabric = start_fabric(self.accelerator, self.precision)
        if self.batch_size % fabric.world_size:
            raise ValueError(
                f"batch_size {self.batch_size} must be a multiple of the {fabric.world_size} "
                "processes that share it"
            )
        # The other processes read what the first writes, and wait for it at every checkpoint.
        advice = (
            f"{str(out)!r} holds everything up to the last checkpoint: start the same command "
            "again to continue there"
        )
        with (
            telling_lost_processes(advice),
            naming_dead_loaders(),
            holding(out) if fabric.is_global_zero else nullcontext(),
        ):
            return self._fit(fabric, model, dataset, objective, Path(out), resume, image, on_step)

    def _fit(
        self,
        fabric: "Fabric",
        model: nn.Module,
        dataset: Dataset[Any],
        objective: VAEObjective,
        out: Path,
        resume: Resume,
        image: Tensor,
        on_step: Callable[[nn.Module, int], object] | None,
    ) -> TrainingResult:
        seed_everything(self.seed + fabric.global_rank)
        model.to(fabric.device).train()
        check_encoder(model, image)
        objective.to(fabric.device).train()
        broadcast_weights(model)
        broadcast_weights(objective)
        images = len(cast(Sized, dataset))
        state = TrainingState(
            model,
            objective,
            objective.optimizers(model),
            settings={
                "seed": self.seed,
                "batch_size": self.batch_size,
                "precision": self.precision,
                "images": images,
                "data": data_digest(dataset),
                "objective": objective.config,
            },
            device=fabric.device,
        )
        run = _Run(self, fabric, state, out / "checkpoints", on_step)
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
        assert run.checkpoint is not None
        return TrainingResult(
            step=max(start, self.steps),
            losses=losses,
            checkpoint=run.checkpoint,
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
    on_step: Callable[[nn.Module, int], object] | None
    saved: int = field(default=0, init=False)
    checkpoint: Path | None = field(default=None, init=False)
    of_other_runs: frozenset[Path] = field(default=frozenset(), init=False)

    def resume(self, resume: Resume) -> int:
        """Load the newest checkpoint of this run if there is one; return the step to start at."""
        passed_over = strays(self.folder)
        found = list_checkpoints(self.folder)
        if found and resume == "never":
            raise ValueError(
                f"{self.folder.parent} already holds a run ({found[-1].name}); choose another "
                "folder, or resume='auto' to continue it"
            )
        reasons: dict[Path, ValueError] = {}
        damaged: dict[Path, ValueError] = {}
        anew = False
        for path in reversed(found):
            try:
                state = read_checkpoint(path)
            except DamagedFileError as error:
                if resume != "weights":
                    raise
                damaged[path] = error
                continue
            try:
                check_resumable(state, optimizers=resume != "weights")
                self.state.check_same_run(state)
                self.saved = self.state.restore(
                    state, rank=self.fabric.global_rank, world_size=self.fabric.world_size
                )
            except ValueError as error:
                reasons[path] = error
                continue
            self.checkpoint = path
            anew = "optimizers" not in state
            break
        log = self.folder.parent / "log.jsonl"
        if passed_over and not found and log.is_file() and log.stat().st_size:
            words = "; ".join(f"{path.name}: {reason}" for path, reason in passed_over.items())
            raise ValueError(
                f"{self.folder.parent} holds the log of a run but no checkpoint to resume from "
                f"({words}); restore a checkpoint from a copy, or choose another folder"
            )
        if found and self.checkpoint is None:
            raise ValueError(f"cannot resume from {found[-1]}: {(damaged | reasons)[found[-1]]}")
        # Nobody moves a file that another process has yet to look at.
        self.fabric.barrier()
        self.of_other_runs = frozenset(reasons)
        if self.fabric.is_global_zero:
            for path, reason in {**passed_over, **reasons}.items():
                warnings.warn(f"{path} is passed over: {reason}", stacklevel=4)
            for path in damaged:
                kept = path.rename(path.with_suffix(".pt.damaged"))
                warnings.warn(f"{path} is damaged, and kept as {kept.name}", stacklevel=4)
        if found:
            ending = ", with optimizers that begin anew" if anew else ""
            say(f"resuming after step {self.saved}{ending}", active=self.fabric.is_global_zero)
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
                with _naming_the_images(batch, first=step == start):
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
                if self.on_step is not None and fabric.is_global_zero:
                    self.on_step(self.state.model, done)
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
            stopping_in_agreement()
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
        path = checkpoint_path(self.folder, step)
        if self.fabric.is_global_zero:
            write_checkpoint(path, self.state.capture(step, random_states))
            prune_checkpoints(self.folder, self.trainer.keep, last=step, spare=self.of_other_runs)
        self.saved, self.checkpoint = step, path
        self.fabric.barrier()

    def _diverged(self, losses: dict[str, Tensor], step: int) -> str:
        values = ", ".join(f"{name} {float(value.detach()):.6g}" for name, value in losses.items())
        return f"the loss is not finite at step {step} ({values}); {self._last_good()}"

    def _last_good(self) -> str:
        kept = "nothing was saved yet"
        if self.checkpoint is not None:
            kept = f"the last good checkpoint is {self.checkpoint}"
        return f"{kept}. Check the images for NaN, or train with a smaller learning_rate"


@contextmanager
def _naming_the_images(batch: Tensor, *, first: bool) -> Iterator[None]:
    """On the first step, let errors from inside the model say what it was called with."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, AttributeError, LookupError, AssertionError) as error:
        if not first or is_of_a_dead_loader(error):
            raise
        raise ValueError(
            f"the model or the objective fails on a batch of shape {tuple(batch.shape)}: "
            f"{type(error).__name__}: {' '.join(str(error).split())}"
        ) from error
