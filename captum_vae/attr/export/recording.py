"""From a Python function of tensors to a graph of operations, for every number of images.

The function runs under ``make_fx``, at two numbers of images, on real tensors: whatever it does in
Python, the shapes that it reads with ``len`` included, happens as always, and backward passes are
recorded as the operations that they are. The two graphs are then made one: they must hold the same
operations, and a whole number that differs between them must be a B + c, B being the batch size,
which takes its place.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from captum_vae.posterior.probe import PROBING

Function = Callable[..., Mapping[str, Tensor]]
"""Batches of tensors -> the outputs (B, ...) by name."""

BATCHES = (2, 3)
"""Batch sizes at which a function is recorded: one image alone is handled otherwise by torch."""

_VIEWS = (torch.ops.aten.view.default, torch.ops.aten._unsafe_view.default)
_SMALL = 2**14


class NotExportableError(ValueError):
    """What was to be exported does something that no file can hold."""


def batch_of(inputs: Sequence[Tensor], count: int) -> tuple[Tensor, ...]:
    """As many images as asked for, made of those given, each a little different.

    Args:
        inputs: Tensors (B, ...) of one B.
        count: Number of images wanted.
    """
    return tuple(_batch_of(tensor, count) for tensor in inputs)


def trace(
    function: Function,
    inputs: Sequence[Tensor],
    *,
    input_names: Sequence[str],
    decompositions: Mapping[Any, Callable[..., Any]] | None = None,
) -> GraphModule:
    """The function's operations, with constants computed and the number of images left open.

    Args:
        function: Runs on tensors (B, ...) and gives tensors (B, ...) by name.
        inputs: Example inputs, of one B, which may be 1.
        input_names: Names of the graph's inputs.
        decompositions: Operations that are to be written out, and how.

    Returns:
        A module of the same inputs and outputs, without gradients.

    Raises:
        NotExportableError: The function reads values and acts on them, draws random numbers, or
            treats a batch otherwise than image by image.
    """
    graphs = []
    for count in BATCHES:
        batch = batch_of(inputs, count)
        # What is computed once and kept is there before the first recording, and so in none.
        function(*batch)
    for count in BATCHES:
        graphs.append(_recorded(function, batch_of(inputs, count), decompositions or {}))
    module = _for_any_batch(graphs[0], graphs[1], input_names)
    _compute_constants(module)
    _refuse_random(module.graph)
    return module


def _recorded(
    function: Function, batch: tuple[Tensor, ...], decompositions: Mapping[Any, Any]
) -> GraphModule:
    """The function's operations at one batch size, none of which writes into a tensor."""
    with PROBING, _plain_attention():
        recorded = make_fx(
            lambda *tensors: dict(function(*tensors)),
            tracing_mode="real",
            _allow_non_fake_inputs=True,
            _error_on_data_dependent_ops=False,
            record_stack_traces=True,
        )(*batch)
    _refuse_decisions(recorded.graph)
    _drop_dead(recorded.graph)
    recorded.recompile()
    with torch.no_grad():
        functional = make_fx(
            torch.func.functionalize(recorded, remove="mutations"),
            decomposition_table=dict(decompositions),
            tracing_mode="real",
            _allow_non_fake_inputs=True,
        )(*batch)
    _drop_dead(functional.graph)
    return functional


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention as matrix products and softmax: fused kernels have no form outside torch."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _batch_of(tensor: Tensor, count: int) -> Tensor:
    places = torch.arange(count, device=tensor.device)
    batch = tensor.detach()[places % len(tensor)]
    if not batch.is_floating_point():
        return batch
    # Repeated images are dimmed, so that mixing up images does not go unseen.
    factors = 1 - 0.07 * (places // len(tensor))
    return batch * factors.to(batch.dtype).reshape(-1, *[1] * (batch.dim() - 1))


def _refuse_decisions(graph: Graph) -> None:
    """Refuse a value that Python read: what it decided would hold for the example alone."""
    for node in graph.nodes:
        tags = getattr(node.target, "tags", ())
        dynamic = torch.Tag.dynamic_output_shape in tags and not _places_alone(node)
        if torch.Tag.data_dependent_output in tags or dynamic:
            raise NotExportableError(
                f"the operation {node.target} reads values while the model runs{_place(node)}, and "
                "what follows from them would be that of the example for every image; take out of "
                "the model what depends on values (a check such as `if x.isnan().any()`, an "
                ".item(), a boolean index), or write it with torch.where"
            )


def _places_alone(node: Node) -> bool:
    """Whether ``node`` indexes by whole numbers: as many values as places, whatever these are."""
    if node.target is not torch.ops.aten.index.Tensor:
        return False
    indices: Any = node.args[1]
    return all(i is None or i.meta["val"].dtype in (torch.int32, torch.int64) for i in indices)


def _refuse_random(graph: Graph) -> None:
    for node in graph.nodes:
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            raise NotExportableError(
                f"the operation {node.target} draws random numbers{_place(node)}, so that no file "
                "gives what eager mode gives; call model.eval(), or choose outputs and baselines "
                "that do not depend on a sample"
            )


def _place(node: Node) -> str:
    """Where in the user's code an operation was called, as far as it is known."""
    lines = [line.strip() for line in (node.stack_trace or "").splitlines()]
    places = [line for line in lines if line.startswith("File ") and "/torch/" not in line]
    return f" ({places[-1]})" if places else ""


def _drop_dead(graph: Graph) -> None:
    """Drop what no output depends on, random draws included."""

    def writes(node: Node) -> bool:
        schema = getattr(node.target, "_schema", None)
        return node.op in ("placeholder", "output") or (schema is not None and schema.is_mutable)

    graph.eliminate_dead_code(is_impure_node=writes)


def _for_any_batch(
    module: GraphModule, other: GraphModule, input_names: Sequence[str]
) -> GraphModule:
    """One graph of two that were recorded at the batch sizes of :data:`BATCHES`."""
    nodes, others = list(module.graph.nodes), list(other.graph.nodes)
    if [_kind(node) for node in nodes] != [_kind(node) for node in others]:
        raise NotExportableError(_differs(nodes, others))
    graph, root = Graph(), nn.Module()
    copies: dict[Node, Node] = {}
    counterpart = dict(zip(others, nodes, strict=True))
    batch: dict[tuple[int, int], Any] = {}
    names = iter(input_names)
    first: Any = None

    def number(one: Any, two: Any, node: Node) -> Any:
        """A leaf of an operation's arguments, for any batch size."""
        if isinstance(one, Node):
            if not isinstance(two, Node) or counterpart.get(two) != one:
                raise NotExportableError(_differs([node], [node]))
            return copies[one]
        same = type(one) is type(two) and one == two
        if same or (isinstance(one, float) and one != one and two != two):
            return one
        whole = type(one) is int and type(two) is int
        slope, rest = divmod(two - one, BATCHES[1] - BATCHES[0]) if whole else (0, 1)
        if rest:
            raise NotExportableError(
                f"the operation {node.target}{_place(node)} takes {one} for {BATCHES[0]} "
                f"images and {two} for {BATCHES[1]}: the model does not treat images one by one"
            )
        return batch_number(slope, one - slope * BATCHES[0])

    def batch_number(slope: int, constant: int) -> Any:
        """``slope * B + constant`` as a node of the graph."""
        if (slope, constant) not in batch:
            if (slope, constant) == (1, 0):
                made = graph.call_function(torch.ops.aten.sym_size.int, (first, 0))
            elif constant == 0:
                made = graph.call_function(operator.mul, (batch_number(1, 0), slope))
            else:
                made = graph.call_function(operator.add, (batch_number(slope, 0), constant))
            batch[slope, constant] = made
        return batch[slope, constant]

    for node, twin in zip(nodes, others, strict=True):
        if node.op == "placeholder":
            copies[node] = graph.placeholder(next(names))
            first = copies[node] if first is None else first
        elif node.op == "get_attr":
            value, same = _attribute(module, node), _attribute(other, twin)
            if value.shape != same.shape or not torch.equal(value, same):
                raise NotExportableError(
                    "a tensor that the model makes of numbers differs between batches of "
                    f"{BATCHES[0]} and {BATCHES[1]} images: {tuple(value.shape)} and "
                    f"{tuple(same.shape)}{_place(node)}"
                )
            name = f"constant_{len(list(root.buffers()))}"
            root.register_buffer(name, value.detach())
            copies[node] = graph.get_attr(name)
        else:
            args, spec = pytree.tree_flatten((node.args, node.kwargs))
            twins, twin_spec = pytree.tree_flatten((twin.args, twin.kwargs))
            if spec != twin_spec:
                raise NotExportableError(_differs([node], [twin]))
            leaves = [number(a, b, node) for a, b in zip(args, twins, strict=True)]
            made_args, made_kwargs = pytree.tree_unflatten(leaves, spec)
            if node.target in _VIEWS:
                made_args = (made_args[0], _with_open_size(made_args[1]))
            copies[node] = graph.create_node(node.op, node.target, made_args, made_kwargs)
            copies[node].meta = {"val": node.meta.get("val")}
            copies[node].stack_trace = node.stack_trace
    return GraphModule(root, graph)


def _with_open_size(sizes: Sequence[Any]) -> list[Any]:
    """Sizes of a view: where one alone depends on the batch, it follows from the others."""
    open_ones = [place for place, size in enumerate(sizes) if isinstance(size, Node)]
    found = list(sizes)
    if len(open_ones) == 1 and 0 not in sizes and -1 not in sizes:
        found[open_ones[0]] = -1
    return found


def _kind(node: Node) -> tuple[str, Any]:
    return node.op, "" if node.op in ("placeholder", "get_attr", "output") else node.target


def _attribute(module: GraphModule, node: Node) -> Tensor:
    value: Any = module
    for name in str(node.target).split("."):
        value = getattr(value, name)
    return value  # type: ignore[no-any-return]


def _differs(nodes: Sequence[Node], others: Sequence[Node]) -> str:
    for node, other in zip(nodes, others, strict=False):
        if _kind(node) != _kind(other):
            break
    else:
        node = nodes[min(len(nodes), len(others)) - 1]
    return (
        f"the model runs other operations for {BATCHES[0]} images than for {BATCHES[1]}, first at "
        f"{node.target}{_place(node)}: a loop over the images of a batch, or a choice by their "
        "number; write it as one operation on the batch"
    )


def _compute_constants(module: GraphModule) -> None:
    """Compute what depends on no input, once and for all, unless that would only take space."""
    values: dict[Node, Any] = {}
    leaves: dict[Node, frozenset[Node]] = {}
    for node in module.graph.nodes:
        if node.op == "get_attr":
            values[node], leaves[node] = _attribute(module, node), frozenset([node])
        elif node.op == "call_function" and all(n in values for n in node.all_input_nodes):
            if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
                continue
            if node.target is torch.ops.aten.sym_size.int:
                continue
            args, kwargs = pytree.tree_map(
                lambda leaf: values[leaf] if isinstance(leaf, Node) else leaf,
                (node.args, node.kwargs),
            )
            with torch.no_grad():
                values[node] = node.target(*args, **kwargs)
            leaves[node] = frozenset().union(*(leaves[n] for n in node.all_input_nodes))
    for node, value in values.items():
        if node.op == "get_attr" or not isinstance(value, Tensor):
            continue
        if all(user in values for user in node.users):
            continue
        held = sum(values[leaf].numel() for leaf in leaves[node])
        if value.numel() > max(held, _SMALL):
            continue
        name = f"computed_{len(list(module.buffers()))}"
        module.register_buffer(name, value.detach().clone())
        with module.graph.inserting_before(node):
            constant = module.graph.get_attr(name)
        node.replace_all_uses_with(constant)
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    used = {node.target for node in module.graph.nodes if node.op == "get_attr"}
    for name in [name for name, _ in module.named_buffers() if name not in used]:
        delattr(module, name)
    module.recompile()
