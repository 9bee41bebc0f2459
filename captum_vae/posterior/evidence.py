"""What a model's computation says of its outputs: three kinds of evidence, each true of any batch.

1. How z is drawn. Where the model adds a scaled normal draw to a tensor, z = m + s * noise, then m
   is the posterior mean and s its standard deviation (Kingma and Welling 2014, section 2.4); an
   output that is m, or of which s is made as exp(output / 2), has its role by that.
2. Which layer made it: `fc_mu`, `to_mean`, `head.log_var`.
3. What is decoded. Where no noise is added the reconstruction depends on the mean and not on the
   spread.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from captum_vae.posterior.reading import Half, Path, Spread
from captum_vae.posterior.trace import Graph, Node


@dataclass(frozen=True, eq=False)
class Part:
    """A tensor of a call's output, or one of the two halves of its dim 1.

    Attributes:
        path: Where it is in the output.
        shape: Its shape.
        node: How the whole tensor was computed.
        graph: Where that is recorded.
    """

    path: Path
    shape: tuple[int, ...]
    node: Node
    graph: Graph

    @property
    def elements(self) -> Tensor:
        """The scalars that it holds, see `Graph.elements`."""
        whole = self.graph.elements(self.node)
        half = self.path[-1] if self.path else None
        return whole.chunk(2, dim=1)[half.value] if isinstance(half, Half) else whole

    @property
    def key(self) -> bytes:
        """Equal for parts that hold the same scalars in any order or number of copies."""
        return _key(self.elements)

    def holds(self, elements: Tensor) -> bool:
        """Whether it holds exactly these scalars, in any order or number of copies."""
        return math.prod(self.shape) <= elements.numel() and self.key == _key(elements)

    def halves(self) -> tuple[Part, Part] | None:
        """Its halves along dim 1; None where that is odd."""
        if self.shape[1] % 2:
            return None
        shape = (self.shape[0], self.shape[1] // 2, *self.shape[2:])
        return (
            Part((*self.path, Half.FIRST), shape, self.node, self.graph),
            Part((*self.path, Half.SECOND), shape, self.node, self.graph),
        )


@dataclass(frozen=True, eq=False)
class Sampling:
    """One z = mean + scale * noise in a model.

    Attributes:
        mean: The tensor to which the scaled noise is added.
        scale: What the standard normal noise is multiplied by; None where that is not one tensor.
    """

    mean: Node
    scale: Node | None


def samplings(nodes: Iterable[Node]) -> list[Sampling]:
    """Every place where a normal draw, scaled, is added to a tensor that depends on the input."""
    found = []
    for node in nodes:
        if node.is_draw:
            mean, scale = _parameters_of_draw(node)
            if isinstance(mean, Node) and mean.of_input:
                found.append(Sampling(mean, scale if isinstance(scale, Node) else None))
        elif node.draws and node.name in ("add", "sub"):
            terms, alpha = node.args[:2], node.kwargs.get("alpha", 1)
            found += _sum(terms[0], terms[1], factors_known=alpha == 1)
            if node.name == "add" and alpha == 1:
                found += _sum(terms[1], terms[0], factors_known=True)
        elif node.draws and node.name == "addcmul":
            mean, one, other = node.args[:3]
            scaled = _scaled(one, other)
            if scaled is not None:
                draw, factors = scaled
                known = node.kwargs.get("value", 1) == 1
                found += _sampling(mean, draw, factors if known else None)
    return found


def _sum(mean: Any, noise: Any, *, factors_known: bool) -> list[Sampling]:
    scaled = _scaled_draw(noise)
    if scaled is None:
        return []
    draw, factors = scaled
    return _sampling(mean, draw, factors if factors_known else None)


def _sampling(mean: Any, draw: Node, factors: list[Node] | None) -> list[Sampling]:
    if not isinstance(mean, Node) or not mean.of_input or draw in mean.draws:
        return []
    scale = factors[0] if factors is not None and len(factors) == 1 else None
    return [Sampling(mean, scale)]


_Scaled = tuple[Node, list[Node] | None]


def _scaled_draw(node: Any) -> _Scaled | None:
    """The draw and its factors where the node is a multiple of one normal draw; None where not.

    The factors are None where they cannot be written as a product of tensors.
    """
    if not isinstance(node, Node) or not node.draws:
        return None
    if node.is_draw:
        mean, scale = _parameters_of_draw(node)
        if isinstance(mean, Node) or mean != 0:
            return None
        if isinstance(scale, Node):
            return node, [scale]
        return node, [] if scale == 1 else None
    if node.rearranges and len(node.parents) == 1:
        return _scaled_draw(node.parents[0])
    if node.name == "mul":
        return _scaled(node.args[0], node.args[1])
    if node.name in ("neg", "div", "mm", "bmm", "matmul"):
        for parent in node.parents:
            scaled = _scaled_draw(parent)
            if scaled is not None and not (node.name == "div" and parent is not node.args[0]):
                return scaled[0], scaled[1] if node.name == "neg" else None
    return None


def _scaled(one: Any, other: Any) -> _Scaled | None:
    for noise, factor in ((one, other), (other, one)):
        scaled = _scaled_draw(noise)
        if scaled is None or (isinstance(factor, Node) and scaled[0] in factor.draws):
            continue
        draw, factors = scaled
        number = _number(factor)
        if number == 1:
            return draw, factors
        if factors is None or number is not None or not isinstance(factor, Node):
            return draw, None
        return draw, [*factors, factor]
    return None


def _parameters_of_draw(node: Node) -> tuple[Any, Any]:
    """Mean and standard deviation that a drawing operation was given: nodes or numbers."""
    if not node.name.startswith("normal"):
        return 0, 1
    given = node.args
    if "normal_" in str(node.function) or node.name == "normal_functional":
        given = given[1:]  # the tensor that is overwritten
    mean = given[0] if given else node.kwargs.get("mean", 0)
    scale = given[1] if len(given) > 1 else node.kwargs.get("std", 1)
    return mean, scale


def _number(value: Any) -> float | None:
    if isinstance(value, Node):
        return value.value
    return float(value) if isinstance(value, int | float) else None


_Form = tuple[float, tuple[str, bytes]]


def spread_of_scale(graph: Graph, part: Part, scale: Tensor) -> Spread | None:
    """What `part` is, when the standard deviation holds the elements `scale`; None if unrelated.

    Both are traced back to a common quantity B. If log scale = a B and part = b B, then
    log scale = (a / b) part: a / b = 1/2 makes the part a log-variance and 1 a log-std. If
    log part = b B, then part = scale ** (b / a): 1 makes it the std and 2 the variance.
    """
    a, base = _log_form(graph, scale.flatten())
    b, own = _value_form(graph, part.elements.flatten())
    if own == base and b:
        return {0.5: "log_variance", 1.0: "log_std"}.get(round(a / b, 6))  # type: ignore[return-value]
    b, own = _log_form(graph, part.elements.flatten())
    if own == base and a:
        return {1.0: "std", 2.0: "variance"}.get(round(b / a, 6))  # type: ignore[return-value]
    return None


def _log_form(graph: Graph, elements: Tensor) -> _Form:
    """Factor c and base B with log(quantity) = c * B."""
    origin = graph.origin(elements)
    if origin is not None:
        root, places = origin
        before = _unary_input(graph, root, places)
        if before is not None and root.name == "exp":
            return _value_form(graph, before)
        if before is not None and root.name == "sqrt":
            factor, base = _log_form(graph, before)
            return factor / 2, base
        power = _number(root.args[1]) if root.name == "pow" and len(root.args) > 1 else None
        if before is not None and power is not None:
            factor, base = _log_form(graph, before)
            return factor * power, base
    return 1.0, ("log", _key(elements))


def _value_form(graph: Graph, elements: Tensor) -> _Form:
    """Factor c and base B with quantity = c * B."""
    origin = graph.origin(elements)
    if origin is not None:
        root, places = origin
        before = _unary_input(graph, root, places)
        if before is not None and root.name == "log":
            return _log_form(graph, before)
        factor = None
        if before is not None and root.name == "neg":
            factor = -1.0
        elif before is not None and root.name in ("mul", "div"):
            numbers = [number for arg in root.args[:2] if (number := _number(arg)) is not None]
            if len(numbers) == 1 and (root.name == "mul" or _number(root.args[1])):
                factor = numbers[0] if root.name == "mul" else 1 / numbers[0]
        if before is not None and factor is not None:
            inner, base = _value_form(graph, before)
            return factor * inner, base
    return 1.0, ("value", _key(elements))


def _unary_input(graph: Graph, root: Node, places: Tensor) -> Tensor | None:
    """Elements of the one tensor of its own size that an elementwise operation works on."""
    size = math.prod(root.shape)
    inputs = [p for p in root.parents if p.of_input and math.prod(p.shape) == size]
    others = [p for p in root.parents if p.of_input and math.prod(p.shape) != size]
    if len(inputs) != 1 or others:
        return None
    return graph.elements(inputs[0]).flatten()[places]


Role = Literal["mean", "spread"]


@dataclass(frozen=True, eq=False)
class Head:
    """The layer that made a part, up to elementwise operations behind it.

    Attributes:
        name: Dotted name of the layer.
        elements: The scalars of the layer's output that the part was made of.
    """

    name: str
    elements: Tensor

    @property
    def _words(self) -> list[str]:
        """The last two parts of the name that are no numbers, the nearest first."""
        steps = self.name.partition(".parametrizations")[0].split(".")
        return [step for step in reversed(steps) if not step.isdigit()][:2]

    @property
    def role(self) -> Role | None:
        """Whether the name says mean or spread; None where it says neither or both."""
        for word in self._words:
            mean, spread = _names_mean(word), _named_spread(word) is not None
            if mean or spread:
                return None if mean and spread else "mean" if mean else "spread"
        return None

    @property
    def named_spread(self) -> Spread | None:
        """The kind of spread that the name says."""
        kinds = (_named_spread(word) for word in self._words)
        return next((kind for kind in kinds if kind is not None), None)


def head_of(graph: Graph, part: Part) -> Head | None:
    """The layer with parameters that the part comes out of; None where there is not one."""
    elements = part.elements.flatten()
    for _ in range(100):
        origin = graph.origin(elements)
        if origin is None:
            return None
        root, places = origin
        layers = {label.rpartition(".")[0] for label in _parameters(root) if "." in label}
        if layers:
            return Head(layers.pop(), elements) if len(layers) == 1 else None
        before = _unary_input(graph, root, places)
        if before is None:
            return None
        elements = before
    return None


_MATRIX_PRODUCTS = frozenset("mm addmm _addmm_activation bmm baddbmm matmul linear".split())


def dimensions_axis(graph: Graph, node: Node, *, stacked: bool) -> int:
    """The axis of a latent tensor that its layer put the latent dimensions on: 1, or the last, -1.

    A convolution puts channels on axis 1. A Linear layer puts them on the last axis, in front of
    which there may be tokens.

    Args:
        graph: Where the tensor's computation is recorded.
        node: The tensor, (B, ...) with three axes or more.
        stacked: Whether axis 1 has a mean and a log-variance, of which the mean alone counts.
    """
    elements, shape = graph.elements(node), node.shape
    if stacked:
        elements, shape = elements[:, :1], (shape[0], 1, *shape[2:])
    elements = elements.flatten()
    for _ in range(100):
        origin = graph.origin(elements)
        if origin is None:
            return 1
        root, places = origin
        if root.name in _MATRIX_PRODUCTS and len(shape) > 2:
            has_tokens = len(root.shape) > 2 or root.shape[0] != shape[0]
            return -1 if has_tokens or (shape[0], *shape[2:]) == root.shape else 1
        before = _unary_input(graph, root, places)
        if before is None:
            return 1
        elements = before
    return 1


def _parameters(root: Node) -> set[str]:
    """Labels of the leaves among its arguments, through what depends on no input."""
    found, open_nodes = set(), [p for p in root.parents if not p.of_input]
    while open_nodes:
        node = open_nodes.pop()
        if node.label:
            found.add(node.label)
        open_nodes += node.parents
    return found


def spread_by_name(graph: Graph, part: Part, head: Head) -> Spread | None:
    """What a part is by the name of its layer and the operations behind it; None if that is open.

    A layer's plain output can be negative. Called `fc_var` it is a log-variance therefore; called
    `fc_sigma` it may be a log-variance or a log-std, which stays open.
    """
    named = head.named_spread
    own = ("value", _key(head.elements))
    factor, base = _value_form(graph, part.elements.flatten())
    if base == own:
        if factor != 1 or named == "std":
            return None
        return "log_std" if named == "log_std" else "log_variance"
    factor, base = _log_form(graph, part.elements.flatten())
    if base == own:
        if named == "log_variance":
            return {0.5: "std", 1.0: "variance"}.get(factor)  # type: ignore[return-value]
        if named == "log_std":
            return {1.0: "std", 2.0: "variance"}.get(factor)  # type: ignore[return-value]
        return "std" if named == "std" or factor == 0.5 else "variance"
    return named if named in ("std", "variance") else None


def _names_mean(word: str) -> bool:
    plain = word.replace("_", "").lower()
    return bool({"mean", "means", "mu", "loc"} & set(_split(word))) or plain.endswith(
        ("mu", "mean")
    )


def _named_spread(word: str) -> Spread | None:
    plain, words = word.replace("_", "").lower(), set(_split(word))
    if re.search(r"(log|ln)(var|cov|(sigma|s|std)(2|sq))", plain) or "lv" in words:
        return "log_variance"
    if re.search(r"log(std|scale|sigma|sd)", plain):
        return "log_std"
    if {"var", "variance", "cov", "covariance"} & words or plain.endswith(("var", "variance")):
        return "variance"
    if {"std", "stddev", "sigma", "sd", "scale"} & words or plain.endswith(("std", "sigma")):
        return "std"
    return None


def _split(word: str) -> list[str]:
    return [piece.lower() for piece in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", word)]


def decoded(
    graph: Graph, reconstructions: Sequence[Node], parts: Sequence[Part]
) -> list[bool | None]:
    """For each part whether the reconstruction is computed from it; None where from some of it."""
    wanted = set().union(*(graph.roots(part.node) for part in parts))
    used = [torch.empty(0, dtype=torch.int64)]
    open_nodes, seen = list(reconstructions), set(reconstructions)
    while open_nodes:
        node = open_nodes.pop()
        for parent in node.parents:
            if not parent.of_input:
                continue
            if not node.rearranges and graph.roots(parent) & wanted:
                used.append(graph.elements(parent).flatten())
            if parent not in seen:
                seen.add(parent)
                open_nodes.append(parent)
    consumed = torch.cat(used)
    answers: list[bool | None] = []
    for part in parts:
        hit = torch.isin(part.elements, consumed)
        answers.append(None if bool(hit.any()) and not bool(hit.all()) else bool(hit.all()))
    return answers


def _key(elements: Tensor) -> bytes:
    return bytes(torch.unique(elements).numpy().tobytes())
