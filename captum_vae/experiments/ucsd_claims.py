"""What is claimed about UCSD."""

from captum_vae.experiments.results import THIS_PACKAGE, Claim

CLAIMS = (
    Claim(
        "attention_beats_reconstruction",
        "Latent attention localizes anomalies better than the reconstruction error of a VAE: pixel "
        "AUROC 0.89 to 0.92 against 0.86.",
        "Liu et al. 2020, quoted in replication b, section 4.2",
    ),
    Claim(
        "conv2_is_best",
        "Of the three convolutions, the second localizes best.",
        "Liu et al. 2020 (0.92) and replication b (0.63 to 0.80), section 4.2",
    ),
    Claim(
        "paper_figure",
        "Latent attention at the second convolution reaches pixel AUROC 0.92 on UCSD Ped1.",
        "Liu et al. 2020, quoted in replication b, section 4.2",
    ),
    Claim(
        "attention_below_reconstruction",
        "Latent attention does not reach the reconstruction error of the same VAE: 0.52 to 0.80 "
        "against 0.82.",
        "Replication a (summary) and replication b, sections 4.2 and 4.4",
    ),
    Claim(
        "method_1_above_method_2",
        "Method 1, a map per latent dimension, localizes better than method 2, the map of the "
        "summed mean, at every layer and with either rectifier.",
        "Replication b, section 4.2",
    ),
    Claim(
        "masks_down_scores_higher",
        "Shrinking the masks to the layer's size gives higher scores than enlarging the maps.",
        "Replication b, section 4.2",
    ),
    Claim(
        "ours_beats_reconstruction",
        "With a baseline, and chosen without test labels, latent attention localizes better than "
        "the reconstruction error under the same smoothing.",
        THIS_PACKAGE,
    ),
    Claim(
        "ours_beats_mean_image",
        "With a baseline, and chosen without test labels, latent attention localizes better than "
        "the distance to the mean normal frame under the same smoothing.",
        THIS_PACKAGE,
    ),
    Claim(
        "weights_beat_control",
        "With a baseline, and chosen without test labels, latent attention localizes better than "
        "the same feature difference without latent weights.",
        THIS_PACKAGE,
    ),
    Claim(
        "unscaled_beats_reconstruction",
        "Not scaled by location, which was ruled out after looking at test clips, it localizes "
        "better than the reconstruction error under the same smoothing.",
        THIS_PACKAGE,
    ),
    Claim(
        "unscaled_beats_control",
        "Not scaled by location, it localizes better than the same feature difference without "
        "latent weights.",
        THIS_PACKAGE,
    ),
)
