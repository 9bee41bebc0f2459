"""VAEs inside DataParallel, DistributedDataParallel, torch.compile and LightningModules."""

import pytest
import torch
from torch import distributed, nn

from captum_vae import DecoderAttribution, LatentGradCAM
from tests.attr.toys import ToyVAE, assert_equal
from tests.packages.by_autograd import grad_cam, jacobian


@pytest.fixture
def vae():
    torch.manual_seed(0)
    return ToyVAE()


@pytest.fixture
def group(tmp_path):
    """A process group of this process alone."""
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def assert_explained(wrapped, vae):
    """Layers by name, from the model inside and from the wrapper give autograd's maps."""
    x = vae.images(2)
    wanted = grad_cam(lambda x: vae.encode(x)[0], vae.conv2, x)
    assert_equal(LatentGradCAM(wrapped, "conv2").attribute(x), wanted)
    assert_equal(LatentGradCAM(wrapped, vae.conv2).attribute(x), wanted)
    written = DecoderAttribution(wrapped).attribute(x)
    mean = vae.encode(x)[0].detach()
    assert_equal(written, jacobian(vae.decode, mean).movedim(-1, 1).mean(2))


def test_data_parallel(vae):
    wrapped = nn.DataParallel(vae)
    assert_explained(wrapped, vae)
    x = vae.images(2)
    with_devices = LatentGradCAM(wrapped, wrapped.module.conv2, device_ids=[0]).attribute(x)
    assert_equal(with_devices, LatentGradCAM(vae, "conv2").attribute(x))


def test_distributed_data_parallel(vae, group):
    assert_explained(nn.parallel.DistributedDataParallel(vae), vae)


@pytest.mark.slow
def test_a_compiled_model_that_has_run(vae):
    """torch.compile's hooks cannot see features: the eager module inside runs instead."""
    compiled = torch.compile(vae, backend="aot_eager")
    compiled(vae.images(2))
    assert_explained(compiled, vae)
    x = vae.images(2)
    by_wrapper = LatentGradCAM(compiled, compiled.conv2).attribute(x)
    assert_equal(by_wrapper, LatentGradCAM(vae, "conv2").attribute(x))


def test_a_compiled_model_that_has_not_run_yet(vae):
    assert_explained(torch.compile(vae, backend="eager"), vae)


def test_a_lightning_module_around_a_vae(vae):
    lightning = pytest.importorskip("lightning")

    class Training(lightning.LightningModule):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def training_step(self, batch, index):
            return self.model(batch)[0].square().mean()

    assert_explained(Training(vae), vae)


def test_a_lightning_module_that_is_the_vae(vae):
    lightning = pytest.importorskip("lightning")

    class Own(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.vae = vae

        def encode(self, x):
            return self.vae.encode(x)

        def decode(self, z):
            return self.vae.decode(z)

        def forward(self, x):
            return self.vae(x)

    model, x = Own(), vae.images(2)
    found = LatentGradCAM(model, "vae.conv2").attribute(x)
    assert_equal(found, grad_cam(lambda x: vae.encode(x)[0], vae.conv2, x))
    assert_equal(DecoderAttribution(model).attribute(x), DecoderAttribution(vae).attribute(x))


def test_wrappers_within_wrappers(vae, group):
    lightning = pytest.importorskip("lightning")
    fabric = lightning.Fabric(accelerator="cpu", devices=1)
    assert_explained(nn.DataParallel(torch.compile(fabric.setup_module(vae), backend="eager")), vae)
