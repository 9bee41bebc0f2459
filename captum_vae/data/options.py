"""Words of the data sets' options, which the command line lists without loading torch."""

from typing import Literal, TypeAlias

Visibility: TypeAlias = Literal["whole", "patchy"]
"""Whether a painted defect shows everywhere on its area, or fades in and out."""

DefectMasks: TypeAlias = Literal["changed", "outlined"]
"""Whether a painted defect's mask holds the changed pixels, or an outline around them."""
