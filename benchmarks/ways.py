"""The ways to attention maps that are compared, each at its best.

Every way is prepared once for a case (a Captum or captum_vae object is built once, as users do) and
then called with the latent dimensions wanted. It runs the encoder only (no decoder) and returns
maps at feature resolution: method 1 as (B, T, h, w) for T latent dimensions, method 2 as
(B, 1, h, w). None but ``published_loop`` computes gradients of the model's weights.
"""

import importlib.util
from collections.abc import Callable, Sequence

import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn

from benchmarks.settings import Case
from captum_vae import LatentGradCAM, MeanSumGradCAM

Call = Callable[[Sequence[int]], Tensor]
Way = Callable[[Case], Call]


def method2_autograd(case: Case) -> Call:
    """The published method 2: one forward, one backward of the summed mean to the features."""

    def call(dims: Sequence[int]) -> Tensor:
        mean, features = _forward(case)
        (gradient,) = torch.autograd.grad(mean[:, list(dims)].sum(), features)
        return _maps(gradient.flatten(2).mean(2)[:, None], features)

    return call


def method2(case: Case) -> Call:
    """Ours: ``MeanSumGradCAM``."""
    cam = MeanSumGradCAM(case.vae, case.layer)
    return lambda dims: cam.attribute(case.images, target=_target(case, dims))


def method1(case: Case) -> Call:
    """Ours: ``LatentGradCAM``."""
    cam = LatentGradCAM(case.vae, case.layer)
    return lambda dims: cam.attribute(case.images, target=_target(case, dims))


def batched_vjp(case: Case) -> Call:
    """One forward, one batched vector-Jacobian product over all dimensions at once."""

    def call(dims: Sequence[int]) -> Tensor:
        mean, features = _forward(case)
        picks = torch.zeros(len(dims), *mean.shape, dtype=mean.dtype, device=mean.device)
        picks[torch.arange(len(dims)), :, list(dims)] = 1
        (gradients,) = torch.autograd.grad(mean, features, picks, is_grads_batched=True)
        return _maps(gradients.flatten(3).mean(3).transpose(0, 1), features)

    return call


def autograd_loop(case: Case) -> Call:
    """One forward, one ``torch.autograd.grad`` to the features per dimension."""

    def call(dims: Sequence[int]) -> Tensor:
        mean, features = _forward(case)
        alphas = []
        for d in dims:
            (gradient,) = torch.autograd.grad(mean[:, d].sum(), features, retain_graph=True)
            alphas.append(gradient.flatten(2).mean(2))
        return _maps(torch.stack(alphas, 1), features)

    return call


def captum_loop(case: Case) -> Call:
    """Captum's ``LayerGradCam`` on the wrapped encoder, once per dimension."""
    cam = LayerGradCam(lambda images: case.vae.encode(images)[0], case.layer)
    options = {"relu_attributions": True}
    return lambda dims: torch.cat(
        [cam.attribute(case.images, target=d, **options).detach() for d in dims], 1
    )


def published_loop(case: Case) -> Call:
    """The loop of the published codes: one forward, then ``zero_grad`` and ``backward`` per code.

    Hooks keep the layer's features and their gradient. Every backward also fills the gradients of
    all the encoder's weights, which nobody reads. The published forward runs the decoder as well;
    this one does not.
    """

    def call(dims: Sequence[int]) -> Tensor:
        gradients: list[Tensor] = []
        mean, features = _forward(case)
        features.register_hook(gradients.append)
        maps = []
        for d in dims:
            case.vae.zero_grad()
            gradients.clear()
            one_hot = torch.zeros_like(mean)
            one_hot[:, d] = 1
            mean.backward(one_hot, retain_graph=True)
            alpha = gradients[0].mean((2, 3), keepdim=True)
            maps.append((alpha * features).sum(1, keepdim=True).relu().detach())
        case.vae.zero_grad()
        return torch.cat(maps, 1)

    return call


