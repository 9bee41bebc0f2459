"""Cotangents taken from the codes down a recorded path, and tangents taken up it.

alpha[b, t, k] is one number of c' J v: c picks code t, v is "one everywhere in channel k", and J is
the product of the derivatives of all operations between. Taken from the left it costs T cotangents
through every operation (reverse mode), from the right K tangents (forward mode). Both stop and
start at the values that a region behind the features hands on, which has a closed form.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor
from torch.autograd.graph import Node

from captum_vae.attr.engine.derivatives import (
    Derivative,
    Input,
    Recorded,
    can_be_called,
    derivative_of,
)
from captum_vae.attr.engine.graph import AutogradPath
from captum_vae.attr.engine.operations import metadata_of
from captum_vae.attr.engine.vectors import Vectors

Edge = tuple[Node, int]


class Propagation:
    """The derivatives of the operations on a path, in the order in which they ran.

    Args:
        path: From features to codes.
        below: Operations left out: what lies between the features and where this starts.
        from_features: Whether this starts at the features themselves.
    """

    def __init__(
        self, path: AutogradPath, below: Collection[Node] = (), *, from_features: bool = True
    ) -> None:
        """Look at no operation yet."""
        self.path = path
        self.nodes = [node for node in path.nodes if node not in below]
        self._known = set(self.nodes)
        self._from_features = from_features

    @property
    def possible(self) -> bool:
        """Whether every operation's derivative can be asked for."""
        devices = {meta.device for node in self.nodes for meta in metadata_of(node)}
        return bool(self.nodes) and len(devices) == 1 and all(map(can_be_called, self.nodes))

    @property
    def formulas(self) -> bool:
        """Whether an operation is not written out, but known by autograd's own formula alone."""
        return any(
            type(operation) is Recorded
            for operation in self.operations.values()
            if operation.inputs
        )

    def cotangents(
        self, codes: Tensor, dims: Sequence[int], wanted: Collection[Edge]
    ) -> dict[Edge, Vectors]:
        """Derivatives of T codes, summed over the batch, with respect to values on the path.

        Args:
            codes: (B, D), where the path ends.
            dims: The codes wanted, T of them.
            wanted: The values.
        """
        pending: dict[Edge, Vectors] = {self.path.end: one_hot(codes, dims)}
        found = {}
        for node in reversed(self.nodes):
            cotangents = {}
            for number in range(len(metadata_of(node))):
                vectors = pending.pop((node, number), None)
                if vectors is None:
                    continue
                cotangents[number] = vectors
                if (node, number) in wanted:
                    vectors = replace(vectors, own=False)
                    cotangents[number] = found[node, number] = vectors
            operation = self.operations[node]
            if not cotangents or not operation.inputs:
                continue
            for taken, vectors in zip(
                operation.inputs, operation.transposed(cotangents), strict=True
            ):
                if vectors is not None:
                    vectors = vectors.to(taken.dtype)
                    known = pending.get(taken.edge)
                    pending[taken.edge] = vectors if known is None else known + vectors
        found.update({edge: pending[edge] for edge in wanted if edge in pending})
        return found

    def tangents(
        self, starts: Mapping[Edge, Vectors], wanted: Collection[Edge]
    ) -> dict[Edge, Vectors]:
        """Derivatives of values on the path along T directions.

        Args:
            starts: The directions at the values where the path starts; at the output of an
                operation, what it takes from below adds to it.
            wanted: The values.
        """
        uses = Counter(i.edge for node in self.nodes for i in self.operations[node].inputs)
        uses.update(wanted)
        known = {
            (node, number): vectors.to(metadata_of(node)[number].dtype)
            for (node, number), vectors in starts.items()
        }
        for node in self.nodes:
            operation = self.operations[node]
            taken = {
                i.slot: replace(known[i.edge], own=known[i.edge].own and uses[i.edge] == 1)
                for i in operation.inputs
                if i.edge in known
            }
            for number, vectors in (operation.pushed(taken) if taken else {}).items():
                edge = (node, number)
                vectors = vectors.to(metadata_of(node)[number].dtype)
                known[edge] = known[edge] + vectors if edge in known else vectors
            del taken
            for i in operation.inputs:  # the last use of a value frees it
                uses[i.edge] -= 1
                if not uses[i.edge]:
                    known.pop(i.edge, None)
        return {edge: known[edge] for edge in wanted if edge in known}

    @cached_property
    def operations(self) -> dict[Node, Derivative]:
        """Every operation's derivative with respect to what is not left out."""
        return {node: derivative_of(node, list(self._inputs(node))) for node in self.nodes}

    def _inputs(self, node: Node) -> Iterator[Input]:
        for slot, child, number in self.path.inputs_on_path(node):
            at_features = self.path.is_features(child, number)
            if child in self._known or (self._from_features and at_features):
                metadata = metadata_of(child)[number]
                yield Input(slot, (child, number), tuple(metadata.shape), metadata.dtype)


def one_hot(codes: Tensor, dims: Sequence[int]) -> Vectors:
    """The codes picked, the same for every image: T of (B, D)."""
    width = codes.shape[1]
    every = torch.eye(width, dtype=codes.dtype, device=codes.device)
    if list(dims) != list(range(width)):
        every = torch.stack([every[dim] for dim in dims])  # no index is sent to the device
    return Vectors(every[:, None], tuple(codes.shape))
