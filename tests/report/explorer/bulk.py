"""5,000 images of 32 dimensions: ``python -m tests.report.explorer.bulk FOLDER [COUNT]``.

With ``--thresholds`` every image has an anomaly map and a mask besides.
"""

import json
import resource
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from captum_vae.report.explorer import Explorer
from captum_vae.report.explorer.inputs import MapKey
from tests.report.explorer.pages import blob, photograph

DIMS = 32
SIDE = 64
MAP = 16


def write(folder: Path, count: int, *, thresholds: bool = False) -> dict[str, float]:
    """Write the page; seconds, and by how many MiB memory grew over the last nine tenths."""
    generator = torch.Generator().manual_seed(0)
    images = [photograph(seed, side=SIDE) for seed in range(50)]
    spots = torch.stack([blob(seed, side=MAP, width=3) for seed in range(200)])
    defects = [blob(seed, side=SIDE) for seed in range(50)]
    start, early = time.perf_counter(), 0
    with Explorer(folder, title=f"{count} images of {DIMS} dimensions") as page:
        for number in range(count):
            chosen = torch.randint(0, len(spots), (DIMS,), generator=generator)
            kl = torch.rand(DIMS, generator=generator)
            noise = torch.rand(DIMS, MAP, MAP, generator=generator)
            maps = (spots[chosen] + 0.2 * noise) * kl[:, None, None]
            picture = images[number % 50] + 0.05 * torch.rand(3, SIDE, SIDE, generator=generator)
            planes: dict[MapKey, Tensor] = {"latent Grad-CAM": maps}
            mask = None
            if thresholds:
                defect = defects[number % len(defects)]
                planes["anomaly map"] = defect + 0.3 * torch.rand(SIDE, SIDE, generator=generator)
                mask = defect > 0.6
            page.add(
                picture.clamp(0, 1),
                name=f"clip_{number // 200:02d}/{number:05d}.png",
                maps=planes,
                mask=mask,
                reconstruction=images[number % 50],
                kind=f"clip_{number // 200:02d}",
                error=float(noise.mean()),
                score=float(maps.max()),
                kl=kl,
            )
            if number == count // 10:
                early = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        late = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": time.perf_counter() - start, "grown": (late - early) / 1024}


if __name__ == "__main__":
    number = int(sys.argv[2]) if len(sys.argv) > 2 else 5000
    found = write(Path(sys.argv[1]), number, thresholds="--thresholds" in sys.argv)
    print(json.dumps(found))
