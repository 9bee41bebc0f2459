"""Serve an exported detector with onnxruntime, NumPy and Pillow alone: no torch, no captum_vae.

Where the detector was made:

    captum-vae detect --images good/ --backbone resnet18 --out detector
    python -c "from captum_vae import AnomalyDetector as D; D.load('detector').export('d.onnx')"

and where it is used, after ``pip install onnxruntime numpy pillow``:

    python serve_detector.py d.onnx new/*.png
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image


def open_detector(path):
    """The session, and what the file says of itself: size, channels, threshold, alpha."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map
    numbers = ("image_size", "channels", "pixel_threshold", "alpha")
    return session, {name: json.loads(about[name]) for name in numbers}


def read(path, about):
    """An image as the detector takes it: (C, H, W) float32 from 0 to 1, resized as in training."""
    height, width = about["image_size"]
    image = Image.open(path).convert("L" if about["channels"] == 1 else "RGB")
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.float32) / 255
    return pixels[None] if about["channels"] == 1 else pixels.transpose(2, 0, 1)


def main(model, paths):
    """Print a line per image: verdict, p-value, score and share of anomalous pixels."""
    session, about = open_detector(model)
    names = [output.name for output in session.get_outputs()]
    for path in paths:
        given = {"image": read(path, about)[None]}
        found = dict(zip(names, session.run(names, given), strict=True))
        verdict = "anomalous" if found["anomalous"][0] else "normal"
        print(
            f"{verdict}\t{found['p_value'][0]:.6g}\t{found['score'][0]:.6g}\t"
            f"{found['area'][0]:.4%}\t{path}"
        )


if __name__ == "__main__":
    if len(sys.argv) < 3:
        print(__doc__)
    else:
        main(sys.argv[1], sys.argv[2:])
