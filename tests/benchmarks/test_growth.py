"""The growth benchmarks: slopes by hand, costs of a child process, counts known beforehand."""

import json
import mmap

import pytest

from benchmarks.growth import files, pixels
from benchmarks.growth.__main__ import main
from benchmarks.growth.measuring import in_child, slope, slopes
from benchmarks.growth.page import markdown

pytestmark = pytest.mark.filterwarnings("ignore::captum_vae.posterior.CollapsedPosteriorWarning")


def test_a_power_has_its_exponent_as_slope():
    assert slope([1, 10, 100], [5, 500, 50_000]) == pytest.approx(2)
    assert slope([10, 1000], [7, 7]) == pytest.approx(0)


def test_one_point_or_no_cost_has_no_slope():
    assert slope([10], [1]) is None
    assert slope([10, 100], [0, 1]) is None


def test_the_largest_three_sizes_are_fitted_by_themselves():
    costs = {1: 1.0, 10: 1.0, 100: 10.0, 1000: 100.0, 10_000: 1000.0}
    rows = [
        {"series": "a", "size": size, "cpu_seconds": cost, "peak_mb": 3.0}
        for size, cost in costs.items()
    ]
    (found,) = slopes(rows, {"a": 1.0})
    assert found["cpu_seconds_last_three"] == 1
    # Least squares of 0, 0, 1, 2, 3 at 0 to 4: the sum of (x - 2) y is 8, that of (x - 2)^2 is 10.
    assert found["cpu_seconds_all"] == 0.8
    assert found["peak_mb_all"] == 0


def test_a_child_tells_its_memory_and_its_seconds():
    def work():
        # Not from the heap, which may still hold what other tests have freed.
        held = mmap.mmap(-1, 64 * 2**20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        held[:: mmap.PAGESIZE] = b"x" * (len(held) // mmap.PAGESIZE)
        return {"held": len(held) // 2**20, "sum": sum(range(2_000_000))}

    found = in_child(work)
    assert found["held"] == 64
    assert 60 < found["peak_mb"] < 90
    assert found["cpu_seconds"] > 0


def test_a_child_that_fails_is_an_error(capfd):
    def work():
        raise KeyError("nothing there")

    with pytest.raises(RuntimeError, match="failed"):
        in_child(work)
    assert "nothing there" in capfd.readouterr().err


@pytest.mark.parametrize(("images", "processes"), [(1, 1), (9, 1), (9, 5)])
def test_known_counts_are_found(images, processes):
    found = pixels.known_counts(images, processes, stride=64)
    assert found["equal_to_arithmetic"]
    assert found["normal"] == images * processes * 2**14


def test_counts_that_are_off_by_one_are_told(monkeypatch):
    right = pixels.PixelMetrics.compute

    def wrong(self):
        result = right(self)
        result.counts.false_positives[3] += 1
        return result

    monkeypatch.setattr(pixels.PixelMetrics, "compute", wrong)
    assert pixels.known_counts(1, stride=64)["different"] == ["false_positives"]


def test_a_folder_has_as_many_images_as_asked_for(tmp_path):
    files.make_folder(tmp_path, 5123, side=4, mode="L")
    assert sum(1 for _ in tmp_path.rglob("*.png")) == 5123
    assert len(files.list_images(tmp_path).images) == 5123


@pytest.mark.parametrize("subject", ["attribution", "evaluation", "pixels", "files"])
def test_a_small_run_writes_what_the_manual_shows(subject, tmp_path):
    main([subject, "--smoke", "--out", str(tmp_path / "found.json")])
    found = json.loads((tmp_path / "found.json").read_text())
    drawn = []
    page = markdown(found, lambda chart, table: drawn.append((chart, table)) or "a chart")
    assert len(drawn) == page.count("a chart") == 2 * len(found["growths"])
    for growth in found["growths"]:
        assert growth["title"] in page
        for row in growth["rows"]:
            assert row["cpu_seconds"] > 0
            assert row.get("equal_to_arithmetic", True)


@pytest.mark.slow
@pytest.mark.parametrize("subject", ["prediction", "processes"])
def test_a_small_run_of_the_commands_writes_its_file(subject, tmp_path):
    main([subject, "--smoke", "--out", str(tmp_path / "found.json")])
    (growth,) = json.loads((tmp_path / "found.json").read_text())["growths"]
    assert all(row.get("same_counts_as_one", True) for row in growth["rows"])
