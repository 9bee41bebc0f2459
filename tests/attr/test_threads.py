"""Several threads on one model: every result is that of a single thread, to the bit."""

import itertools
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from captum_vae import DecoderAttribution, LatentGradCAM, MeanActivation, MeanSumGradCAM
from captum_vae.localization import LatentAttention, ReconstructionError
from tests.attr.test_leaves_no_trace import assert_unchanged, trace_of
from tests.attr.toys import ToyVAE

WEIGHTINGS = ("pooled", "elementwise", "integrated")


class NoisyDecoder(ToyVAE):
    """Decodes with noise, whose seed belongs to the process."""

    def decode(self, z):
        return super().decode(z) + 0.1 * torch.randn(len(z), *self.shape).to(z)


def jobs_of(vae, x):
    """Attributions of every weighting and kind of baseline, plain forwards, and scorers."""
    cams = [LatentGradCAM(vae, ["conv1", "act2"]), MeanSumGradCAM(vae, "conv2", of="kl")]
    normal = [MeanActivation().fit(cam, [x]) for cam in cams]
    jobs = [lambda: vae.encode(x)[0].detach()] * 4
    for (cam, mean), weighting in itertools.product(zip(cams, normal, strict=True), WEIGHTINGS):
        for baselines in (None, "reconstruction", 0.1, lambda x: x.flip(2), mean):
            jobs.append(
                lambda cam=cam, weighting=weighting, baselines=baselines: cam.attribute(
                    x, weighting=weighting, baselines=baselines, n_steps=3, size="input"
                )
            )
    jobs.append(lambda: DecoderAttribution(vae).attribute(x))
    jobs.append(lambda: LatentGradCAM(vae, "conv1").attribute(x))  # detected anew at each call
    attention = LatentAttention(vae, "conv1", weighting="integrated", baselines="mean_image")
    attention.fit([x])
    jobs.append(lambda: attention.score(x))
    jobs.append(lambda: ReconstructionError(vae).score(x))
    return jobs


def flat(result):
    return torch.cat([r.flatten() for r in (result if isinstance(result, tuple) else (result,))])


@pytest.mark.parametrize(
    ("threads", "calls"), [(8, 20), pytest.param(8, 200, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("kind", [ToyVAE, NoisyDecoder])
def test_many_threads_give_what_one_gives(kind, threads, calls):
    torch.manual_seed(0)
    vae = kind()
    x = vae.images(3)
    jobs = jobs_of(vae, x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = [flat(job()) for job in jobs]
        before, filters = trace_of(vae, x), list(warnings.filters)
        start = threading.Barrier(threads)

        def work(number):
            start.wait()
            wrong = []
            for call in range(calls):
                place = (number * 7 + call * 5) % len(jobs)
                found = flat(jobs[place]())
                if not torch.equal(found, wanted[place]):
                    wrong.append((place, float((found - wanted[place]).abs().max())))
            return wrong

        with ThreadPoolExecutor(threads) as pool:
            assert sum(pool.map(work, range(threads)), []) == []
        assert warnings.filters == filters
    assert_unchanged(before, trace_of(vae, x))


def test_a_plain_forward_is_right_while_another_thread_integrates():
    vae = ToyVAE()
    x = vae.images(2)
    wanted, done, wrong = vae.encode(x)[0], threading.Event(), []

    def forward():
        while not done.is_set():
            if not torch.equal(vae.encode(x)[0], wanted):
                wrong.append(1)

    thread = threading.Thread(target=forward)
    thread.start()
    try:
        for _ in range(20):
            LatentGradCAM(vae, "conv1").attribute(x, weighting="integrated", n_steps=4)
    finally:
        done.set()
        thread.join()
    assert not wrong


@pytest.mark.parametrize("posterior", [None, "encode:[0],[1]", "module:fc_mu,fc_logvar"])
def test_the_first_calls_of_several_threads_decide_alike(posterior):
    vae = ToyVAE()
    x = vae.images(2)
    wanted = LatentGradCAM(vae, "conv2", posterior=posterior).attribute(x)
    for _ in range(5):
        cam = LatentGradCAM(vae, "conv2", posterior=posterior)
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _, cam=cam: cam.attribute(x), range(16)))
        assert all(torch.equal(maps, wanted) for maps in found)


class Normalised(ToyVAE):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3).double()

    def trunk(self, x):
        features = self.act2(self.conv2(self.act1(self.norm(self.conv1(x)))))
        return self.act3(self.fc(features.flatten(1)))


def test_threads_in_train_mode_leave_the_running_statistics_alone():
    vae = Normalised().train()
    x = vae.images(3)
    cam = LatentGradCAM(vae, "conv2", posterior="encode:[0],[1]")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = cam.attribute(x)
        before = {name: value.clone() for name, value in vae.named_buffers()}
        identities = {name: id(value) for name, value in vae.named_buffers()}
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: cam.attribute(x), range(80)))
    assert all(torch.equal(maps, wanted) for maps in found)
    assert all(torch.equal(value, before[name]) for name, value in vae.named_buffers())
    assert {name: id(value) for name, value in vae.named_buffers()} == identities
