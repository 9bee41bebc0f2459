"""The explorer of 5,000 images and 32 dimensions in a browser: opening, and frames in use.

    python -m benchmarks.explorer_pages [--images 5000] [--out docs/results/explorer_pages.json]

Writes a synthetic page (32 maps per dimension and a thresholded map an image, tests/report/explorer
/bulk.py) and opens it in headless Chromium from the file system. Each use of it is one input event
a frame, as a hand on a slider or a wheel gives them: two seconds of scrolling through the cards, of
the threshold, the opacity and the dimensions, and of letters typed into the name filter. A frame is
the time from one ``requestAnimationFrame`` to the next; each use is repeated, and the smoothest
repetition is told beside the median one, since other work on the machine lengthens frames; what
that does not lengthen is the processor time of the page's main thread, also told for each frame.
"Idle" does nothing, and tells what the machine allows.
Headless Chromium draws without a GPU, on the processor.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

from captum_vae.files import write_json
from captum_vae.provenance import Code, run_record
from tests.report.explorer import browser

SECONDS = 2.0
REPETITIONS = 3
LONG = 50.0
"""Milliseconds of a frame that is felt; browsers call more than that a long task."""

FRAMES = """
const [use, seconds, done] = [arguments[0], arguments[1], arguments[2]];
const grid = document.querySelector('.grid');
const slide = (id, value) => {
  const input = document.getElementById(id);
  input.value = Number(input.min) + value * (input.max - input.min);
  input.dispatchEvent(new Event('input', { bubbles: true }));
};
const choose = (id, value) => {
  const input = document.getElementById(id);
  if (input.selectedIndex < 0) return;
  input.selectedIndex = Math.floor(value * (input.options.length - 1));
  input.dispatchEvent(new Event('change', { bubbles: true }));
};
const USES = {
  idle: () => {},
  scrolling: (share) => { grid.scrollTop += 60; },
  'flying to the end': (share) => { grid.scrollTop = share * grid.scrollHeight; },
  threshold: (share) => slide('threshold', 0.2 + 0.6 * share),
  opacity: (share) => slide('opacity', share),
  dimension: (share) => choose('dim', share),
  'name filter': (share) => {
    const input = document.getElementById('name');
    input.value = String(Math.floor(share * 20)).padStart(2, '0').slice(0, 1 + (share * 40) % 2);
    input.dispatchEvent(new Event('input', { bubbles: true }));
  },
};
const frames = [];
let first = null, before = null;
function frame(now) {
  if (before !== null) frames.push(now - before);
  first = first ?? now;
  before = now;
  const share = (now - first) / (1000 * seconds);
  if (share >= 1) { done(frames); return; }
  USES[use](share);
  requestAnimationFrame(frame);
}
requestAnimationFrame(frame);
"""

USES = {
    "idle": "",
    "scrolling": "",
    "flying to the end": "",
    "threshold": "map: anomaly map",
    "opacity": "map: anomaly map",
    "dimension": "map: latent Grad-CAM",
    "name filter": "",
}
"""What is done to the page, and the map that is looked at meanwhile."""


def measure(driver: Any, page: Path, use: str, shown: str) -> list[dict[str, float]]:
    """Frames of every repetition of one use on a page that was opened anew, the smoothest first."""
    found = []
    browser.show(driver, page)
    browser.ready(driver)
    if shown:
        driver.execute_script(
            "const input = document.getElementById('map');"
            "input.value = arguments[0]; input.dispatchEvent(new Event('change'));",
            shown.removeprefix("map: "),
        )
        browser.settled(driver)
    for _ in range(REPETITIONS):
        driver.set_script_timeout(60)
        before = processor_seconds(driver)
        frames = driver.execute_async_script(FRAMES, use, SECONDS)
        busy = processor_seconds(driver) - before
        found.append(
            {
                "frames": len(frames),
                "processor_ms_per_frame": round(1000 * busy / len(frames), 2),
                "median_ms": round(median(frames), 1),
                "longest_ms": round(max(frames), 1),
                "share_over_50_ms": round(sum(f > LONG for f in frames) / len(frames), 4),
            }
        )
    return sorted(found, key=lambda run: (run["share_over_50_ms"], run["longest_ms"]))


def processor_seconds(driver: Any) -> float:
    """Processor time of the page's main thread so far: scripts, styles, layout and painting."""
    driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    metrics = driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return float(next(m["value"] for m in metrics if m["name"] == "ThreadTime"))


def opening(driver: Any, page: Path) -> list[float]:
    """Seconds from the address to the drawn page, the quickest of the repetitions first."""
    seconds = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        browser.show(driver, page)
        browser.ready(driver)
        seconds.append(round(time.perf_counter() - start, 3))
    return sorted(seconds)


def main() -> None:
    """Write the page unless ``--page`` names one, use it, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5000, help="images on the page")
    parser.add_argument("--page", type=Path, help="a folder in which the page is kept")
    parser.add_argument("--out", type=Path, help="JSON file of the results")
    options = parser.parse_args()
    code = Code.now()
    with tempfile.TemporaryDirectory() as new:
        folder = options.page or Path(new) / "page"
        if not (folder / "written.json").is_file():
            command = [sys.executable, "-m", "tests.report.explorer.bulk", str(folder)]
            command += [str(options.images), "--thresholds"]
            run = subprocess.run(command, capture_output=True, text=True, check=True)
            (folder / "written.json").write_text(run.stdout.splitlines()[-1])
        files = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
        with browser.opened() as driver:
            page = folder / "index.html"
            found: dict[str, Any] = {
                **run_record(torch.device("cpu"), seed=0, code=code),
                "browser": "{browserName} {browserVersion}".format(**driver.capabilities),
                "images": options.images,
                "written": json.loads((folder / "written.json").read_text()),
                "bytes_per_image": round(sum(files) / options.images),
                "opening_seconds": opening(driver, page),
                "uses": {},
            }
            for use, shown in USES.items():
                runs = measure(driver, page, use, shown)
                found["uses"][use] = {"best": runs[0], "median": runs[len(runs) // 2]}
                print(f"{use}: {found['uses'][use]}", flush=True)
            found["errors"] = browser.errors(driver)
    print({k: found[k] for k in ("bytes_per_image", "opening_seconds", "written", "errors")})
    if options.out:
        write_json(options.out, found)


if __name__ == "__main__":
    main()
