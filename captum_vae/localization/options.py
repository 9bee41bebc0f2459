"""Words of the scorers' options, which the command line lists without loading torch."""

from typing import Literal

Baseline = Literal["none", "reconstruction", "mean_activation", "mean_image"]
"""What the features are compared with: nothing, or the features of one of these."""

ScoreScale = Literal["none", "location"]
"""Whether maps are divided by their root mean square over normal images at each location."""
