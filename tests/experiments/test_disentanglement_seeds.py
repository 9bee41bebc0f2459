"""Paired seeds: the comparison against numbers worked out by hand, and a run of a few steps."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from captum_vae.commands.main import main
from captum_vae.experiments.seed_comparison import compare, comparison_table
from captum_vae.experiments.seed_run import SeedRun
from captum_vae.experiments.seed_runs import Execution, run_experiments
from captum_vae.experiments.work import write_record
from captum_vae.files import DamagedFileError
from captum_vae.training import load_vae


def row(variant: str, seed: int, score: float) -> dict[str, object]:
    return {
        "variant": variant,
        "seed": seed,
        "factor_vae": score,
        "reconstruction_nats": 30.0,
        "kl_nats": 20.0,
        "active_dimensions": 5,
        "final_losses": {},
        "seconds": 1.0,
    }


SCORES = {"factorvae": [0.5, 0.7, 0.6], "paper": [0.6, 0.9, 0.6]}
RUNS = [
    row(variant, seed, s) for variant, scores in SCORES.items() for seed, s in enumerate(scores)
]


def test_paired_differences_have_the_interval_of_a_paired_t_test():
    # Differences .1, .2, 0: mean .1, std .1, and t(0.975, 2) = 4.30265 from a printed table.
    difference = compare(RUNS)["differences"]["paper"]["factor_vae"]
    half = 4.30265 * 0.1 / 3**0.5
    assert difference["n"] == 3
    assert difference["mean"] == pytest.approx(0.1)
    assert difference["std"] == pytest.approx(0.1)
    assert (difference["low"], difference["high"]) == pytest.approx(
        (0.1 - half, 0.1 + half), abs=1e-5
    )


def test_only_seeds_that_both_variants_have_are_paired():
    difference = compare(RUNS[:2] + RUNS[3:])["differences"]["paper"]["factor_vae"]
    assert difference["n"] == 2
    assert difference["mean"] == pytest.approx(0.15)


def test_one_seed_has_no_interval():
    result = compare([RUNS[0], RUNS[3]])
    assert result["differences"]["paper"]["factor_vae"]["low"] is None
    assert "+0.100 |" in comparison_table(result)


def test_the_table_shows_the_published_figures():
    table = comparison_table(compare(RUNS))
    assert "+0.100 [-0.148, +0.348]" in table
    assert "| published ad_factorvae | 0.91 |" in table


def finished(folder: Path) -> tuple[SeedRun, Path]:
    """A run that has finished with a score, and its result."""
    experiment = SeedRun("paper", 0, steps=9, batch_size=8, gamma=40.0)
    result = folder / experiment.name / "result.json"
    write_record(result, {"experiment": asdict(experiment), "row": {"mig": 0.5}})
    return experiment, result


def test_a_finished_run_is_kept_on_another_device_and_refused_with_other_settings(tmp_path: Path):
    experiment, _ = finished(tmp_path)
    assert run_experiments([replace(experiment, device="cuda")], tmp_path, Execution(1)) == [
        {"mig": 0.5}
    ]
    with pytest.raises(ValueError, match=r"other settings \(\{'rectifier': None\}\)"):
        run_experiments([replace(experiment, rectifier="abs")], tmp_path, Execution(1))


def test_a_damaged_result_is_named(tmp_path: Path):
    experiment, result = finished(tmp_path)
    result.write_text(result.read_text().replace("0.5", "0.6"))
    with pytest.raises(DamagedFileError, match=r"result.json .*checksum.*delete it"):
        run_experiments([experiment], tmp_path, Execution(1))


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--seeds=0", "--seeds 0 must be at least 1"),
        ("--first_seed=-1", "--first_seed -1 must be at least 0"),
        (f"--first_seed={2**70}", "--first_seed"),
        ("--processes=0", "--processes 0 must be at least 1"),
        ("--variants=[]", "variants is empty"),
    ],
)
def test_an_option_of_the_command_out_of_range_is_named(
    option: str, words: str, tmp_path: Path, capsys
):
    assert main(["disentangle-seeds", f"--out={tmp_path}", option]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("variant", "x"),
        ("seed", -1),
        ("steps", 0),
        ("steps", 1.5),
        ("batch_size", 0),
        ("gamma", float("nan")),
        ("weight", -1.0),
        ("aggregation", "median"),
        ("gate", "x"),
        ("latent_dims", True),
        ("learning_rate", 0.0),
        ("metrics", ("x",)),
        ("protocol", "x"),
        ("samples", 0),
        ("precision", "float64"),
        ("device", "tpu"),
        ("rectifier", "x"),
    ],
)
def test_a_run_that_cannot_be_scored_is_refused_before_it_trains(option: str, value: object):
    options = {"variant": "paper", "seed": 0, "steps": 9, "batch_size": 8, "gamma": 40.0}
    with pytest.raises((ValueError, TypeError), match=f"{option}="):
        SeedRun(**{**options, option: value})


@pytest.fixture(scope="module")
def arguments() -> list[str]:
    small = {"steps": 2, "batch_size": 4, "samples": 300, "latent_dims": 4, "processes": 1}
    options = [f"--{name}={value}" for name, value in small.items()]
    return ["disentangle-seeds", "--seeds=1", "--metrics=[factor_vae]", *options]


@pytest.mark.slow
def test_variants_start_from_the_same_weights_and_finished_runs_are_kept(
    arguments, tmp_path: Path, capsys
):
    arguments = [*arguments, f"--out={tmp_path}", "--variants=[factorvae,replication]"]
    assert main(arguments) == 0
    first = json.loads((tmp_path / "results.json").read_text())
    logs = [
        json.loads((tmp_path / v / "seed_0" / "log.jsonl").read_text().splitlines()[-1])
        for v in ("factorvae", "replication")
    ]
    assert logs[0]["nll"] == pytest.approx(logs[1]["nll"], rel=1e-4)
    assert "attention_overlap" in logs[1] and "attention_overlap" not in logs[0]
    (checkpoint,) = (tmp_path / "factorvae" / "seed_0" / "checkpoints").iterdir()
    assert checkpoint.stat().st_size < 3e6
    assert load_vae(checkpoint).config["latent_dims"] == 4
    assert main(arguments) == 0
    assert "2 of 2 runs are done" in capsys.readouterr().err
    assert json.loads((tmp_path / "results.json").read_text())["runs"] == first["runs"]
    assert main([*arguments, "--gamma=20"]) == 2
    assert "holds a run with other settings ({'gamma': 40.0})" in capsys.readouterr().err


@pytest.mark.slow
def test_stacked_seeds_find_what_single_ones_find(arguments, tmp_path: Path):
    rows = []
    for name, options in {"single": [], "stacked": ["--stacked", "--save_every=1"]}.items():
        out = f"--out={tmp_path / name}"
        assert main([*arguments, "--seeds=2", "--variants=[paper]", out, *options]) == 0
        rows.append(json.loads((tmp_path / name / "results.json").read_text())["runs"])
    for single, stacked in zip(*rows, strict=True):
        for quantity in ("seed", "factor_vae", "reconstruction_nats", "kl_nats"):
            assert stacked[quantity] == pytest.approx(single[quantity], rel=1e-4)


def test_a_cuda_graph_is_refused_where_runs_are_not_stacked_on_a_gpu(tmp_path: Path, capsys):
    assert main(["disentangle-seeds", f"--out={tmp_path}", "--cuda_graph=on"]) == 2
    assert "needs --stacked and --device cuda" in capsys.readouterr().err
