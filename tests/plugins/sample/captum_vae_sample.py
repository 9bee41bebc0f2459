"""What a third party writes: one plugin of each kind, nothing of captum_vae changed."""

import torch
from torch import nn

from captum_vae.data.sample import Sample, SampleDataset
from captum_vae.models import GaussianVAE
from captum_vae.posterior import PosteriorAdapter, as_adapter


class InputGradient:
    """Attribution: the gradient of every posterior mean with respect to the image itself."""

    def __init__(self, forward_func, *, posterior=None):
        self.posterior = as_adapter(forward_func, posterior)

    def attribute(self, inputs, target, *, power=1):
        images = inputs.clone().requires_grad_()
        with torch.enable_grad():
            mean = self.posterior(images).mean
            maps = [
                torch.autograd.grad(mean[:, dim].sum(), images, retain_graph=True)[0].sum(1)
                for dim in target
            ]
        return torch.stack(maps, 1).abs() ** power


def halves(model):
    """Posterior: the mean and the log-variance are the halves of what ``body`` puts out."""
    return PosteriorAdapter(model, call="body", read="chunk")


class LinearVAE(GaussianVAE):
    """Model: one linear map each way."""

    def __init__(self, latent_dims=2, *, image_size, in_channels=1):
        super().__init__(
            latent_dims, image_size=image_size, in_channels=in_channels, output="sigmoid"
        )
        height, width = self.image_size
        pixels = in_channels * height * width
        self.latent_shape = (latent_dims,)
        self.encoder = nn.Flatten()
        self.mean = nn.Linear(pixels, latent_dims)
        self.log_variance = nn.Linear(pixels, latent_dims)
        self.decoder = nn.Sequential(
            nn.Linear(latent_dims, pixels),
            nn.Sigmoid(),
            nn.Unflatten(1, (in_channels, height, width)),
        )


class Squares(SampleDataset):
    """Data set: grey noise; every other image has a bright square, and its mask."""

    def __init__(self, count=8, *, side=16, anomalous=False):
        self.count, self.side, self.anomalous = count, side, anomalous

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if not 0 <= index < self.count:
            raise IndexError(index)
        generator = torch.Generator().manual_seed(index)
        image = 0.2 * torch.rand(1, self.side, self.side, generator=generator)
        mask = torch.zeros(self.side, self.side, dtype=torch.bool)
        if self.anomalous and index % 2:
            mask[4:8, 4:8] = True
            image[0, mask] = 0.9
        return Sample(image, mask, int(mask.any()), f"square_{index}", "squares")


class Brightness:
    """Scorer: bright pixels are anomalous."""

    def __init__(self, model, *, posterior=None):
        pass

    def fit(self, normal):
        return self

    def score(self, images):
        return images.mean(1)


class TwoHeaded(nn.Module):
    """A model of the user's whose posterior cannot be told without the plugin."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 4, 4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 6))

    def forward(self, x):
        return self.body(x)


def two_headed():
    torch.manual_seed(0)
    return TwoHeaded()
