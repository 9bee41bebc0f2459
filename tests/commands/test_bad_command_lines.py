"""Whatever is typed or fed in: exit status 2 and one line that names the option or the file."""

import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from captum_vae.commands.main import main
from tests.explain.own_models import SIDE

OWN = "tests.explain.own_models"
EXPLAIN = ["explain", "--model", f"{OWN}:conv_vae", "--device", "cpu"]
ON = [*EXPLAIN, "--images", "photos", "--layer", "encoder.conv2"]
ARRAY = [*EXPLAIN, "--layer", "encoder.conv2", "--images"]
FIT = ["fit", "--model.name", "conv", "--data.name", "digits", "--trainer.accelerator", "cpu"]
FIT = [*FIT, "--trainer.steps", "1", "--out", "run"]
EVALUATE = ["evaluate", "--model.factory", f"{OWN}:conv_vae", "--accelerator", "cpu"]
EVALUATE = [*EVALUATE, "--normal.name", "folder", "--test.name", "folder", "--out", "table"]
EVALUATE = [*EVALUATE, "--normal.root", "photos", "--test.root", "photos"]
SCORED = [*EVALUATE, "--scorers", "{error: {name: reconstruction_error}}"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of good and bad files, which no command line below changes."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "photos").mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(np.full((SIDE, SIDE), 7, np.uint8)).save(folder / "photos" / name)
    (folder / "empty").mkdir()
    (folder / "text").mkdir()
    (folder / "text" / "notes.txt").write_text("no image")
    (folder / "broken").mkdir()
    (folder / "broken" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    configurations(folder)
    arrays(folder)
    return folder


def configurations(folder):
    bomb = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    bomb += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    texts = {
        "bomb": "\n".join(bomb),
        "tabs": "trainer:\n\tsteps: 3\n",
        "twice": "out: a\nout: b\n",
        "nested_twice": "trainer: {steps: 1, steps: 2}\n",
        "list": "- 1\n- 2\n",
        "word": "hello",
        "number": "3",
        "nothing": "# only a comment\n",
        "open": "trainer: {steps: 1\n",
        "unknown": "trainer: {stesp: 1}\n",
        "wrong_type": "trainer: {steps: [1]}\n",
        "group_as_word": "trainer: fast\n",
        "number_as_name": "3: x\n",
        "recursive": "trainer: &t {again: *t}\n",
        "alias": "trainer: *nowhere\n",
        "deep": "[" * 2000,
        "python": "trainer: !!python/object/apply:os.system ['true']\n",
        "two_documents": "out: a\n---\nout: b\n",
        "control": "out: \x01\n",
        "huge": "a: [" + "1, " * 400_000 + "1]\n",
    }
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    (folder / "latin.yaml").write_bytes("out: caf\xe9\n".encode("latin-1"))
    (folder / "binary.yaml").write_bytes(bytes(range(256)))
    (folder / "config.yaml").mkdir()


def arrays(folder):
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("images.npy", b"junk")
    for name in ("npy", "npz", "pt"):
        (folder / f"empty.{name}").write_bytes(b"")
        (folder / f"html.{name}").write_bytes(b"<html>404</html>")
    (folder / "junk.npz").write_bytes(zipped.getvalue())
    good = np.random.default_rng(0).random((2, 1, SIDE, SIDE), dtype=np.float32)
    np.savez_compressed(folder / "good.npz", images=good)
    (folder / "cut.npz").write_bytes((folder / "good.npz").read_bytes()[:-400])
    np.save(folder / "cut.npy", good)
    (folder / "cut.npy").write_bytes((folder / "cut.npy").read_bytes()[:500])
    np.save(folder / "complex.npy", good * 1j)
    np.save(folder / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(folder / "words.npy", np.array(["a", "b"]))
    np.save(folder / "nan.npy", good * np.nan)
    np.save(folder / "large.npy", good * 1000)
    np.save(folder / "negative.npy", good - 1)
    np.save(folder / "scalar.npy", np.float32(1))
    np.save(folder / "five.npy", good[None])
    np.save(folder / "none.npy", good[:0])
    np.save(folder / "colour_or_grey.npy", good.repeat(3, 1)[0])
    np.save(folder / "four_channels.npy", good.repeat(4, 1))
    np.save(folder / "bits.npy", (good > 0.5).astype(np.uint8))
    np.savez(folder / "several.npz", a=good, b=good)
    torch.save([torch.zeros(1)], folder / "list.pt")
    torch.save(torch.nn.Linear(1, 1), folder / "module.pt")
    torch.save({"weight": torch.zeros(1)}, folder / "weights.pt")


LINES = [
    # The command itself.
    (["fti"], "did you mean 'fit'"),
    (["--fit"], "no command '--fit'"),
    ([""], "no command ''"),
    (["options"], "no command 'options'"),
    (["main"], "no command 'main'"),
    (["info", "--all"], "takes no options; got --all"),
    (["plugins", "scorers"], "takes no options; got scorers"),
    (["completion", "--shell", "tcsh"], "--shell is tcsh; wanted one of bash"),
    # Options that are missing, unknown, or of another kind.
    (["explain"], "required: model"),
    (["detect", "--images", "nowhere", "--out", "d"], "give either a backbone"),
    (["predict", "nowhere", "images"], "nowhere/detector.json does not exist"),
    (["export", "--model", "nowhere", "--layer", "x"], "--model is 'nowhere'"),
    (["explain", "--model"], "--model"),
    (["explain", "--model", ""], "--model is empty"),
    ([*ON, "more"], "more"),
    ([*ON, "--layers", "a"], "--layers"),
    ([*ON, "--dims", "a"], "--dims is ['a']; wanted whole numbers, such as 1,2"),
    ([*ON, "--dims", "1,x"], "--dims"),
    ([*ON, "--dims", "1.5"], "--dims"),
    ([*ON, "--dims", "[1"], "--dims"),
    ([*ON, "--dims", "{a: 1}"], "--dims"),
    ([*ON, "--dims="], "--dims is empty; wanted whole numbers"),
    ([*ON, "--dims", "1,,2"], "--dims"),
    ([*ON, "--out", ""], "'' is no path to write to"),
    ([*ON, "--out", "photos/a.png"], "photos/a.png, which is a file, or lies below one"),
    ([*ON, "--out", "photos/a.png/maps"], "maps, which is a file, or lies below one"),
    ([*ON, "--out", "/proc/maps"], "could not write /proc/maps"),
    ([*ON, "--batch_size", str(10**30)], "--batch_size"),
    ([*ON, "--options", "{device_ids: x}"], "options has device_ids"),
    ([*ON, "--options", "{layer: x}"], "options has layer"),
    ([*ON, "--options", "{size: 100000000}"], "the memory does not suffice"),
    ([*ON, "--reshape_transform", "os:getcwd"], "reshape_transform raised TypeError"),
    ([*ON, "--reshape_transform", "os:sep"], "--reshape_transform is '/'"),
    ([*ON, "--dims", "7"], "7 is out of range: the posterior has 3 latent dimensions"),
    ([*ON, "--dims", "[]"], "target is empty"),
    ([*ON, "--image_size", "x"], "--image_size is x; wanted a whole number or 2 numbers"),
    ([*ON, "--image_size", "1,2,3"], "--image_size is [1, 2, 3]"),
    ([*ON, "--image_size", "0"], "image_size"),
    ([*ON, "--image_size", "-4"], "image_size"),
    ([*ON, "--channels", "0"], "--channels 0 must be at least 1"),
    ([*ON, "--channels", "2"], "2"),
    ([*ON, "--channels", "x"], "--channels is x; wanted a whole number"),
    ([*ON, "--batch_size", "0"], "--batch_size 0 must be at least 1"),
    ([*ON, "--batch-size", "1.5"], "--batch_size is 1.5; wanted a whole number"),
    ([*ON, "--shown_dims", "0"], "--shown_dims 0 must be at least 1"),
    ([*ON, "--shown_images", "-1"], "--shown_images -1 must be at least 1"),
    ([*ON, "--scale", "log"], "--scale is log; wanted one of common, own"),
    ([*ON, "--device", "tpu"], "--device is tpu; wanted one of auto, cpu, cuda"),
    ([*ON, "--list_layers", "maybe"], "--list_layers is maybe; wanted true or false"),
    ([*ON, "--value_range", "1"], "value_range is [1.0]"),
    ([*ON, "--value_range", "1", "0"], "value_range is [1.0, 0.0]"),
    ([*ON, "--value_range", "0,inf"], "value_range"),
    ([*ON, "--value_range", "a,b"], "--value_range"),
    # Models, layers, attributions and posteriors.
    (["explain", "--model", "nowhere"], "--model is 'nowhere'"),
    (["explain", "--model", "mine.py"], "a Python file"),
    (["explain", "--model", "no_module:f", "--list-layers"], "which does not import"),
    (["explain", "--model", f"{OWN}:absent", "--list-layers"], "does not import"),
    (["explain", "--model", f"{OWN}:SIDE", "--list-layers"], "a int; wanted a function"),
    (["explain", "--model", ":", "--list-layers"], "which does not import"),
    (["explain", "--model", "builtins:dict", "--list-layers"], "returned dict"),
    (["explain", "--model", "weights.pt", "--list-layers"], "weights.pt"),
    (["explain", "--model", "empty", "--list-layers"], "empty"),
    (["explain", "--model", "weights.pt", "--model_options", "{a: 1}"], "model_options"),
    ([*ON, "--model_options", "{depth: 3}"], "the options {'depth': 3} do not fit model"),
    ([*ON, "--model_options", "3"], "--model_options is 3; wanted options by name"),
    ([*ON, "--model_options.latent_dims", "x"], "raised TypeError: latent_dims="),
    ([*ON[:-1], "encoder.conv9"], "encoder.conv9"),
    ([*ON[:-1], ""], "layer"),
    ([*ON[:-1], "mean"], "without spatial positions"),
    (ON[:-2], "layer is missing; choose one with --layer NAME"),
    ([*ON, "--attribution", "latent_cam"], "did you mean 'latent_grad_cam'"),
    ([*ON, "--attribution", "decoder"], "the attribution 'decoder' takes none"),
    ([*ON, "--attribution", "normal_difference_grad_cam"], "give --normal FOLDER"),
    ([*ON, "--options", "abc"], "--options is abc; wanted options by name"),
    ([*ON, "--options", "{of: sample, seed: x}"], "seed"),
    ([*ON, "--options", "{of: 3}"], "of=3"),
    ([*ON, "--options", "{rectifier: abz}"], "choose one of relu, abs"),
    ([*ON, "--options", "{rectifier: [abs]}"], "rectifier"),
    ([*ON, "--options", "{rectifer: abs}"], "options do not fit the attribution"),
    ([*ON, "--options", "{reduction: none}"], "leave out reduction='none'"),
    ([*ON, "--options", "{baselines: mean_activation}"], "give --normal FOLDER"),
    ([*ON, "--options", "{baselines: nowhere}"], "baselines"),
    ([*ON, "--options", "{baselines: .nan}"], "baselines"),
    ([*ON, "--options", "{preset: mine}"], "preset"),
    ([*ON, "--options", "{size: big}"], "size"),
    ([*ON, "--options", "{target: 1}"], "options has target"),
    ([*ON, "--options", "{a: &a [*a]}"], "--options"),
    ([*ON, "--posterior", "mu,logvar"], "mu"),
    ([*ON, "--posterior", "encode:[7]"], "[7]"),
    ([*ON, "--posterior", "nothing:"], "nothing"),
    ([*ON, "--posterior_options", "{depth: 1}"], "posterior_options do not fit"),
    ([*ON, "--posterior_options.spread", "x"], "spread='x'"),
    ([*ON, "--reshape_transform", "nothing"], "--reshape_transform is 'nothing'"),
    ([*EXPLAIN, "--layer", "encoder.conv2"], "images is missing"),
    # Images and arrays.
    ([*ARRAY, "gone"], "gone does not exist"),
    ([*ARRAY, "a" * 300], "aaa"),
    ([*ARRAY, "empty"], "no images in empty"),
    ([*ARRAY, "text"], "no images in text"),
    ([*ARRAY, "text/notes.txt"], "notes.txt"),
    ([*ARRAY, "broken"], "a.png"),
    ([*ON, "--normal", "gone", "--options", "{baselines: mean_activation}"], "gone"),
    *(
        ([*ARRAY, name], name)
        for name in (
            *(f"{stem}.{kind}" for stem in ("empty", "html") for kind in ("npy", "npz", "pt")),
            *("junk.npz", "cut.npz", "cut.npy", "complex.npy", "objects.npy", "words.npy"),
            *("nan.npy", "large.npy", "negative.npy", "scalar.npy", "five.npy", "none.npy"),
            *("colour_or_grey.npy", "four_channels.npy", "bits.npy", "several.npz", "list.pt"),
            *("module.pt",),
        )
    ),
    # Configurations.
    (["fit", "--config", "gone"], "--config is 'gone'"),
    (["fit", "--config"], "--config"),
    (["fit", "--config", "empty"], "empty cannot be read: it is a folder"),
    (["evaluate", "--config=gone.yaml"], "--config is 'gone.yaml'"),
    *(
        ([*FIT, "--config", f"{name}.yaml"], words)
        for name, words in {
            "bomb": "bomb.yaml cannot be read: its aliases",
            "tabs": "tabs.yaml",
            "twice": "it names 'out' twice, again in line 2",
            "nested_twice": "it names 'steps' twice",
            "list": "it holds list",
            "word": "it holds str 'hello'",
            "number": "it holds int '3'",
            "nothing": "it holds nothing",
            "open": "open.yaml",
            "unknown": "stesp",
            "wrong_type": "--trainer.steps is [1]; wanted a whole number",
            "group_as_word": "--trainer",
            "number_as_name": "it names an option 3",
            "recursive": "an alias (*name) lies inside the value",
            "alias": "undefined alias",
            "deep": "more than 50 deep",
            "python": "python.yaml",
            "two_documents": "two_documents.yaml",
            "control": "control.yaml",
            "huge": "huge.yaml",
            "latin": "latin.yaml",
            "binary": "binary.yaml",
            "config": "config.yaml cannot be read: it is a folder",
        }.items()
    ),
    # Training.
    (["fit", "--out", "run"], "required: "),
    ([*FIT, "--trainer.steps", "0"], "--trainer.steps 0 must be at least 1"),
    ([*FIT, "--trainer.steps", "1.5"], "--trainer.steps is 1.5; wanted a whole number"),
    ([*FIT, "--trainer.seed", "-1"], "seed=-1 must be at least 0"),
    ([*FIT, "--trainer.seed", str(2**70)], "seed"),
    ([*FIT, "--trainer.precision", "half"], "--trainer.precision is half; wanted one of"),
    ([*FIT, "--trainer.batch_size", "x"], "--trainer.batch_size is x"),
    ([*FIT, "--trainer", "3"], "--trainer"),
    ([*FIT, "--model.name", "resnet"], "'resnet' is not among the models"),
    ([*FIT, "--model.name", "no_module:Class"], "does not import"),
    ([*FIT, "--model.options.depth", "3"], "model.options does not fit conv"),
    ([*FIT, "--model.options", "deep"], "--model.options is deep; wanted options by name"),
    ([*FIT, "--model.options", "{latent_dims: 0}"], "latent_dims"),
    ([*FIT, "--data.name", "mnits"], "'mnits' is not among the datasets"),
    ([*FIT, "--data.name", "folder", "--data.root", "gone"], "gone"),
    ([*FIT, "--data.name", "folder", "--data.root", "empty"], "empty"),
    ([*FIT, "--data.name", "mnist", "--data.root", "$UNSET/x"], "variable that is not set"),
    ([*FIT, "--data.name", "mnist", "--data.root", "empty"], "empty"),
    ([*FIT, "--data.options.digits", "[11]"], "digits"),
    ([*FIT, "--data.augment", "{turn: 3}"], "data.augment does not fit Augmented"),
    ([*FIT, "--objective.name", "gan"], "--objective.name is gan; wanted one of"),
    ([*FIT, "--objective.beta", "x"], "--objective.beta is x; wanted a number"),
    ([*FIT, "--objective.betta", "1"], "--objective.betta"),
    ([*FIT, "--objective.attention.layer", "encoder.conv9"], "encoder.conv9"),
    ([*FIT, "--resume", "never", "--out", "photos/a.png"], "photos/a.png"),
    ([*FIT, "--report_json", "photos"], "--report_json is photos, a folder; wanted a file"),
    (["disentangle"], "required: checkpoint"),
    (["disentangle", "gone"], "gone"),
    (["disentangle-seeds", "--report_json", "photos", "--out", "d"], "photos, a folder; wanted a"),
    (["disentangle", "weights.pt"], "weights.pt"),
    (["disentangle", "weights.pt", "--metrics", "mag"], "--metrics"),
    (["disentangle", "weights.pt", "--samples", "many"], "--samples is many"),
    # Measuring and reproducing.
    (["evaluate", "--out", "table"], "required: "),
    ([*EVALUATE, "--scorers", "x"], "--scorers is x; wanted options by name"),
    ([*EVALUATE, "--scorers", "{}"], "scorers is empty"),
    ([*EVALUATE, "--scorers", "{a: {name: nothing}}"], "'nothing' is not among the scorers"),
    ([*EVALUATE, "--scorers", "{a: {name: elbo_gradient, options: {depth: 1}}}"], "depth"),
    ([*SCORED, "--batch_size", "x"], "--batch_size is x; wanted a whole number"),
    ([*SCORED, "--report", "pdf"], "--report is pdf; wanted one of html, none"),
    ([*SCORED, "--test.root", "gone"], "gone"),
    ([*SCORED, "--model.factory", "no_module:f"], "does not import"),
    ([*SCORED, "--model.checkpoint", "weights.pt"], "either a checkpoint or a factory"),
    ([*SCORED, "--report_json", "photos"], "--report_json is photos, a folder; wanted a file"),
    ([*SCORED, "--out", "photos/a.png"], "photos/a.png is a file"),
    (["reproduce"], "required: experiment"),
    (["reproduce", "mnist", "--report_json", "photos/a.png/x"], "which lies below a file"),
    (["reproduce", "cifar"], "--experiment is cifar; wanted one of mnist"),
    (["reproduce", "mnist", "--scale", "huge"], "--scale is huge; wanted one of"),
    (["reproduce", "mnist", "--seed", "-1"], "seed"),
    (["reproduce", "mnist", "--data", "gone", "--scale", "cpu"], "gone is no folder"),
    (["demo", "--steps", "0"], "steps"),
    (["demo", "--normal", "11"], "normal"),
    (["demo", "--others", "x"], "--others is"),
    (["demo", "--others", "1,1"], "others"),
    (["demo", "--dataset", "mnist"], "root"),
    (["demo", "--dataset", "mnist", "--root", "empty"], "empty"),
    (["demo", "--layer", "encoder.conv9"], "encoder.conv9"),
    (["disentangle-seeds", "--seeds", "x"], "--seeds is x; wanted a whole number"),
    (["disentangle-seeds", "--variants", "mine"], "--variants"),
]


def test_the_table_has_every_command_and_a_hundred_lines():
    from captum_vae.commands.main import COMMANDS

    assert len(LINES) >= 100
    assert set(COMMANDS) <= {line[0] for line, _ in LINES}


@pytest.mark.parametrize(("line", "words"), LINES, ids=[" ".join(line)[-60:] for line, _ in LINES])
def test_a_bad_command_line_is_answered_in_one_line(line, words, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    if "explain" in line and "--out" not in line:
        line = [*line, "--out", "maps"]
    assert main(line) == 2
    told = ("captum-vae: warning: ", "captum-vae: maps: ")  # before the mistake was reached
    error = [text for text in capsys.readouterr().err.splitlines() if not text.startswith(told)]
    assert len(error) == 1 and error[0].startswith("captum-vae: error: ")
    assert words in error[0]
    assert "--verbose" not in error[0]
