"""What a model computes, as a graph of tensor operations: the evidence that no batch can change.

A `Recorder` watches the operations of one call and writes them into a `Graph`. Two calls that
compute the same thing from the same inputs and parameters get the same nodes, so a tensor that
`encode` returns is recognised inside `forward` by how it is made, whatever its values are.

Many operations only rearrange numbers (views, slices, concatenations, copies). `Graph.elements`
sees through them: it numbers every scalar that an operation really computes, and gives each tensor
as an array of such numbers. Two tensors hold the same quantities where their numbers agree.
"""

from __future__ import annotations

import bisect
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

# Operations whose output holds the very numbers of their inputs; replayed on element numbers.
_REARRANGING = frozenset(
    "expand permute transpose t squeeze unsqueeze slice select split split_with_sizes unbind "
    "narrow cat stack movedim".split()
)
# The same in the order of the input, only the shape being new.
_RESHAPING = frozenset("view _unsafe_view reshape _reshape_alias flatten unflatten".split())
# The same without any change of shape.
_COPYING = frozenset("alias detach clone _to_copy contiguous lift_fresh lift_fresh_copy".split())

_NORMAL_DRAWS = frozenset({"randn", "randn_like", "normal", "normal_functional"})


@dataclass(eq=False)
class Node:
    """One tensor of a graph.

    Attributes:
        name: The operation without namespace and in-place underscore, such as ``mul``; ``leaf``
            for a tensor that the recorded calls did not make, ``number`` for a constant scalar.
        function: The operation itself, to be replayed; None for leaves.
        args: Its positional arguments, tensors replaced by their nodes.
        kwargs: Its keyword arguments, treated alike.
        index: Which output of the operation this is.
        shape: Shape of the tensor.
        parents: The nodes among the arguments.
        draws: Normal random draws that the tensor depends on.
        of_input: Whether it depends on an input of the model.
        label: Dotted name of a parameter or buffer, else "".
        value: The value of a constant scalar, else None.
    """

    name: str
    shape: tuple[int, ...]
    function: Any = None
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    index: int = 0
    parents: tuple[Node, ...] = ()
    draws: frozenset[Node] = frozenset()
    of_input: bool = False
    label: str = ""
    value: float | None = None

    @property
    def is_draw(self) -> bool:
        """Whether the tensor was drawn from a normal distribution."""
        return self.name in _NORMAL_DRAWS

    @property
    def rearranges(self) -> bool:
        """Whether it holds the very numbers of its parents."""
        return self.name in _REARRANGING or self.name in _RESHAPING or self.name in _COPYING


