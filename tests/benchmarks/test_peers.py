"""The peers against anomalib's own components, on the features of a small VAE."""

import pytest
import torch
from torch.nn import functional as F

from benchmarks.peers import PaDiM, PatchCore, k_center
from captum_vae.models import LinearFeatureVAE
from tests.attr.toys import assert_equal


@pytest.fixture(scope="module")
def fitted():
    normal = torch.rand(14, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    vae = LinearFeatureVAE.fit("test_resnet", normal, 3, layers=["layer1", "layer2"])
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return vae, normal, images, vae.features(normal), vae.features(images)


def upsampled(maps):
    return F.interpolate(maps, (32, 32), mode="bilinear", align_corners=False)[:, 0]


def test_padim_is_the_mahalanobis_distance_of_each_place(fitted):
    vae, normal, images, train, test = fitted
    wanted = torch.empty(2, 1, *test.shape[2:], dtype=torch.float64)
    for row in range(test.shape[2]):
        for column in range(test.shape[3]):
            here = train[:, :, row, column].double()
            covariance = torch.cov(here.T) + 0.01 * torch.eye(here.shape[1])
            delta = test[:, :, row, column].double() - here.mean(0)
            solved = torch.linalg.solve(covariance, delta.T).T
            wanted[:, 0, row, column] = (delta * solved).sum(1).sqrt()
    maps = PaDiM(vae).fit(normal.split(5)).score(images)
    assert_equal(maps.double(), upsampled(wanted), 1e-3)


def test_patchcore_is_the_distance_to_the_nearest_of_all_patches_when_all_are_kept(fitted):
    vae, normal, images, train, test = fitted

    def patches(features):
        return F.avg_pool2d(features, 3, 1, 1).permute(0, 2, 3, 1).flatten(0, 2)

    nearest = torch.cdist(patches(test), patches(train)).amin(1).reshape(2, 1, *test.shape[2:])
    maps = PatchCore(vae, coreset=10_000).fit(normal.split(5)).score(images)
    assert_equal(maps, upsampled(nearest), 1e-3)


def test_a_coreset_takes_the_farthest_patch_again_and_again():
    patches = torch.tensor([[0.0], [1.0], [10.0], [4.0], [10.0]])
    assert k_center(patches, 3).flatten().tolist() == [0.0, 10.0, 4.0]


def test_padim_equals_anomalibs(fitted):
    reason = "pip install anomalib, in an environment of its own"
    stats = pytest.importorskip("anomalib.models.components.stats", reason=reason)
    padim = pytest.importorskip("anomalib.models.image.padim.anomaly_map", reason=reason)
    vae, normal, images, train, test = fitted
    fit = stats.MultiVariateGaussian().fit(train)
    wanted = upsampled(padim.AnomalyMapGenerator.compute_distance(test, fit))
    assert_equal(PaDiM(vae).fit(normal.split(5)).score(images), wanted, 5e-3)


def test_patchcore_equals_anomalibs_with_the_same_coreset(fitted):
    reason = "pip install anomalib, in an environment of its own"
    module = pytest.importorskip("anomalib.models.image.patchcore.torch_model", reason=reason)
    vae, normal, images, _, test = fitted
    ours = PatchCore(vae, coreset=40).fit(normal.split(5))
    theirs = module.PatchcoreModel(["layer1"], backbone="resnet18", pre_trained=False)
    theirs.memory_bank = ours.state_dict()["coreset"]
    patches = theirs.reshape_embedding(theirs.feature_pooler(test))
    nearest, _ = theirs.nearest_neighbors(patches, n_neighbors=1)
    wanted = upsampled(nearest.reshape(2, 1, *test.shape[2:]))
    assert_equal(ours.score(images), wanted, 1e-4)
