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
from captum_vae.localization import LatentAttention, Protocol, ReconstructionError, benchmark
from captum_vae.losses import ELBO
from captum_vae.models import ConvVAE
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
    scorers = {
        "reconstruction error": ReconstructionError(vae),
        "latent attention, from the mean activation": LatentAttention(
            vae, "encoder.conv2", rectifier="abs", order="channelwise", baselines="mean_activation"
        ),
    }
    # Each process scores its share of the images; all get the numbers of the whole set.
    evaluation = benchmark(scorers, normal, test, protocol=Protocol(smoothing=2.0), progress="off")
    if result.is_first_process:
        processes = dist.get_world_size() if dist.is_initialized() else 1
        print(f"{processes} process(es) scored {evaluation.rows[0].pixel.images} images")
        print(f"checkpoints in {out}")
        print(f"{result.active.count} of {result.active.kl.numel()} latent dimensions are active")
        print(evaluation)


if __name__ == "__main__":
    main()
