"""The part of an autograd graph that lies between features and latent codes.

The graph records what the forward really did, whatever the modules are called and whatever was
functional, hooked or wrapped.
"""

from __future__ import annotations

from torch import Tensor
from torch.autograd.graph import GradientEdge, Node
from torch.nn import Module

from captum_vae.attr.engine.layers import describe
from captum_vae.attr.engine.operations import (
    ORDER_PRESERVING,
    SELECTIONS,
    SUMS,
    shape_of,
    touches_batch,
)


class AutogradPath:
    """The part of an autograd graph that lies between features and codes."""

    def __init__(self, codes: Tensor, features: GradientEdge) -> None:
        """Walk the graph of ``codes``, stopping at the edge of ``features``."""
        self.features = features
        self.root = codes.grad_fn
        self._output = codes.output_nr
        self._on_path: set[Node] = set()
        self.nodes: list[Node] = []
        """Every node between features and codes, children before parents."""
        if self.root is not None and not self.is_features(self.root, codes.output_nr):
            self._walk(self.root)

    @property
    def source(self) -> tuple[Node, int]:
        """The features: a node and the number of its output."""
        return self.features.node, self.features.output_nr

    @property
    def end(self) -> tuple[Node, int]:
        """The codes: a node and the number of its output."""
        assert self.root is not None
        return self.root, self._output

    @property
    def connected(self) -> bool:
        """Whether the codes depend on the features at all."""
        return bool(self.nodes)

    def inputs_on_path(self, node: Node) -> list[tuple[int, Node, int]]:
        """(slot, child, output number) of each input of ``node`` that depends on the features."""
        found = []
        for slot, (child, number) in enumerate(node.next_functions):
            if child is not None and (self.is_features(child, number) or child in self._on_path):
                found.append((slot, child, number))
        return found

    def is_constant(self, batch: int) -> bool:
        """Whether codes are picked or summed from the features' values of their own sample.

        Then d codes / d features is the same for every sample, and depends on nothing.
        """
        return all(
            shape_of(node, 0)[:1] == (batch,)
            and (
                node.name() in ORDER_PRESERVING
                or (node.name() in SELECTIONS | SUMS and not touches_batch(node))
            )
            for node in self.nodes
        )

    def is_features(self, node: Node, number: int) -> bool:
        """Whether this is the edge of the features themselves."""
        return node is self.features.node and number == self.features.output_nr

    def _walk(self, root: Node) -> None:
        seen = {root}
        stack = [(root, iter(root.next_functions))]
        while stack:
            node, children = stack[-1]
            for child, _ in children:
                if child is not None and child is not self.features.node and child not in seen:
                    seen.add(child)
                    stack.append((child, iter(child.next_functions)))
                    break
            else:
                stack.pop()
                if self.inputs_on_path(node):
                    self._on_path.add(node)
                    self.nodes.append(node)


def off_path(layer: Module, codes: Tensor | None = None) -> Exception:
    """The error for a layer on which the posterior does not depend.

    Args:
        layer: The layer.
        codes: What should depend on it, which may show that the model forbids gradients.
    """
    if codes is not None and codes.is_inference():
        return RuntimeError(
            f"the model runs what lies behind layer {describe(layer)} under "
            "torch.inference_mode(), where no gradients exist; use torch.no_grad() in the model "
            "instead, which is no hindrance"
        )
    return ValueError(
        f"layer {describe(layer)} is not on the path to the posterior: its features do not change "
        "it, or a detach or no_grad in the model, or a checkpoint with use_reentrant=True, hides "
        "that they do (use_reentrant=False does not); choose an encoder layer"
    )