def forward_mode(case: Case) -> Call:
    """Forward mode: one tangent per channel, one everywhere in it, gives all dimensions at once.

    The layers below run once, and those from the features on under ``torch.func.jvp``, batched over
    as many channels as fit 64 MiB.
    """

    def call(dims: Sequence[int]) -> Tensor:
        with torch.no_grad():
            features = _features(case)
        shape = features.shape
        own = torch.eye(shape[1], dtype=features.dtype, device=features.device)
        step = max(1, 2**24 // features.numel())

        def codes(given: Tensor) -> Tensor:
            handle = case.layer.register_forward_hook(lambda _m, _i, _o: given)
            try:
                return case.vae.encode(case.images)[0][:, list(dims)]
            finally:
                handle.remove()

        def along(tangent: Tensor) -> Tensor:
            tangent = tangent[None, :, None, None].expand(shape)
            made: Tensor = torch.func.jvp(codes, (features,), (tangent,))[1]
            return made

        with torch.no_grad():
            parts = [torch.vmap(along)(some) for some in own.split(step)]
        return _maps(torch.cat(parts).permute(1, 2, 0) / shape[2:].numel(), features)

    return call


def pytorch_grad_cam_loop(case: Case) -> Call:
    """pytorch-grad-cam's ``GradCAM`` once per dimension: maps at image size, scaled to [0, 1]."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model = _MeanAlone(case)

    def call(dims: Sequence[int]) -> Tensor:
        with GradCAM(model, [case.layer]) as cam:  # its hooks stay on the layer until it is left
            rows = [cam(case.images, [ClassifierOutputTarget(d)] * len(case.images)) for d in dims]
        case.vae.zero_grad()
        return torch.stack([torch.from_numpy(row) for row in rows], 1)

    return call


def torch_cam_loop(case: Case) -> Call:
    """torch-cam's ``GradCAM``: one forward, then one backward per dimension."""
    from torchcam.methods import GradCAM

    model = _MeanAlone(case)

    def call(dims: Sequence[int]) -> Tensor:
        with GradCAM(model, case.layer) as cam:
            scores = model(case.images)
            rows = [cam(d, scores, normalized=False, retain_graph=True)[0] for d in dims]
        case.vae.zero_grad()
        return torch.stack(rows, 1).detach()

    return call


WAYS: dict[str, Way] = {
    "method2_autograd": method2_autograd,
    "method2": method2,
    "method1": method1,
    "batched_vjp": batched_vjp,
    "autograd_loop": autograd_loop,
    "forward_mode": forward_mode,
    "captum_loop": captum_loop,
    "pytorch_grad_cam_loop": pytorch_grad_cam_loop,
    "torch_cam_loop": torch_cam_loop,
    "published_loop": published_loop,
}
PEERS = {"pytorch_grad_cam_loop": "pytorch_grad_cam", "torch_cam_loop": "torchcam"}
"""Ways that need a package which is not among the requirements, with its module."""
OWN_SCALE = ("pytorch_grad_cam_loop",)
"""Ways whose maps are scaled between 0 and 1 and enlarged, so that values cannot be compared."""
LOOPS = (
    "autograd_loop",
    "captum_loop",
    "pytorch_grad_cam_loop",
    "torch_cam_loop",
    "published_loop",
)
SUMMED = ("method2_autograd", "method2")


def missing(name: str) -> str | None:
    """Why a way cannot run here; None where it can."""
    module = PEERS.get(name)
    if module is None or importlib.util.find_spec(module) is not None:
        return None
    return f"{module} is not installed"


def prepare(name: str, case: Case) -> Call:
    """One way, ready to be called with latent dimensions, in the case's precision."""
    call = WAYS[name](case)

    def in_precision(dims: Sequence[int]) -> Tensor:
        with case.precision():
            return call(dims)

    return in_precision


def plan_of(case: Case) -> str:
    """Which path of the engine method 1 takes."""
    with case.precision():
        return LatentGradCAM(case.vae, case.layer).explain_plan(case.images)[0].path


def _forward(case: Case) -> tuple[Tensor, Tensor]:
    """Mean (B, D) and features (B, K, h, w) in one graph."""
    kept: list[Tensor] = []
    handle = case.layer.register_forward_hook(lambda _m, _i, output: kept.append(output))
    try:
        mean = case.vae.encode(case.images)[0]
    finally:
        handle.remove()
    return mean, kept[0]


def _features(case: Case) -> Tensor:
    """Features (B, K, h, w) of a call of the encoder."""
    return _forward(case)[1]


class _MeanAlone(nn.Module):
    """The encoder as a classifier, whose scores are the posterior means."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.vae = case.vae

    def forward(self, images: Tensor) -> Tensor:
        """(B, D)."""
        mean: Tensor = self.vae.encode(images)[0]
        return mean


def _maps(alpha: Tensor, features: Tensor) -> Tensor:
    with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
        flat = features.flatten(2).float()
        return (alpha.float() @ flat).relu().reshape(*alpha.shape[:2], *features.shape[2:])


def _target(case: Case, dims: Sequence[int]) -> list[int] | None:
    return None if len(dims) == case.vae.latent_dims else list(dims)
