"""The state of K Adams as that of one over stacked weights, and back."""

from collections.abc import Sequence

import torch
from torch.optim import Optimizer


def stack_adam(stacked: Optimizer, singles: Sequence[Optimizer]) -> None:
    """Give a stacked Adam the moments of K Adams; nothing where they have none yet."""
    parameters = stacked.param_groups[0]["params"]
    of_singles = [optimizer.param_groups[0]["params"] for optimizer in singles]
    for place, parameter in enumerate(parameters):
        states = [
            optimizer.state[single[place]]
            for optimizer, single in zip(singles, of_singles, strict=True)
        ]
        if not all(states):
            continue
        stacked.state[parameter] = {
            "step": states[0]["step"].detach().clone(),
            **{
                name: torch.empty_like(parameter).copy_(torch.stack([s[name] for s in states]))
                for name in ("exp_avg", "exp_avg_sq")
            },
        }


def unstack_adam(stacked: Optimizer, singles: Sequence[Optimizer]) -> None:
    """Give K Adams the moments of a stacked one."""
    for place, parameter in enumerate(stacked.param_groups[0]["params"]):
        state = stacked.state[parameter]
        if not state:
            continue
        for copy, optimizer in enumerate(singles):
            own = optimizer.param_groups[0]["params"][place]
            optimizer.state[own] = {
                "step": state["step"].detach().clone(),
                **{
                    name: torch.empty_like(own).copy_(state[name][copy])
                    for name in ("exp_avg", "exp_avg_sq")
                },
            }
