"""A function as a file: the batch stays open, and what no file can hold is refused by name."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from captum_vae.attr.export import NotExportableError, export_function, read_metadata

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

FORMATS = ["onnx", "torch"]


def run(path, *inputs):
    """The outputs of an exported file by name, for the format that its ending tells."""
    if str(path).endswith("onnx"):
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [entry.name for entry in session.get_outputs()]
        fed = {
            entry.name: tensor.numpy()
            for entry, tensor in zip(session.get_inputs(), inputs, strict=True)
        }
        return dict(zip(names, map(torch.from_numpy, session.run(None, fed)), strict=True))
    return torch.export.load(path).module()(*inputs)


def smoothed_gradient(images):
    """What a detector does: a gradient, its smoothing, a resizing with antialiasing, a score."""
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        hidden = F.max_pool2d(F.conv2d(images, KERNEL, stride=2, padding=1), 2).relu()
        (gradient,) = torch.autograd.grad(hidden.flatten(1).square().sum(), images)
    gauss = torch.tensor([0.25, 0.5, 0.25])
    blur = (gauss[:, None] * gauss)[None, None]
    smooth = F.conv2d(F.pad(gradient, (1, 1, 1, 1), mode="reflect"), blur)
    maps = F.interpolate(smooth, (5, 7), mode="bilinear", antialias=True, align_corners=False)
    larger = F.interpolate(maps, (11, 13), mode="bilinear", align_corners=False)
    score = maps.flatten(1).topk(4).values.mean(1)
    return {"maps": larger, "score": score, "anomalous": score > 0.1}


KERNEL = torch.linspace(-1, 1, 27).reshape(3, 1, 3, 3).sin()


@pytest.mark.parametrize("format", FORMATS)
def test_gradients_smoothing_and_resizing_are_the_same_for_any_number_of_images(tmp_path, format):
    path = tmp_path / f"file.{format}"
    written = export_function(smoothed_gradient, torch.rand(1, 1, 17, 16), path, format=format)
    assert written.outputs == {
        "maps": ("batch", 1, 11, 13),
        "score": ("batch",),
        "anomalous": ("batch",),
    }
    for count in (1, 2, 7):
        images = torch.rand(count, 1, 17, 16)
        found, expected = run(path, images), smoothed_gradient(images)
        torch.testing.assert_close(found["maps"], expected["maps"], rtol=0, atol=1e-5)
        torch.testing.assert_close(found["score"], expected["score"], rtol=1e-5, atol=0)
        assert torch.equal(found["anomalous"], expected["anomalous"])


def test_the_file_names_its_batch_its_outputs_and_what_else_it_is_told(tmp_path):
    path = tmp_path / "file.onnx"
    export_function(
        lambda x, y: {"input_sum": x + y, "mean": x.mean(1)},
        (torch.rand(2, 3), torch.rand(2, 3)),
        path,
        input_names=("first", "second"),
        metadata={"threshold": 0.5, "classes": ["a", "b"]},
    )
    session = onnxruntime.InferenceSession(path)
    assert [(x.name, x.shape) for x in session.get_inputs()] == [
        ("first", ["batch", 3]),
        ("second", ["batch", 3]),
    ]
    assert [(x.name, x.shape) for x in session.get_outputs()] == [
        ("input_sum", ["batch", 3]),
        ("mean", ["batch"]),
    ]
    told = session.get_modelmeta().custom_metadata_map
    assert told["threshold"] == "0.5" and told["captum_vae_version"]
    assert read_metadata(path)["classes"] == ["a", "b"]


def test_a_program_of_torch_tells_the_same_and_compiles(tmp_path):
    path = tmp_path / "file.pt2"
    example = torch.rand(2, 1, 8, 8)
    export_function(
        lambda x: {"norm": x.flatten(1).norm(dim=1)},
        example,
        path,
        format="torch",
        metadata={"a": 1},
    )
    assert read_metadata(path)["a"] == 1
    assert read_metadata(path)["outputs"] == {"norm": ["batch"]}
    compiled = torch.compile(torch.export.load(path).module(), backend="aot_eager")
    images = torch.rand(5, 1, 8, 8)
    torch.testing.assert_close(compiled(images)["norm"], images.flatten(1).norm(dim=1))


def counted(x):
    """A function that asks for its batch size in each of the ways people do."""
    return {"scaled": x.reshape(len(x), -1) * torch.ones(x.shape[0], 1), "n": torch.zeros(len(x))}


@pytest.mark.parametrize("format", FORMATS)
def test_a_batch_size_read_by_python_stays_open(tmp_path, format):
    path = tmp_path / f"file.{format}"
    export_function(counted, torch.rand(2, 3, 4), path, format=format)
    assert run(path, torch.rand(11, 3, 4))["scaled"].shape == (11, 12)


class ByValue(nn.Module):
    def forward(self, x):
        return {"y": x if float(x.sum()) > 0 else -x}


def by_image(x):
    return {"y": torch.stack([image * 2 for image in x])}


def with_noise(x):
    return {"y": x + torch.randn_like(x)}


def over_the_batch(x):
    return {"y": x * (1 / len(x))}


def without_batch(x):
    return {"y": x.sum(0)}


def without_form(x):
    return {"y": torch.linalg.cholesky(x @ x.mT + 9 * torch.eye(4))}


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (ByValue(), "aten._local_scalar_dense.*reads values.*test_saving.py.*torch.where"),
        (by_image, "other operations for 2 images than for 3"),
        (with_noise, "aten.randn_like.*draws random numbers.*eval"),
        (over_the_batch, "aten.mul.*takes 0.5 for 2 images"),
        (without_batch, "'y' has 4 entries whatever the number of images"),
        (without_form, "aten.linalg_cholesky_ex has no ONNX form; take format='torch'"),
    ],
)
def test_what_no_file_can_hold_is_refused_by_name_and_nothing_is_written(tmp_path, function, said):
    path = tmp_path / "file.onnx"
    path.write_text("of before")
    with pytest.raises(NotExportableError, match=f"(?s){said}"):
        export_function(function, torch.rand(2, 4, 4), path)
    assert path.read_text() == "of before" and len(list(tmp_path.iterdir())) == 1


def test_a_file_that_differs_from_eager_mode_is_not_written(tmp_path):
    calls = []

    def drifting(x):
        calls.append(x)
        return {"y": x * (1.0 if len(calls) < 5 else 1.1)}

    with pytest.raises(NotExportableError, match="'y' differs from eager mode by 0.09"):
        export_function(drifting, torch.rand(2, 3), tmp_path / "file.onnx")
    assert not list(tmp_path.iterdir())


def test_constants_are_computed_once_and_not_blown_up(tmp_path):
    weight = nn.Parameter(torch.rand(300, 200))

    def function(x):
        pooled = weight.reshape(300, 10, 20).sum(2)
        return {"y": x @ pooled + torch.ones(10).expand(3, 10).sum(0)}

    path = tmp_path / "file.onnx"
    export_function(function, torch.rand(2, 300), path)
    assert path.stat().st_size < 4 * 300 * 10 + 10_000  # the pooled weight, not the weight


@pytest.mark.parametrize(
    ("example", "names", "said"),
    [
        (np.zeros((2, 3)), ("input",), "ndarray"),
        ((torch.rand(2, 3), torch.rand(3, 3)), ("a", "b"), "one batch size"),
        (torch.rand(2, 3), ("a", "b"), "1 different names"),
        (torch.rand(2, 3), ("a b",), "letters, digits"),
    ],
)
def test_an_example_or_names_that_do_not_fit_are_refused(tmp_path, example, names, said):
    with pytest.raises((TypeError, ValueError), match=said):
        export_function(lambda *x: {"y": x[0]}, example, tmp_path / "f.onnx", input_names=names)


@pytest.mark.parametrize("format", FORMATS)
def test_indexing_by_whole_numbers_is_no_decision(tmp_path, format):
    table = torch.linspace(-1, 1, 6).reshape(3, 2)

    def taken(images):
        largest = images.flatten(2).mean(2).argmax(1)
        return {"columns": images[:, [2, 0]].flatten(1), "rows": table[largest]}

    path = tmp_path / f"file.{format}"
    images = torch.rand(7, 3, 4, 4)
    export_function(taken, images[:2], path, format=format)
    for count in (1, 7):
        found = run(path, images[:count])
        for name, expected in taken(images[:count]).items():
            torch.testing.assert_close(found[name], expected)
