"""A small AutoencoderKL of diffusers with random weights, as several tests explain it."""


def autoencoder_kl():
    """Grey images to a spatial latent of three channels at half their size."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=3,
        norm_num_groups=4,
    )
