"""What an exported file can be and give, in words that are importable without torch."""

from __future__ import annotations

from typing import Literal, get_args

Format = Literal["onnx", "torch"]
"""``onnx`` for onnxruntime and whatever else reads ONNX; ``torch`` for ``torch.export.load``."""

Output = Literal["maps", "mean", "log_variance", "reconstruction"]
OUTPUTS: tuple[Output, ...] = get_args(Output)
