"""``captum-vae disentangle``: the disentanglement scores of a checkpoint on dSprites."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from captum_vae.training.configuration import PruneRule, ScoreName, VoteProtocolName


def disentangle(
    checkpoint: str,
    *,
    npz: str | None = None,
    metrics: Sequence[ScoreName] = get_args(ScoreName),
    protocol: VoteProtocolName = "paper",
    samples: int = 50_000,
    prune: PruneRule = "std",
    seed: int = 0,
    device: str = "auto",
    report_json: str | None = None,
    figure: str | None = None,
    layer: str | None = None,
) -> None:
    """Score how disentangled a trained VAE is, on dSprites, and show its latent dimensions.

    Args:
        checkpoint: A checkpoint, or a run's folder, whose newest one is taken.
        npz: The original dSprites file, or a part of it; by default the images are drawn.
        metrics: Scores to compute: factor_vae, beta_vae, mig, dci, sap, modularity.
        protocol: How many votes factor_vae and beta_vae take: paper (100 samples, 800 and 800
            votes), publish (5000 evaluation votes) or dlib (64 samples, 10000 and 5000 votes).
        samples: Number of random images to encode.
        prune: By what a dimension is left out of the vote: std of its mean (below 0.05, as
            published), or kl (up to 0.01 nats).
        seed: Seed of the images drawn and of the votes.
        device: Where the model runs: auto, cpu, or a CUDA device such as cuda:0.
        report_json: File for the report; by default disentanglement.json beside the checkpoint.
        figure: PNG file for latent traversals beside attention maps; none by default.
        layer: Encoder layer of these maps; by default its last convolution.

    Raises:
        FileNotFoundError: There is no checkpoint, or no npz file.
        ValueError: The checkpoint is of another kind, a layer is not there, or an option is out of
            range.
    """
    import torch

    from captum_vae.data import DSprites
    from captum_vae.data.dsprites_factors import FACTOR_NAMES
    from captum_vae.files import check_writable, write_json
    from captum_vae.provenance import run_record
    from captum_vae.training.checkpoint import find_checkpoint, read_checkpoint
    from captum_vae.training.devices import chosen_device
    from captum_vae.training.load import load_vae
    from captum_vae.training.logs import say
    from captum_vae.training.model_scores import score_model

    if device == "auto":
        device = str(chosen_device("auto"))
    path = find_checkpoint(checkpoint)
    for name, written in (("report_json", report_json), ("figure", figure)):
        if written is not None:
            check_writable(written, name)
    state = read_checkpoint(path)
    model: Any = load_vae(path, device=device)
    data = DSprites() if npz is None else DSprites.from_npz(npz)
    scores = score_model(
        model,
        data,
        metrics=metrics,
        protocol=protocol,
        samples=samples,
        prune=prune,
        seed=seed,
        device=device,
        progress="auto",
    )
    report = {
        **run_record(torch.device(device)),
        "checkpoint": path.name,
        "posterior_read_by": scores.posterior,
        "step": state["step"],
        "model": {"name": state["model"]["name"], "config": state["model"]["config"]},
        "training": state["settings"],
        "data": {"name": "dsprites", "images": len(data), "drawn": npz is None},
        "factors": list(FACTOR_NAMES),
        "protocol": {"votes": protocol, "samples": samples, "prune": prune, "seed": seed},
        **scores.to_dict(),
    }
    target = Path(report_json) if report_json else path.with_name("disentanglement.json")
    write_json(target, report)
    say(scores.table())
    if figure is not None:
        # Drawing needs matplotlib, which scores alone do not.
        from captum_vae.report.pictures import save_picture
        from captum_vae.training.traversal_figure import draw_informative_dimensions

        save_picture(draw_informative_dimensions(model, data, scores.active, layer=layer), figure)
    say(f"report in {target}" + (f", figure in {figure}" if figure else ""))
