"""How much each latent dimension of a VAE says about its input, as a bar chart."""

from __future__ import annotations

from matplotlib.figure import Figure

from captum_vae.metrics.activity import ActiveDimensions
from captum_vae.report.pictures import literal

ACTIVE, INACTIVE = "#3b528b", "#c9c9c9"


def draw_active_dimensions(active: ActiveDimensions) -> Figure:
    """KL to the prior and spread of the mean per dimension, most informative first.

    Args:
        active: The statistics of the model on the data to be explained.
    """
    order = active.kl.argsort(descending=True).tolist()
    colors = [ACTIVE if active.active[dim] else INACTIVE for dim in order]
    figure = Figure(figsize=(9.6, 3.6), facecolor="white", layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    panels = (
        (upper, active.kl, active.kl_threshold, "KL to the prior\n[nats]"),
        (lower, active.std, active.std_threshold, "std of the\nposterior mean"),
    )
    for axes, values, threshold, label in panels:
        axes.bar(range(len(order)), [float(values[dim]) for dim in order], color=colors)
        axes.axhline(threshold, color="#b5367a", linewidth=1, linestyle="--")
        axes.set_ylabel(label, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    upper.set_title(
        f"{active.count} of {len(order)} latent dimensions are active on {active.images} images: "
        f"KL > {active.kl_threshold:g} and std > {active.std_threshold:g} (dashed)",
        fontsize=10,
        loc="left",
    )
    lower.set_xticks(range(len(order)), [str(dim) for dim in order])
    lower.set_xlim(-0.6, len(order) - 0.4)
    lower.set_xlabel("latent dimension, by KL; grey: inactive", fontsize=9)
    return literal(figure)
