"""Posteriors of real packages' own models; each is skipped when its package is absent."""

import pytest
import torch

from captum_vae.posterior import AmbiguousPosteriorError, PosteriorAdapter, as_adapter
from tests.packages.small_autoencoder import autoencoder_kl
from tests.posterior import vaes


@pytest.fixture
def images():
    return torch.randn(3, 1, 8, 8)


class TestPythae:
    @pytest.fixture(autouse=True)
    def package(self):
        self.models = pytest.importorskip("pythae.models")

    def vae(self):
        config = self.models.VAEConfig(input_dim=(1, 8, 8), latent_dim=5)
        return self.models.VAE(config).eval()

    @pytest.mark.parametrize("posterior", [None, "embedding,log_covariance", "encoder:auto"])
    def test_the_encoders_embedding_and_log_covariance_are_read(self, posterior, images):
        model = self.vae()
        adapter = as_adapter(model, posterior)
        encoded = model.encoder(images)
        result = adapter(images)
        assert torch.equal(result.mean, encoded.embedding)
        assert torch.equal(result.log_variance, encoded.log_covariance)
        assert "call='encoder'" in repr(adapter)

    def test_the_embedding_alone_can_be_named(self, images):
        model = self.vae()
        result = as_adapter(model, "embedding")(images)
        assert torch.equal(result.mean, model.encoder(images).embedding)

    def test_the_kl_equals_the_one_in_its_loss(self, images):
        model = self.vae()
        with torch.no_grad():
            expected = model({"data": images}).reg_loss
            torch.testing.assert_close(as_adapter(model)(images).kl().sum(1).mean(), expected)

    def test_the_pre_quantisation_latent_of_its_vq_vae_is_the_encoders_embedding(self, images):
        config = self.models.VQVAEConfig(input_dim=(1, 8, 8), latent_dim=4, num_embeddings=6)
        model = self.models.VQVAE(config).eval()
        result = as_adapter(model, "encoder:embedding")(images)
        assert torch.equal(result.mean, model.encoder(images).embedding)

    def test_an_autoencoders_embedding_is_not_taken_for_a_mean(self, images):
        model = self.models.AE(self.models.AEConfig(input_dim=(1, 8, 8), latent_dim=5)).eval()
        with pytest.raises(AmbiguousPosteriorError, match="posterior='encoder:embedding'"):
            as_adapter(model).prepare(images)


class TestDiffusers:
    @pytest.fixture(autouse=True)
    def package(self):
        self.diffusers = pytest.importorskip("diffusers")

    def autoencoder(self):
        return autoencoder_kl().eval()

    @pytest.mark.parametrize("posterior", [None, "latent_dist", "encode:latent_dist"])
    def test_latent_dist_is_read_per_channel(self, posterior, images):
        model = self.autoencoder()
        expected = model.encode(images).latent_dist
        result = as_adapter(model, posterior)(images)
        torch.testing.assert_close(result.mean, expected.mean.mean((2, 3)))
        assert result.latent_shape == (3, 4, 4)
        torch.testing.assert_close(result.kl().sum(1), expected.kl())

    @pytest.mark.parametrize("name", ["mean", "mode", "mode()"])
    def test_an_attribute_and_a_method_are_read_alike(self, name, images):
        words = f"latent_dist.{name}"
        model = self.autoencoder()
        adapter = PosteriorAdapter(model, call="encode", read=words, spatial=(1, 2))
        expected = model.encode(images).latent_dist.mean[:, :, 1, 2]
        assert torch.equal(adapter(images).mean, expected)

    def test_the_tuple_of_return_dict_false_is_read(self, images):
        model = self.autoencoder()
        expected = model.encode(images).latent_dist
        adapter = PosteriorAdapter(
            model, call=lambda x: model.encode(x, return_dict=False), spatial="flatten"
        )
        result = adapter(images)
        assert torch.equal(result.mean, expected.mean.flatten(1))
        assert torch.equal(result.log_variance, expected.logvar.flatten(1))

    def test_a_distribution_that_only_has_a_mode_gives_the_mean_alone(self, images):
        module = pytest.importorskip("diffusers.models.autoencoders.vae")
        latent = torch.randn(3, 2)
        result = as_adapter(lambda x: (module.IdentityDistribution(latent),))(images)
        assert torch.equal(result.mean, latent)
        assert result.log_variance is None

    def test_the_pre_quantisation_latent_of_its_vq_model_is_named(self, images):
        model = self.diffusers.VQModel(
            in_channels=1,
            out_channels=1,
            block_out_channels=(8,),
            latent_channels=3,
            num_vq_embeddings=4,
            norm_num_groups=4,
        ).eval()
        expected = model.encode(images).latents.mean((2, 3))
        for words in ("encode:latents", "latents", "module:quant_conv"):
            torch.testing.assert_close(as_adapter(model, words)(images).mean, expected)
        with pytest.raises(AmbiguousPosteriorError, match="posterior='encode:latents'"):
            as_adapter(model).prepare(images)


class TestLightning:
    @pytest.fixture(autouse=True)
    def package(self):
        self.lightning = pytest.importorskip("lightning")

    def test_a_lightning_module_with_a_forward_of_its_own_is_called_itself(self):
        class Module(self.lightning.LightningModule):
            def __init__(self):
                super().__init__()
                self.vae = vaes.PytorchExamples()

            def forward(self, x):
                return self.vae(x)

        module, x = Module(), torch.randn(4, *vaes.SHAPE)
        adapter = PosteriorAdapter(module)
        assert adapter.model is module
        assert torch.equal(adapter(x).mean, module.vae.moments(x)[0])

    def test_a_lightning_module_without_one_is_unwrapped_to_its_vae(self):
        class Module(self.lightning.LightningModule):
            def __init__(self):
                super().__init__()
                self.model = vaes.PytorchExamples()
                self.loss = torch.nn.MSELoss()

        module = Module()
        assert PosteriorAdapter(module).model is module.model

    def test_a_lightning_module_with_two_models_is_refused(self):
        class Module(self.lightning.LightningModule):
            def __init__(self):
                super().__init__()
                self.vae, self.discriminator = vaes.PytorchExamples(), torch.nn.Linear(4, 2)

        with pytest.raises(ValueError, match=r"\['vae', 'discriminator'\]"):
            PosteriorAdapter(Module())

    def test_a_module_set_up_by_fabric_is_unwrapped(self):
        model = vaes.PytorchExamples()
        fabric = self.lightning.Fabric(accelerator="cpu", devices=1)
        assert PosteriorAdapter(fabric.setup_module(model)).model is model
