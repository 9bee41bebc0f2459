"""Data sets are built from YAML by jsonargparse, from their plain constructor signatures."""

from pathlib import Path

import pytest

from captum_vae.data import Augmented, MVTec, OneClassDigits, SampleDataset, SyntheticDefects

from .conftest import WriteImage

jsonargparse = pytest.importorskip("jsonargparse")


def build(yaml: str) -> SampleDataset:
    parser = jsonargparse.ArgumentParser()
    parser.add_subclass_arguments(SampleDataset, "data")
    indented = "\n".join(f"  {line}" for line in yaml.splitlines())
    parsed = parser.parse_string(f"data:\n{indented}")
    # Renamed in jsonargparse 4.49.
    instantiate = getattr(parser, "instantiate", None) or parser.instantiate_classes
    return instantiate(parsed).data  # type: ignore[no-any-return]


def test_a_reader_takes_every_option_from_yaml(tmp_path: Path, write_image: WriteImage) -> None:
    write_image(tmp_path / "nut" / "train" / "good" / "0.png", size=(20, 30))
    data = build(
        f"""class_path: captum_vae.data.MVTec
init_args:
  root: {tmp_path}
  category: nut
  split: train
  image_size: [8, 12]
  image_channels: 3
  on_error: skip
  mask_values: {{0: normal, 1: anomalous, 255: ignore}}
  pixel_range: [0, 4095]
  cache: none"""
    )
    assert isinstance(data, MVTec)
    assert data.image_shape == (3, 8, 12)


def test_wrappers_nest_in_yaml() -> None:
    data = build(
        """class_path: captum_vae.data.Augmented
init_args:
  length: 100
  rotation: 30
  padding: corner
  dataset:
    class_path: captum_vae.data.SyntheticDefects
    init_args:
      kinds: [blob, scratch]
      dataset:
        class_path: captum_vae.data.OneClassDigits
        init_args:
          digits: [1, 7]
          image_size: 32"""
    )
    assert isinstance(data, Augmented)
    assert isinstance(data.dataset, SyntheticDefects)
    assert isinstance(data.dataset.dataset, OneClassDigits)
    assert data[99].image.shape == (1, 32, 32)
