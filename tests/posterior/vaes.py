"""Small VAEs with the interfaces found in the wild; each keeps its original's words.

All map (B, 3, 8, 8) to D = 4 dimensions. `fc_mu` and `fc_logvar` give the truth for the tests.
"""

from collections import namedtuple

import torch
from torch import nn
from torch.distributions import Independent, Normal

D = 4
SHAPE = (3, 8, 8)


class Moments(nn.Module):
    """Encoder trunk, the two heads and a decoder; subclasses differ in what they return."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(96, 16), nn.Tanh()
        )
        self.fc_mu = nn.Linear(16, D)
        self.fc_logvar = nn.Linear(16, D)
        self.to_image = nn.Linear(D, 192)
        self.forwards = 0

    def moments(self, x):
        hidden = self.trunk(x)
        return self.fc_mu(hidden), self.fc_logvar(hidden)

    def draw(self, mu, logvar):
        return mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)

    def image(self, z):
        return self.to_image(z).view(-1, *SHAPE)

    def forward(self, x):
        self.forwards += 1
        mu, logvar = self.moments(x)
        return self.image(self.draw(mu, logvar)), mu, logvar


class PytorchExamples(Moments):
    """pytorch/examples: encode -> (mu, logvar); forward -> (recon, mu, logvar)."""

    def encode(self, x):
        return self.moments(x)


class ForwardOnly(Moments):
    """The paper's authors: forward -> (recon, mu, logvar) and no encode."""


class FlatReconstruction(Moments):
    """forward -> (recon, mu, logvar) with recon flattened, as in pytorch/examples."""

    def forward(self, x):
        recon, mu, logvar = super().forward(x)
        return recon.flatten(1), mu, logvar


class SampleFirst(Moments):
    """forward -> (recon, z, mu, logvar): by place alone, z would pass for the mean."""

    def forward(self, x):
        mu, logvar = self.moments(x)
        z = self.draw(mu, logvar)
        return self.image(z), z, mu, logvar


class FactorVAE(Moments):
    """encode -> one tensor [mu | logvar] (B, 2D, 1, 1); forward -> (recon, mu, logvar, z)."""

    def encode(self, x):
        return torch.cat(self.moments(x), 1)[:, :, None, None]

    def forward(self, x):
        stats = self.encode(x).flatten(1)
        mu, logvar = stats[:, :D], stats[:, D:]
        z = self.draw(mu, logvar)
        return self.image(z), mu, logvar, z


class FlatFactorVAE(FactorVAE):
    """The same with encode -> (B, 2D)."""

    def encode(self, x):
        return torch.cat(self.moments(x), 1)


class AntixK(Moments):
    """encode -> [mu, logvar]; forward -> [recon, input, mu, logvar]."""

    def encode(self, x):
        return list(self.moments(x))

    def forward(self, x):
        mu, logvar = self.encode(x)
        return [self.image(self.draw(mu, logvar)), x, mu, logvar]


class MeanEncoder(Moments):
    """encode -> mu only; forward -> (recon, mu, logvar)."""

    def encode(self, x):
        return self.moments(x)[0]


class PlainAutoencoder(Moments):
    """encode -> code; forward -> reconstruction: nothing says that the code is a mean."""

    def encode(self, x):
        return self.moments(x)[0]

    def forward(self, x):
        return self.image(self.encode(x))


class HiddenEncoder(Moments):
    """`encoder` gives hidden units, the heads come after it; forward -> (recon, mu, logvar)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = self.trunk


class PyroStyle(Moments):
    """encode -> (loc, scale), the second a standard deviation."""

    def encode(self, x):
        mu, logvar = self.moments(x)
        return mu, torch.exp(0.5 * logvar)


class NormalEncoder(Moments):
    """encode -> torch.distributions.Normal."""

    def encode(self, x):
        mu, logvar = self.moments(x)
        return Normal(mu, torch.exp(0.5 * logvar))


class IndependentEncoder(NormalEncoder):
    """encode -> Independent(Normal)."""

    def encode(self, x):
        return Independent(super().encode(x), 1)


class DictVAE(Moments):
    """forward -> {"recon", "mu", "log_var"}."""

    def forward(self, x):
        recon, mu, logvar = super().forward(x)
        return {"recon": recon, "mu": mu, "log_var": logvar}


Output = namedtuple("Output", "reconstruction z_mean z_std")


class NamedTupleVAE(Moments):
    """forward -> namedtuple with a standard deviation."""

    def forward(self, x):
        recon, mu, logvar = super().forward(x)
        return Output(recon, mu, torch.exp(0.5 * logvar))


class Hierarchical(Moments):
    """encode -> [(mu, logvar), (mu, logvar)], the second level spatial."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_mu, self.conv_logvar = nn.Conv2d(3, 5, 1), nn.Conv2d(3, 5, 1)

    def encode(self, x):
        return [self.moments(x), (self.conv_mu(x), self.conv_logvar(x))]


class HierarchicalLists(Hierarchical):
    """forward -> (recon, [mu, mu], [logvar, logvar])."""

    encode = None

    def forward(self, x):
        mu, logvar = self.moments(x)
        return self.image(mu), [mu, self.conv_mu(x)], [logvar, self.conv_logvar(x)]


class VectorQuantised(nn.Module):
    """encode -> quantised code; `pre_quant` is the continuous latent (B, 5, 4, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, 2, 1)
        self.pre_quant = nn.Conv2d(6, 5, 1)
        self.codebook = nn.Embedding(7, 5)
        self.up = nn.ConvTranspose2d(5, 3, 2, 2)

    def continuous(self, x):
        return self.pre_quant(self.conv(x))

    def encode(self, x):
        latent = self.continuous(x)
        rows = latent.permute(0, 2, 3, 1)
        nearest = torch.cdist(rows.flatten(0, 2), self.codebook.weight).argmin(1)
        quantised = self.codebook(nearest).view(rows.shape).permute(0, 3, 1, 2)
        return latent + (quantised - latent).detach()

    def forward(self, x):
        return self.up(self.encode(x))


class Spatial(nn.Module):
    """encode -> (mu, logvar), each (B, 5, 4, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 10, 3, 2, 1)

    def encode(self, x):
        return self.conv(x).chunk(2, 1)

    def forward(self, x):
        raise NotImplementedError
