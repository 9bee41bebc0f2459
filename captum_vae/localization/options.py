"""Words of the options of scorers and protocol, which a command lists without loading torch."""

from typing import Literal

Frames = Literal["all", "anomalous", "with_masks"]
"""Which test images count."""

ComparisonSize = Literal["mask", "map"] | tuple[int, int]
"""At which size maps and masks are compared: the mask's, the map's, or (H, W)."""

ThresholdSource = Literal["train_quantile", "oracle"]
"""Where the threshold comes from: normal training images, or the test labels."""

Baseline = Literal["none", "reconstruction", "mean_activation", "mean_image", "explained"]
"""What the features are compared with: nothing, the features of one of these, or what a linear
latent has explained of them."""

FeatureDistance = Literal["l1", "l2", "mahalanobis", "l2_or_mahalanobis"]
"""What is made of the differences of a place's channels."""

RESIDUAL_DISTANCE: FeatureDistance = "l2_or_mahalanobis"
"""The distance of the explained residual that is the default, of a choice without labels and of a
detector on a frozen encoder."""

ChannelScale = Literal["none", "normal"]
"""Whether each channel's difference is divided by its root mean square over normal images."""

Weights = Literal["latent", "shuffled"]
"""Whether channels keep the weights of the latent, or get those of other channels."""

ScoreScale = Literal["none", "location", "shrunk"]
"""What maps are divided by: nothing, their root mean square over normal images at each location, or
the mean of that and of its average over all locations."""