class Graph:
    """Nodes of every call recorded into it.

    Args:
        inputs: The model's inputs; tensors among them and in containers are leaves of the input.
        labels: Names of parameters and buffers by the id of the tensor, which must stay alive.
    """

    def __init__(self, inputs: Iterable[Any], labels: Mapping[int, str]) -> None:
        """Starts without any node."""
        self._inputs = {id(tensor) for tensor in tensors_in(tuple(inputs))}
        self._labels = labels
        self._leaves: dict[int, tuple[Tensor, Node]] = {}
        self._interned: dict[Hashable, Node] = {}
        self._elements: dict[Node, Tensor] = {}
        self._starts: list[int] = []
        self._roots: list[Node] = []
        self._end = 0

    def leaf(self, tensor: Tensor) -> Node:
        """The node of a tensor that no recorded operation made."""
        known = self._leaves.get(id(tensor))
        if known is not None:
            return known[1]
        if is_lazy(tensor):  # has no shape before the layer's first call, which makes it
            return Node("leaf", ())
        label = self._labels.get(id(tensor), "")
        of_input = id(tensor) in self._inputs
        if tensor.numel() == 1 and tensor.device.type == "cpu" and not label and not of_input:
            value = float(tensor) if not tensor.is_complex() else None
            shape = tuple(tensor.shape)
            return self._intern(("number", value, shape), Node("number", shape, value=value))
        node = Node("leaf", tuple(tensor.shape), of_input=of_input, label=label)
        self._leaves[id(tensor)] = (tensor, node)  # kept alive, so that its id stays its own
        return node

    def made(
        self,
        function: Any,
        index: int,
        shape: Sequence[int],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        draw: int | None,
    ) -> Node:
        """The node of an operation's output; `draw` numbers random operations in their call."""
        key = (str(function), index, _frozen(args), _frozen(kwargs), draw)
        if key in self._interned:
            return self._interned[key]
        parents = tuple(_nodes_in((args, tuple(kwargs.values()))))
        name = function.overloadpacket.__name__
        node = Node(
            name if name.startswith("__") else name.rstrip("_"),
            tuple(shape),
            function,
            args,
            kwargs,
            index,
            parents,
            frozenset().union(*(parent.draws for parent in parents)),
            any(parent.of_input for parent in parents),
        )
        if node.is_draw:
            node.draws |= {node}
        return self._intern(key, node)

    def elements(self, node: Node) -> Tensor:
        """The numbers of the scalars that the tensor holds, int64 in the tensor's own shape."""
        if node not in self._elements:
            self._elements[node] = self._rearranged(node) if node.rearranges else self._new(node)
        return self._elements[node]

    def origin(self, elements: Tensor) -> tuple[Node, Tensor] | None:
        """The one operation that computes all these scalars, and their places in its output.

        None where several operations computed them.
        """
        if not elements.numel():
            return None
        flat = elements.flatten()
        place = bisect.bisect_right(self._starts, int(flat.min())) - 1
        root, start = self._roots[place], self._starts[place]
        offsets = flat - start
        size = self._elements[root].numel()
        return (root, offsets) if int(offsets.max()) < size else None

    def roots(self, node: Node) -> set[Node]:
        """The operations whose outputs the tensor's numbers may come from."""
        found, open_nodes, seen = set(), [node], {node}
        while open_nodes:
            current = open_nodes.pop()
            if not current.rearranges:
                found.add(current)
                continue
            fresh = [parent for parent in current.parents if parent not in seen]
            seen.update(fresh)
            open_nodes += fresh
        return found

    def _rearranged(self, node: Node) -> Tensor:
        if node.name in _COPYING:
            return self.elements(node.parents[0])
        if node.name in _RESHAPING:
            return self.elements(node.parents[0]).reshape(node.shape)
        args, kwargs = self._with_elements(node.args), self._with_elements(dict(node.kwargs))
        output = node.function(*args, **kwargs)
        result: Tensor = output[node.index] if isinstance(output, tuple | list) else output
        return result

    def _with_elements(self, value: Any) -> Any:
        if isinstance(value, Node):
            return self.elements(value)
        if isinstance(value, tuple | list):
            return type(value)(self._with_elements(item) for item in value)
        if isinstance(value, dict):
            return {name: self._with_elements(item) for name, item in value.items()}
        return value

    def _new(self, node: Node) -> Tensor:
        count = int(torch.Size(node.shape).numel())
        numbers = torch.arange(self._end, self._end + count, device="cpu").reshape(node.shape)
        self._starts.append(self._end)
        self._roots.append(node)
        self._end += max(count, 1)
        return numbers

    def _intern(self, key: Hashable, node: Node) -> Node:
        return self._interned.setdefault(key, node)


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes the operations of this thread's block into a graph.

    Attributes:
        nodes: Nodes of the block in the order in which they were computed.
    """

    def __init__(self, graph: Graph) -> None:
        """Records nothing before it is entered."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.nodes: list[Node] = []
        self._graph = graph
        self._node_of: Any = WeakTensorKeyDictionary()
        self._draws = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Spare the first call four seconds: True would import the compiler."""
        return False

    def node(self, tensor: Tensor) -> Node:
        """The node of a tensor that the block used or made."""
        found: Node | None = self._node_of.get(tensor)
        return self._graph.leaf(tensor) if found is None else found

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run the operation and remember what it made."""
        kwargs = kwargs or {}
        output = function(*args, **kwargs)
        is_random = torch.Tag.nondeterministic_seeded in function.tags
        self._draws += is_random
        written = [
            tensor
            for argument, tensor in zip(function._schema.arguments, args, strict=False)
            if argument.alias_info is not None and argument.alias_info.is_write
            for tensor in tensors_in(tensor)
        ]
        given, named = self._with_nodes(args), self._with_nodes(kwargs)
        outputs = output if isinstance(output, tuple | list) else (output,)
        for index, tensor in enumerate(outputs):
            if isinstance(tensor, Tensor):
                draw = self._draws if is_random else None
                node = self._graph.made(function, index, tensor.shape, given, named, draw)
                self._node_of[tensor] = node
                self.nodes.append(node)
        for tensor in written:
            # What shares memory with a tensor that was written holds numbers unknown from here on.
            if tensor._base is not None:
                self._node_of[tensor._base] = Node(
                    "written", tuple(tensor._base.shape), of_input=True
                )
        return output

    def _with_nodes(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self.node(value)
        if isinstance(value, tuple | list):
            return tuple(self._with_nodes(item) for item in value)
        if isinstance(value, dict):
            return {name: self._with_nodes(item) for name, item in value.items()}
        return value


def tensors_in(value: Any) -> list[Tensor]:
    """Every tensor in nested tuples, lists and mappings."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        return [tensor for item in value for tensor in tensors_in(item)]
    return []


def _nodes_in(value: Any) -> list[Node]:
    if isinstance(value, Node):
        return [value]
    if isinstance(value, tuple | list):
        return [node for item in value for node in _nodes_in(item)]
    return []


def _frozen(value: Any) -> Hashable:
    if isinstance(value, Node):
        return value
    if isinstance(value, tuple | list):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, Mapping):
        return tuple((name, _frozen(item)) for name, item in value.items())
    return repr(value)
