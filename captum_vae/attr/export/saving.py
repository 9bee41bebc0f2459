"""A function of images as one file that runs without this package, checked before it is written.

:func:`export_function` serves every export of the package: it takes a function, an example and
names, and knows nothing of maps.
"""

from __future__ import annotations

import io
import json
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from captum_vae.attr.export.onnx_forms import onnx_forms
from captum_vae.attr.export.options import Format
from captum_vae.attr.export.recording import Function, NotExportableError, batch_of, trace
from captum_vae.checks import check_choice
from captum_vae.files import reading, replacing
from captum_vae.version import __version__

CHECKED_BATCHES = (1, 7)
METADATA = "captum_vae.json"
"""Name of the metadata's extra file in a ``torch`` file."""

_LARGEST_ONNX = 2**31 - 1
_HALVES = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class ExportedFile:
    """What was written.

    Attributes:
        path: The file.
        format: ``onnx`` or ``torch``.
        inputs: Shapes of the inputs by name, the batch as ``"batch"``.
        outputs: Shapes of the outputs by name.
        difference: By output, the largest difference from eager mode in the batches that were
            checked, as a fraction of the largest value.
        metadata: What the file says of itself.
    """

    path: Path
    format: Format
    inputs: dict[str, tuple[int | str, ...]]
    outputs: dict[str, tuple[int | str, ...]]
    difference: dict[str, float]
    metadata: dict[str, Any]

    def __str__(self) -> str:
        """One line an output."""
        lines = [
            f"  {name}: {' x '.join(map(str, shape))}, within {self.difference[name]:.1e} of eager"
            for name, shape in self.outputs.items()
        ]
        return "\n".join([f"{self.path} ({self.format})", *lines])


def export_function(
    function: Function,
    example: Tensor | Sequence[Tensor],
    path: str | Path,
    *,
    format: Format = "onnx",
    input_names: Sequence[str] = ("input",),
    metadata: Mapping[str, Any] | None = None,
    tolerance: float | None = None,
) -> ExportedFile:
    """Write a function as a file that takes any number of images.

    The function is recorded operation by operation, gradients included, so that the file holds
    plain operations: it needs neither autograd nor this package. It is then compared with the
    function itself, at 1 and at 7 images made of the example, and only written where they agree.

    Args:
        function: Takes the inputs (B, ...) and gives tensors (B, ...) by name. What it computes of
            an image must not depend on the others.
        example: Its inputs, of one B, which may be 1. All sizes but B are fixed by them.
        path: The file; what was there before is replaced when all has gone well.
        format: ``onnx``, or ``torch`` for a program of ``torch.export`` (.pt2).
        input_names: Names of the inputs in the file.
        metadata: What else the file shall say of itself, in values that JSON holds.
        tolerance: Largest difference allowed, as a fraction of an output's largest value; None
            takes 1e-4, and 0.02 where half precision is involved.

    Returns:
        What was written.

    Raises:
        NotExportableError: An operation has no form in the file, or the function reads values,
            draws random numbers or mixes images; the message names the operation and what to do.
        ModuleNotFoundError: One of onnx, onnxscript and onnxruntime is not installed.
        OSError: The file cannot be written.
    """
    check_choice("format", format, get_args(Format))
    inputs = (example,) if isinstance(example, Tensor) else tuple(example)
    _check_inputs(inputs, input_names)
    if format == "onnx":
        _import_onnx()
    module = trace(
        function,
        inputs,
        input_names=input_names,
        decompositions=onnx_forms() if format == "onnx" else None,
    )
    program = _exported(module, batch_of(inputs, 5))
    described = _described(program, input_names, inputs)
    about = {
        "captum_vae_version": __version__,
        "torch_version": torch.__version__,
        **described,
        **(metadata or {}),
    }
    if format == "onnx":
        content, run = _as_onnx(
            program, list(described["inputs"]), list(described["outputs"]), about
        )
    else:
        content, run = _as_torch(program, about)
    differences = _differences(function, run, inputs, tolerance)
    with replacing(path) as file:
        file.write(content)
    return ExportedFile(
        path=Path(path),
        format=format,
        inputs={name: tuple(shape) for name, shape in described["inputs"].items()},
        outputs={name: tuple(shape) for name, shape in described["outputs"].items()},
        difference=differences,
        metadata=about,
    )


