"""Peak memory of a call, counted rather than sampled."""

from collections.abc import Callable

import torch
from torch.autograd.profiler import profile


def peak_bytes(call: Callable[[], object], device: str = "cpu") -> int:
    """Most bytes of tensors alive at one moment of ``call``, on top of what was alive before it.

    On a CUDA device this is ``max_memory_allocated``. On the CPU PyTorch's own allocator reports
    every allocation and release, temporaries inside operations included, to the profiler, and the
    running sum is exact; only what libraries take past that allocator is missed. The profiler
    slows the call down, so it must not be timed.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(use_kineto=True, profile_memory=True) as profiled:
        call()
    assert profiled.kineto_results is not None
    events = [e for e in profiled.kineto_results.events() if e.name() == "[memory]"]
    alive = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    return peak
