"""Data sets: readers, rendered dSprites, augmentation, synthetic defects and scenes.

Every data set for localization yields :class:`Sample` and is built from plain options, so that it
can be named in a YAML file; ``DataLoader(dataset, collate_fn=collate_samples)`` makes batches.
"""

from typing import TYPE_CHECKING

from captum_vae.lazy_exports import load_on_first_use

if TYPE_CHECKING:
    from captum_vae.data.arrays import read_images
    from captum_vae.data.augment import Augmented, rotate_image, rotate_mask
    from captum_vae.data.decode import UnreadableImageError
    from captum_vae.data.defects import SyntheticDefects, paint_defect, perlin_noise
    from captum_vae.data.digits import MNIST, Digits, OneClassDigits
    from captum_vae.data.dsprites import DSprites, DSpritesSample
    from captum_vae.data.dsprites_factors import sample_classes
    from captum_vae.data.dsprites_renderer import render, render_classes
    from captum_vae.data.folder import ImageFolder
    from captum_vae.data.frame_flags import read_frame_flags
    from captum_vae.data.image_dataset import ImageFileDataset
    from captum_vae.data.image_file import ImageFile
    from captum_vae.data.mask_values import UndecidedMaskError
    from captum_vae.data.mvtec import MVTec, mvtec_categories
    from captum_vae.data.pedestrians import MovingPedestrians
    from captum_vae.data.reading_options import ReadingOptions
    from captum_vae.data.resize import resize_mask
    from captum_vae.data.sample import Sample, SampleBatch, SampleDataset, collate_samples
    from captum_vae.data.sources import ImageSources
    from captum_vae.data.stroke_defects import StrokeDefects
    from captum_vae.data.ucsd import UCSD

__all__ = [
    "MNIST",
    "UCSD",
    "Augmented",
    "DSprites",
    "DSpritesSample",
    "Digits",
    "ImageFile",
    "ImageFileDataset",
    "ImageFolder",
    "ImageSources",
    "MVTec",
    "MovingPedestrians",
    "OneClassDigits",
    "ReadingOptions",
    "Sample",
    "SampleBatch",
    "SampleDataset",
    "StrokeDefects",
    "SyntheticDefects",
    "UndecidedMaskError",
    "UnreadableImageError",
    "collate_samples",
    "mvtec_categories",
    "paint_defect",
    "perlin_noise",
    "read_frame_flags",
    "read_images",
    "render",
    "render_classes",
    "resize_mask",
    "rotate_image",
    "rotate_mask",
    "sample_classes",
]

load_on_first_use(__name__)
