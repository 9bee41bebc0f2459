"""Devices and processes: Lightning Fabric starts them, and gradients are averaged here.

The model is not wrapped for data parallelism. Objectives call its parts (encode, decode, layers
under hooks, double backward), which a wrapper's forward hooks do not survive; these models are
small, so one flattened all-reduce after the backward pass costs little.
"""

import atexit
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import nn

from captum_vae.training.configuration import Accelerator, Precision

if TYPE_CHECKING:
    from lightning.fabric import Fabric


def chosen_device(accelerator: Accelerator, name: str = "device") -> torch.device:
    """The device that auto, cpu or cuda stand for here.

    Args:
        accelerator: What was asked for.
        name: What the caller calls it, for the message.

    Raises:
        ValueError: CUDA is asked for and PyTorch finds none.
    """
    found = torch.cuda.is_available()
    if accelerator == "cuda" and not found:
        raise ValueError(f"{name}='cuda', but PyTorch finds no CUDA device; use 'cpu' or 'auto'")
    return torch.device("cuda" if found and accelerator != "cpu" else "cpu")


def start_fabric(accelerator: Accelerator, precision: Precision) -> "Fabric":
    """Pick the device, join the processes that torchrun started, and set the precision.

    Raises:
        ImportError: The package lightning is not installed.
        ValueError: ``accelerator="cuda"`` without a CUDA device.
    """
    try:
        from lightning.fabric import Fabric
    except ImportError as error:
        raise ImportError("training needs lightning: pip install 'captum-vae[train]'") from error
    kind = chosen_device(accelerator, "accelerator").type
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    world = int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_WORLD_SIZE" in os.environ else 1
    fabric = Fabric(
        accelerator=kind,
        devices=local,
        num_nodes=world // local,
        strategy="ddp" if world > 1 else "auto",
        precision="bf16-mixed" if precision == "bfloat16" else "32-true",
    )
    joined = dist.is_available() and dist.is_initialized()
    fabric.launch()
    if world > 1 and not joined:
        # Threads of gloo that still run when the interpreter ends abort the process now and then.
        atexit.register(_leave)
    return fabric


def join_processes(accelerator: Accelerator, name: str = "accelerator") -> torch.device:
    """The device of this process, after it joined the others that torchrun started.

    A single process needs no lightning, whose import takes seconds and hundreds of megabytes.

    Args:
        accelerator: What was asked for.
        name: What the caller calls it, for the message.

    Raises:
        ImportError: There are several processes, and the package lightning is not installed.
        ValueError: CUDA is asked for and PyTorch finds none.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return start_fabric(accelerator, "float32").device
    return chosen_device(accelerator, name)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace the gradients by their mean over processes; nothing to do for a single one."""
    if not dist.is_initialized():
        return
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in trained:
        # Every process must reduce the same tensors, also where its own loss did not reach one.
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    means = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view_as(gradient))


def broadcast_weights(module: nn.Module) -> None:
    """Give every process the parameters and buffers of the first."""
    if dist.is_initialized():
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, src=0)


def largest(values: list[int], device: torch.device) -> list[int]:
    """Element-wise maximum over processes, so that all take the same decision."""
    if not dist.is_initialized():
        return values
    tensor = torch.tensor(values, device=device)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return [int(value) for value in tensor.tolist()]
