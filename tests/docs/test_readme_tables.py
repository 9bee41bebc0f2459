"""The README's tables are those that ``python docs/_ext/readme.py`` makes of docs/results."""

import sys
from pathlib import Path

import pytest

from tests.docs.blocks import DOCS, ROOT

pytest.importorskip("sphinx")

sys.path.insert(0, str(DOCS / "_ext"))
import readme  # noqa: E402

BLOCKS = readme.tables()
NO_BREAK = "\N{NO-BREAK SPACE}"


def row(name: str, value: float, low: float, high: float) -> dict:
    return {
        "name": name,
        "images": 7,
        "scores": {"auroc": {"value": value}},
        "intervals": {"auroc": {"low": low, "high": high}},
    }


@pytest.fixture
def evaluation() -> dict:
    values = {
        readme.OURS: 0.9,
        readme.CONTROL: 0.91,
        "reconstruction error": 0.8,
        "mean image": 0.9,
        "as published, method 1": 0.4,
        "as published, method 2": 0.6,
    }
    tests = {
        readme.CONTROL: (-0.02, -0.001),
        "reconstruction error": (0.05, 0.15),
        "mean image": (-0.01, 0.01),
        "as published, method 1": (0.45, 0.55),
        "as published, method 2": (0.25, 0.35),
    }
    return {
        "rows": [row(name, value, value - 0.05, value + 0.05) for name, value in values.items()],
        "differences": {
            f"{readme.OURS} - {other}": {"low": low, "high": high, "units": 3}
            for other, (low, high) in tests.items()
        },
    }


@pytest.mark.parametrize("name", BLOCKS)
def test_the_readme_holds_what_the_script_makes_of_the_results(name: str) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = f"<!-- {name}:begin -->\n{BLOCKS[name]}\n<!-- {name}:end -->\n"
    assert block in text, "run: python docs/_ext/readme.py"


@pytest.mark.parametrize("kind", ["speed", "localization", "reproduce"])
def test_every_file_of_a_kind_is_in_the_tables(kind: str) -> None:
    expected = {path.name for path in (DOCS / "results").glob(f"{kind}_*.json")}
    found = {f"{kind}_{name}.json" for name, _ in readme.stored(kind)}
    assert found == expected != set()


def test_a_star_marks_what_the_paired_test_tells_apart(evaluation: dict) -> None:
    line = readme.localization({"bottle": evaluation}).splitlines()[2].replace(NO_BREAK, " ")
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == [
        "[MVTec AD bottle](docs/results/localization_bottle.json)",
        "7 in 3 clips",
        "0.900 [0.850, 0.950]",
        "0.910* [0.860, 0.960]",
        "0.800* [0.750, 0.850]",
        "0.900 [0.850, 0.950]",
        "0.600* [0.550, 0.650]",
    ]


def test_a_data_set_without_a_title_is_listed_last_by_its_files_name(evaluation: dict) -> None:
    lines = readme.localization({"another": evaluation, "ped2": evaluation}).splitlines()[2:]
    assert [line.split("]")[0] for line in lines] == ["| [UCSD Ped2", "| [another"]


def test_frozen_features_stand_beside_controls_floor_and_peers_with_both_metrics() -> None:
    def scored(name: str, auroc: float, aupro: float) -> dict:
        found = row(name, auroc, auroc - 0.05, auroc + 0.05)
        found["scores"]["aupro"] = {"value": aupro}
        found["intervals"]["aupro"] = {"low": aupro - 0.1, "high": aupro + 0.1}
        return found

    told, untold = {"low": 0.1, "high": 0.2, "units": 7}, {"low": -0.1, "high": 0.2, "units": 7}
    others = list(readme.BESIDE)
    pairs = [f"{readme.DEFAULT} - {other}" for other in others]
    evaluation = {
        "rows": [scored(readme.DEFAULT, 0.9, 0.8), *(scored(o, 0.7, 0.6) for o in others)],
        "differences": dict.fromkeys(pairs, told),
        "aupro_differences": dict.fromkeys(pairs, untold),
    }
    costs = [{"map": name, "CPU ms per image": 2.0} for name in (readme.DEFAULT_MAP, *others)]
    lines = readme.features({"bottle": evaluation}, {"rows": costs}).replace(NO_BREAK, " ")
    _, _, line, cost = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines.splitlines()
    )
    assert line == [
        "[MVTec AD bottle](docs/results/localization_features_bottle.json)",
        "7",
        "0.900 [0.850, 0.950] / 0.800 [0.700, 0.900]",
        *["0.700* / 0.600"] * len(others),
    ]
    assert cost[2:] == ["2.0"] * (1 + len(others))


def reproduced_line(*verdicts: tuple[str, str], **facts: object) -> str:
    """The table's line of an experiment with these sources and verdicts."""
    claims = [{"source": source, "verdict": verdict} for source, verdict in verdicts]
    experiment = {"title": "Digits", "scale": "cpu", "claims": claims, **facts}
    return readme.reproduced({"mnist": experiment}).splitlines()[2]


def test_published_claims_are_counted_apart_from_ours() -> None:
    line = reproduced_line(
        ("the paper", "refuted"),
        ("this package", "undecided"),
        ("replication b", "not testable here"),
        ("replication a", "confirmed"),
        ("this package", "confirmed"),
        ("the paper", "refuted"),
    )
    assert line == (
        "| [Digits](docs/results/reproduce_mnist.json) | cpu | – "
        "| 1 confirmed, 2 refuted, 1 not testable here | 1 confirmed, 1 undecided |"
    )


def test_an_experiment_without_claims_of_ours_has_a_dash_there() -> None:
    assert reproduced_line(("the paper", "confirmed")).endswith("| 1 confirmed | – |")


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0.0025, "0.25%"), (0.037736, "3.77%"), (1.0, "100%"), (1e-5, "0.001%"), (None, "–")],
)
def test_the_share_of_the_published_training_is_shown(share: float | None, shown: str) -> None:
    line = reproduced_line(("the paper", "confirmed"), training_share=share)
    assert f" | cpu | {shown} | " in line


def test_the_script_rewrites_only_what_stands_between_markers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "README.md"
    old = "".join(f"<!-- {name}:begin -->\nold\n<!-- {name}:end -->\nkept\n" for name in BLOCKS)
    page.write_text(old)
    monkeypatch.setattr(readme, "README", page)
    readme.main()
    new = page.read_text()
    assert new.count("kept\n") == len(BLOCKS) and "old" not in new
    assert all(block in new for block in BLOCKS.values())