def read_metadata(path: str | Path) -> dict[str, Any]:
    """What an exported file says of itself: version, inputs, outputs and options.

    Args:
        path: A file of :func:`export_function`.

    Raises:
        FileNotFoundError: There is no such file.
        DamagedFileError: It holds something else.
    """
    with reading(path, "a file written by an export of captum_vae"):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                (name,) = [name for name in archive.namelist() if name.endswith(METADATA)]
                return dict(json.loads(archive.read(name)))
        import onnx

        model = onnx.load(path)
        return {entry.key: _from_text(entry.value) for entry in model.metadata_props}


def _check_inputs(inputs: Sequence[Any], names: Sequence[str]) -> None:
    for tensor in inputs:
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"example holds a {type(tensor).__name__}; wanted the inputs as tensors (B, ...)"
            )
        if tensor.dim() == 0 or len(tensor) != len(inputs[0]) or len(tensor) == 0:
            raise ValueError(
                f"example has the shapes {[tuple(x.shape) for x in inputs]}; wanted tensors "
                "(B, ...) of one batch size B"
            )
    if len(names) != len(inputs) or len(set(names)) != len(names):
        raise ValueError(
            f"input_names={tuple(names)}: wanted {len(inputs)} different names, one per input"
        )
    for name in names:
        if not name.isidentifier():
            raise ValueError(f"input_names has {name!r}; wanted a word of letters, digits and _")


def _import_onnx() -> None:
    """Import what writing and checking ONNX needs, before anything is computed."""
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    import onnxscript  # noqa: F401


def _exported(module: torch.fx.GraphModule, batch: tuple[Tensor, ...]) -> ExportedProgram:
    size = Dim("batch", min=1)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(
                module, batch, dynamic_shapes=tuple({0: size} for _ in batch)
            )
    # torch.export has many kinds of errors of its own.
    except Exception as error:
        raise NotExportableError(
            f"torch.export refuses the recorded operations: {_first_line(error)}"
        ) from error
    return program


def _described(
    program: ExportedProgram, names: Sequence[str], inputs: Sequence[Tensor]
) -> dict[str, Any]:
    """Shapes of inputs and outputs by name."""
    module_outputs = program.graph_module.graph.output_node().args[0]
    keys = program.call_spec.out_spec.context
    shapes = {}
    for key, node in zip(keys, module_outputs, strict=True):
        value = node.meta["val"]
        if isinstance(value.shape[0], int):
            raise NotExportableError(
                f"the output {key!r} has {value.shape[0]} entries whatever the number of images; "
                "wanted one per image"
            )
        shapes[key] = ["batch", *map(int, value.shape[1:])]
    return {
        "inputs": {
            name: ["batch", *tensor.shape[1:]] for name, tensor in zip(names, inputs, strict=True)
        },
        "outputs": shapes,
    }


def _as_torch(program: ExportedProgram, about: Mapping[str, Any]) -> tuple[bytes, Any]:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constants that share memory, which are saved whole
        torch.export.save(program, buffer, extra_files={METADATA: json.dumps(about)})
    buffer.seek(0)
    loaded = torch.export.load(buffer).module()

    def run(batch: Sequence[Tensor]) -> dict[str, Tensor]:
        with torch.no_grad():
            return dict(loaded(*batch))

    return buffer.getvalue(), run


