"""Training and scoring on one process or on many: the same program, started by torchrun.

    python examples/scaling_out.py
    torchrun --nproc-per-node 2 examples/scaling_out.py

Every process trains on its share of each batch and scores its share of the test images; the counts
behind the metrics are added up, so that the table is that of all images, whoever scored them.
(Two trainings differ a little: each process draws the latent's noise for its own images.)
"""

import argparse
import os
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist

from captum_vae.data import MovingPedestrians
from captum_vae.localization import (
    Chosen,
    LatentAttention,
    NormalImages,
    Protocol,
    ReconstructionError,
    Row,
    aligned,
    fit_rows,
    layers_of,
    load,
    measure_rows,
    text_table,
)
from captum_vae.losses import ELBO
from captum_vae.models import ConvVAE
from captum_vae.posterior import as_adapter
from captum_vae.training import Trainer, VAEObjective
from captum_vae.training.initialization import standardize_encoder

SIZE = 64


def main() -> None:
    """Train, score, print from the first process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--out", type=Path, default=None, help="folder of the run")
    options = parser.parse_args()
    # All processes must name the same folder; torchrun gives them a port in common.
    port = os.environ.get("MASTER_PORT", str(os.getpid()))
    out = options.out or Path(tempfile.gettempdir()) / f"scaling_out_{port}"

    torch.manual_seed(0)
    vae = ConvVAE(16, image_size=SIZE, channels=(16, 32, 64), hidden=128)
    normal = MovingPedestrians("train", clips=4, frames=20, image_size=SIZE)
    # Frames of a static camera look alike; scaling the layers on them keeps the posterior alive.
    standardize_encoder(vae, torch.stack([sample.image for sample in normal]))
    objective = VAEObjective(ELBO("optimal_gaussian", warmup_steps=30))
    trainer = Trainer(steps=options.steps, batch_size=options.batch_size)
    result = trainer.fit(vae, normal, objective, out=out, resume="never")

    vae.eval()
    test = MovingPedestrians("test", clips=4, frames=20, image_size=SIZE)
    rank, processes = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    own = list(range(rank, len(test), processes))
    protocol = Protocol(smoothing=2.0)
    scorers = {
        "reconstruction error": ReconstructionError(vae),
        "latent attention, from the mean activation": LatentAttention(
            vae, "encoder.conv2", rectifier="abs", order="channelwise", baselines="mean_activation"
        ),
    }
    rows = [Row(name, scorer, protocol) for name, scorer in scorers.items()]
    loader = load(normal, 16)
    fit_rows(
        rows, NormalImages(loader, vae, as_adapter(vae), layers_of(rows), device=result.device)
    )
    evaluation = measure_rows(rows, load(Chosen(test, own), 16), device=result.device, indices=own)
    if result.is_first_process:
        scored = evaluation.rows[0].pixel
        print(f"{processes} process(es); {len(own)} of {scored.images} images scored by the first")
        print(f"checkpoints in {out}")
        print(f"{result.active.count} of {result.active.kl.numel()} latent dimensions are active")
        print(f"protocol: {protocol}")
        print(aligned(*text_table(evaluation)))


if __name__ == "__main__":
    main()
