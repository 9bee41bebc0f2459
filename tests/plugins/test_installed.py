"""Third parties' distributions, installed into a fresh environment and used from the command line.

The environment sees the packages of the one that runs the tests; only the plugins are its own.
"""

import json
import shutil
import site
import subprocess
import sys
import textwrap
import venv
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
DISTRIBUTIONS = ("sample", "broken", "duplicate")

pytestmark = pytest.mark.slow

DRIVER = """
    import contextlib, io, json, sys
    from captum_vae.commands.main import main

    outcomes = {}
    for name, arguments in json.load(open(sys.argv[1])).items():
        printed, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
            status = main(arguments)
        outcomes[name] = [status, printed.getvalue(), errors.getvalue()]
    json.dump(outcomes, open(sys.argv[2], "w"))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of a fresh environment into which all three distributions are installed."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder / "environment", with_pip=False)
    interpreter = folder / "environment" / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = subprocess.check_output([interpreter, "-c", where], text=True).strip()
    parents = [*site.getsitepackages(), site.getusersitepackages()]
    lines = [f"import site; site.addsitedir({parent!r})\n" for parent in parents]
    Path(packages, "parents.pth").write_text("".join(lines))
    # A build writes beside its sources.
    sources = [shutil.copytree(HERE / name, folder / name) for name in DISTRIBUTIONS]
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    pip = [sys.executable, "-m", "pip", "--python", str(interpreter), "install", *options]
    subprocess.run([*pip, *map(str, sources)], check=True)
    return interpreter


@pytest.fixture(scope="module")
def outcomes(python, tmp_path_factory):
    """Status, output and errors of every command, run one after another in the environment."""
    folder = tmp_path_factory.mktemp("work")
    images = np.random.default_rng(0).random((2, 16, 16)).astype("float32")
    np.save(folder / "images.npy", images)
    squares = {"name": "sample_squares"}
    anomalous = {"name": "sample_squares", "options": {"anomalous": True}}
    fit = {
        "data": squares,
        "objective": {"likelihood": "bernoulli"},
        "trainer": {"steps": 3, "batch_size": 4, "accelerator": "cpu", "progress": "off"},
    }

    def options(values):
        return [f"--{key}={json.dumps(value)}" for key, value in values.items()]

    def explain(model, out, *arguments):
        named = ["--model", model, "--images", "images.npy", "--out", out, "--device", "cpu"]
        return ["explain", *named, *arguments]

    def evaluate(scorer, out):
        given = {"normal": squares, "test": anomalous, "scorers": {"own": {"name": scorer}}}
        plain = ["--protocol.smoothing", "0", "--report", "none", "--progress", "off"]
        source = ["--model.checkpoint", "run", "--accelerator", "cpu"]
        return ["evaluate", *options(given), *plain, *source, "--out", out]

    halves = ["--posterior", "sample_halves", "--layer", "body.0"]
    commands = {
        "plugins": ["plugins"],
        "info": ["info"],
        "fit": ["fit", *options({**fit, "model": {"name": "sample_linear"}}), "--out", "run"],
        "attribution": explain("run", "gradients", "--attribution", "sample_gradient"),
        "without": explain("captum_vae_sample:two_headed", "refused", "--layer", "body.0"),
        "posterior": explain("captum_vae_sample:two_headed", "halves", *halves),
        "scorer": evaluate("sample_brightness", "scored"),
        "broken": evaluate("broken", "unscored"),
        "twice": ["fit", *options({**fit, "model": {"name": "sample_twice"}}), "--out", "no"],
    }
    (folder / "commands.json").write_text(json.dumps(commands))
    (folder / "driver.py").write_text(textwrap.dedent(DRIVER))
    run = [str(python), "driver.py", "commands.json", "outcomes.json"]
    subprocess.run(run, cwd=folder, check=True, timeout=500)
    return folder, json.loads((folder / "outcomes.json").read_text())


def succeeded(outcomes, name):
    folder, results = outcomes
    status, printed, errors = results[name]
    assert status == 0, errors
    return folder, printed


def refused(outcomes, name):
    status, _, errors = outcomes[1][name]
    assert status == 2
    first, *candidates = errors.splitlines()
    assert first.startswith("captum-vae: error: ")
    assert all(line.startswith("    ") for line in candidates)
    return errors


def test_plugins_of_all_five_kinds_are_listed_with_their_distribution(outcomes):
    _, printed = succeeded(outcomes, "plugins")
    for name in ("gradient", "halves", "linear", "squares", "brightness"):
        line = next(line for line in printed.splitlines() if f"sample_{name}" in line)
        assert line.endswith("(captum-vae-sample)")


def test_a_model_and_a_data_set_are_trained_by_name(outcomes):
    folder, _ = succeeded(outcomes, "fit")
    protocol = json.loads((folder / "run" / "report.json").read_text())["protocol"]
    assert protocol["model"]["name"] == "sample_linear"
    assert protocol["data"]["images"] == 8 and protocol["data"]["shape"] == [1, 16, 16]


def test_an_attribution_explains_the_plugins_own_trained_model(outcomes):
    folder, _ = succeeded(outcomes, "attribution")
    with np.load(folder / "gradients" / "maps.npz") as arrays:
        maps = arrays["maps"]
    # The gradient of a linear map does not depend on the image.
    assert maps.shape == (2, 2, 16, 16) and np.array_equal(maps[0], maps[1])
    assert "sample_gradient" in (folder / "gradients" / "index.html").read_text()


def test_a_posterior_is_read_by_name_where_it_could_not_be_told(outcomes):
    assert "choose it with --posterior" in refused(outcomes, "without")
    folder, _ = succeeded(outcomes, "posterior")
    report = json.loads((folder / "halves" / "explain.json").read_text())
    assert "call='body'" in report["model"]["posterior_read_by"]
    assert report["dims"] == [0, 1, 2]


def test_a_scorer_and_a_data_set_are_evaluated_by_name(outcomes):
    folder, _ = succeeded(outcomes, "scorer")
    row, *_ = json.loads((folder / "scored" / "results.json").read_text())["rows"]
    # Every pixel of a square is brighter than any other.
    assert row["scores"]["auroc"]["value"] == 1.0


def test_a_broken_plugin_is_reported_and_only_its_own_use_fails(outcomes):
    _, printed = succeeded(outcomes, "plugins")
    line = next(line for line in printed.splitlines() if line.startswith("  broken"))
    assert "captum-vae-broken" in line and "RuntimeError: no licence for this machine" in line
    assert "no licence for this machine" in refused(outcomes, "broken")
    assert "scorers: 10 registered, FAILING: broken" in succeeded(outcomes, "info")[1]


def test_a_name_taken_twice_is_reported_with_both_distributions(outcomes):
    _, printed = succeeded(outcomes, "plugins")
    line = next(line for line in printed.splitlines() if line.startswith("  sample_twice"))
    for text in (line, refused(outcomes, "twice")):
        assert "captum-vae-sample" in text and "captum-vae-duplicate" in text