def _as_onnx(
    program: ExportedProgram,
    input_names: list[str],
    output_names: list[str],
    about: Mapping[str, Any],
) -> tuple[bytes, Any]:
    import onnxruntime

    with _refusing_what_has_no_form():
        made = torch.onnx.export(program, dynamo=True, input_names=input_names, verbose=False)
    assert made is not None
    _name_values(made.model, output_names)
    proto = made.model_proto
    _name_batch(proto)
    proto.producer_name = "captum_vae"
    proto.producer_version = __version__
    for key, value in about.items():
        proto.metadata_props.add(key=key, value=_as_text(value))
    if proto.ByteSize() > _LARGEST_ONNX:
        raise NotExportableError(
            f"the file would have {proto.ByteSize() / 2**30:.1f} GiB, and ONNX holds 2 GiB in one; "
            "take format='torch'"
        )
    content = proto.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    # onnxruntime raises an exception of its own for each of its status codes.
    except Exception as error:
        raise NotExportableError(
            f"onnxruntime does not load the model: {_first_line(error)}; export the model in "
            "float32, or take format='torch'"
        ) from error

    def run(batch: Sequence[Tensor]) -> dict[str, Tensor]:
        fed = {
            name: tensor.detach().cpu().numpy()
            for name, tensor in zip(input_names, batch, strict=True)
        }
        found = session.run(output_names, fed)
        return {
            name: torch.from_numpy(array) for name, array in zip(output_names, found, strict=True)
        }

    return content, run


@contextmanager
def _refusing_what_has_no_form() -> Iterator[None]:
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    # The exporter wraps whatever goes wrong, several times.
    except Exception as error:
        chain, at = [], error
        while at is not None:
            chain.append(str(at))
            at = at.__cause__ or at.__context__  # type: ignore[assignment]
        found = re.search(
            r"No ONNX function found for <OpOverload\(op='([\w.]+)'", "\n".join(chain)
        )
        if found:
            raise NotExportableError(
                f"the operation {found.group(1)} has no ONNX form; take format='torch', or replace "
                "what calls it in the model"
            ) from error
        raise NotExportableError(
            f"torch.onnx does not convert the operations: {_first_line(chain[-1])}; take "
            "format='torch'"
        ) from error


def _name_values(model: Any, output_names: Sequence[str]) -> None:
    """Name the outputs, and all between so that no name meets one of these."""
    for node in model.graph.all_nodes():
        for value in node.outputs:
            value.name = f"{node.name}/{value.name}" if value.name else value.name
    for value, name in zip(model.graph.outputs, output_names, strict=True):
        value.name = name


def _name_batch(proto: Any) -> None:
    """Call the free size ``batch`` wherever it stands alone."""
    symbol = proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    values = [*proto.graph.input, *proto.graph.output, *proto.graph.value_info]
    for value in values:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = re.sub(rf"\b{re.escape(symbol)}\b", "batch", dim.dim_param)


def _differences(
    function: Function, run: Any, inputs: Sequence[Tensor], tolerance: float | None
) -> dict[str, float]:
    """Largest difference of each output from eager mode; refuses one that is too large."""
    largest: dict[str, float] = {}
    for count in CHECKED_BATCHES:
        batch = batch_of(inputs, count)
        expected = function(*batch)
        # onnxruntime raises whatever the kernel that fails raises.
        try:
            found = run(batch)
        except Exception as error:
            raise NotExportableError(
                f"the exported model does not run on {count} images: {_first_line(error)}"
            ) from error
        for name, values in expected.items():
            wanted = values.detach().double().cpu()
            given = found[name].detach().double().cpu()
            if wanted.shape != given.shape:
                raise NotExportableError(
                    f"the exported {name!r} has shape {tuple(given.shape)} for {count} images, "
                    f"and eager mode gives {tuple(wanted.shape)}: the model does not treat images "
                    "one by one"
                )
            scale = max(float(wanted.abs().nan_to_num().max()), torch.finfo(torch.float32).tiny)
            difference = (wanted - given).abs()
            difference[wanted.isnan() & given.isnan()] = 0
            part = float(difference.max()) / scale
            allowed = tolerance if tolerance is not None else _tolerance((*inputs, values))
            if not part <= allowed:
                raise NotExportableError(
                    f"the exported {name!r} differs from eager mode by {part:.2g} of its largest "
                    f"value for {count} images, and {allowed:g} is allowed: the model decides "
                    "something by its values or by the number of images, or its arithmetic is not "
                    "that of the runtime"
                )
            largest[name] = max(largest.get(name, 0.0), part)
    return largest


def _tolerance(tensors: Sequence[Tensor]) -> float:
    return 0.02 if any(tensor.dtype in _HALVES for tensor in tensors) else 1e-4


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _from_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _first_line(error: object) -> str:
    text = str(error).strip() or type(error).__name__
    return " ".join(text.splitlines()[0].split())[:300]
