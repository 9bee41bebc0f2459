"""Inputs that cannot be measured: each is refused by a sentence that names the argument."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from captum_vae.data import Sample, SampleDataset
from captum_vae.localization import (
    Candidates,
    Protocol,
    ReconstructionError,
    benchmark,
    candidate_scorers,
    choose,
)
from captum_vae.models import ConvVAE
from tests.localization.spots import Rows, Spots

IMAGES = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
MASKS = torch.zeros(4, 16, 16, dtype=torch.bool)
MASKS[0, :4] = True
GOOD = {"scorers": {"rows": Rows()}, "normal": IMAGES, "test": (IMAGES, MASKS)}
NAN = float("nan")


class Scoring(Rows):
    """A third party's scorer that gives whatever it is told to."""

    def __init__(self, give) -> None:
        self.give = give

    def score(self, images):
        return self.give(images)


class Items(SampleDataset):
    """A data set whose every item is the one given."""

    def __init__(self, item, count: int = 2) -> None:
        self.item, self.count = item, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int):
        return self.item


def an_image(**changes):
    return Items(Sample(IMAGES[0], MASKS[0], 1, "a.png", "")._replace(**changes))


def loader(*tensors):
    return DataLoader(TensorDataset(*tensors), batch_size=2)


REFUSED = {
    # scorers
    "scorers empty": ({"scorers": {}}, "scorers is empty"),
    "scorers none": ({"scorers": None}, "scorers is a NoneType; wanted a mapping"),
    "scorers a list": ({"scorers": [Rows()]}, "scorers is a list; wanted a mapping"),
    "scorers a scorer": ({"scorers": Rows()}, "scorers is a Rows; wanted a mapping"),
    "a name that is a number": ({"scorers": {3: Rows()}}, "scorers has the name 3"),
    "a name of blanks": ({"scorers": {" ": Rows()}}, "scorers has the name ' '"),
    "a scorer that is none": ({"scorers": {"a": 5}}, r"scorers\['a'\] is a int; wanted a scorer"),
    "a class": ({"scorers": {"a": Rows}}, r"scorers\['a'\] is the class Rows"),
    "a function": ({"scorers": {"a": lambda x: x}}, r"scorers\['a'\] is a function"),
    "a pair without protocol": ({"scorers": {"a": (Rows(), 3)}}, r"wanted \(scorer, Protocol\)"),
    "a triple": ({"scorers": {"a": (Rows(), Protocol(), 1)}}, r"wanted \(scorer, Protocol\)"),
    # maps
    "maps without axes": (Scoring(lambda x: x.mean()), r"Scoring.score gives \(\)"),
    "maps one too few": (Scoring(lambda x: x[:-1, 0]), r"Scoring.score gives \(3, 16, 16\)"),
    "maps with channels": (Scoring(lambda x: x.expand(-1, 3, -1, -1)), r"\(4, 3, 16, 16\)"),
    "maps without pixels": (Scoring(lambda x: x[:, 0, :0]), r"gives \(4, 0, 16\)"),
    "maps with NaN": (Scoring(lambda x: x[:, 0] * NAN), "Scoring.score gives NaN"),
    "maps with infinity": (Scoring(lambda x: x[:, 0] / 0), "Scoring.score gives infinite"),
    "maps of integers": (Scoring(lambda x: x[:, 0].long()), "gives dtype torch.int64"),
    "complex maps": (Scoring(lambda x: x[:, 0] + 0j), "gives dtype torch.complex64"),
    "maps in NumPy": (Scoring(lambda x: x[:, 0].numpy()), "gives a ndarray; wanted a tensor"),
    "maps missing": (Scoring(lambda x: None), "gives a NoneType"),
    # normal
    "normal none": ({"normal": None}, "normal is None"),
    "normal a path": ({"normal": "images/"}, "normal is 'images/'"),
    "normal an iterator": ({"normal": iter([IMAGES])}, "normal is a list_iterator, which can be"),
    "normal a generator": ({"normal": (x for x in [IMAGES])}, "normal is a generator"),
    "normal empty": ({"normal": IMAGES[:0]}, "normal is empty"),
    "normal an empty list": ({"normal": []}, "normal is empty"),
    "normal empty batches": ({"normal": [IMAGES[:0]]}, "normal is empty"),
    "normal a number": ({"normal": 3}, "normal is 3"),
    "normal in NumPy": ({"normal": IMAGES.numpy()}, "normal is a NumPy array; pass torch.from_n"),
    "normal one image": ({"normal": IMAGES[0]}, r"images of normal are a tensor \(1, 16, 16\)"),
    "normal of bytes": ({"normal": (IMAGES * 255).byte()}, "images of normal have dtype torch.uin"),
    "normal with NaN": ({"normal": IMAGES * NAN}, "image '0' of normal holds NaN or infinite"),
    "normal a dict": ({"normal": {"image": IMAGES}}, "normal is"),
    "normal of dicts": ({"normal": [{"image": IMAGES}]}, "a batch of normal is"),
    "normal with a defect": ({"normal": (IMAGES, MASKS)}, "normal holds '0', which is anomalous"),
    "normal labelled": ({"normal": an_image(mask=None)}, "normal holds 'a.png', which is anoma"),
    # test
    "test without masks": ({"test": IMAGES}, "test has no masks"),
    "test empty": ({"test": (IMAGES[:0], MASKS[:0])}, "test is empty"),
    "test an iterator": ({"test": iter([(IMAGES, MASKS)])}, "test is a list_iterator"),
    "test zipped": ({"test": zip([IMAGES], [MASKS], strict=True)}, "test is a zip"),
    "test with a mask missing": ({"test": (IMAGES, MASKS[:3])}, "test has 4 images and 3 masks"),
    "test of one": ({"test": (IMAGES,)}, "test is a tuple of 1"),
    "test of four": ({"test": (IMAGES, MASKS, None, None)}, "test is a tuple of 4"),
    "masks of bytes": ({"test": (IMAGES, MASKS.byte() * 255)}, "holds the values 0, 255"),
    "masks of floats": ({"test": (IMAGES, MASKS * 0.4)}, "holds the values 0, 0.4"),
    "masks of NaN": ({"test": (IMAGES, MASKS * NAN)}, "holds the values nan"),
    "masks of signed": ({"test": (IMAGES, -MASKS.int())}, "holds the values -1, 0"),
    "complex masks": ({"test": (IMAGES, MASKS + 0j)}, "the mask of image 0 in test"),
    "masks of colours": (
        {"test": (IMAGES, MASKS[:, None].expand(-1, 3, -1, -1))},
        r"the mask of image 0 in test has shape \(3, 16, 16\)",
    ),
    "masks flat": ({"test": (IMAGES, MASKS.flatten(1))}, r"has shape \(256,\)"),
    "masks in NumPy": ({"test": (IMAGES, MASKS.numpy())}, "the mask of image 0 in test is"),
    "masks a number": ({"test": (IMAGES, 0)}, "masks of test are 0"),
    "masks are words": ({"test": (IMAGES, "none")}, "masks of test are 'none'"),
    "labels of two": ({"test": (IMAGES, MASKS, [0, 1, 2, 0])}, "the label of image 2 in test is 2"),
    "labels too few": ({"test": (IMAGES, MASKS, [0])}, "test has 4 images and 1 labels"),
    "test with classes": ({"test": loader(IMAGES, torch.arange(4))}, "the mask of image 0 in test"),
    "test of tuples": ({"test": Items(("a", "b"))}, "item 0 of test"),
    "test of Nones": ({"test": Items(None)}, "item 0 of test is None"),
    "sample without image": ({"test": an_image(image=None)}, "test"),
    "sample of bytes": ({"test": an_image(image=IMAGES[0].byte())}, "images of test have dtype"),
    "sample with NaN": ({"test": an_image(image=IMAGES[0] * NAN)}, "image 'a.png' of test holds"),
    "sample with a mask of floats": ({"test": an_image(mask=MASKS[0].float())}, "torch.bool"),
    "sample with a mask of colours": ({"test": an_image(mask=MASKS)}, "the mask of 'a.png'"),
    "sample with a label of 7": ({"test": an_image(label=7)}, "label"),
    # options
    "batch size 0": ({"batch_size": 0}, "batch_size=0 must be at least 1"),
    "batch size 1.5": ({"batch_size": 1.5}, "batch_size=1.5 is no whole number"),
    "batch size True": ({"batch_size": True}, "batch_size=True is a bool"),
    "batch size in words": ({"batch_size": "8"}, "batch_size='8' is no whole number"),
    "workers -1": ({"workers": -1}, "workers=-1 must be at least 0"),
    "resamples 0": ({"resamples": 0}, "resamples=0 must be at least 1"),
    "resamples nan": ({"resamples": NAN}, "resamples=nan is no whole number"),
    "seed -1": ({"seed": -1}, "seed=-1 must be at least 0"),
    "seed huge": ({"seed": 2**70}, f"seed={2**70} must be at most"),
    "seed None": ({"seed": None}, "seed=None is no whole number"),
    "units": ({"units": "pixels"}, "units='pixels' is not known; choose one of none, images"),
    "units unhashable": ({"units": ["images"]}, "units="),
    "groups without names": ({"units": "groups"}, "units='groups' resamples clips, which test"),
    "protocol a dict": ({"protocol": {"smoothing": 1}}, "protocol is"),
    "protocol a number": ({"protocol": 3}, "protocol is 3"),
    "against nobody": ({"against": "cows"}, "against names 'cows', which is no scorer: rows"),
    "against a pair with nobody": ({"against": [("rows", "cows")]}, "against names 'cows'"),
    "against a number": ({"against": 3}, "against is 3"),
    "against a triple": ({"against": [("rows", "rows", "rows")]}, "against holds"),
    "against a dict": ({"against": {"rows": 1}}, "against is"),
    "against without units": ({"against": "rows", "units": "none"}, "against needs counts per"),
    "against itself": ({"against": [("rows", "rows")]}, "against compares 'rows' with itself"),
    "per image nobody": ({"per_image": ["cows"]}, "per_image names 'cows'"),
    "per image a number": ({"per_image": 3}, "per_image is 3"),
    "device": ({"device": "toaster"}, "device is 'toaster'"),
    "device a number": ({"device": 1.5}, "device is 1.5"),
    "progress": ({"progress": "sometimes"}, "progress='sometimes' is not known"),
    "progress none": ({"progress": None}, "progress=None is not known"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_measured_is_refused_by_name(name):
    changes, words = REFUSED[name]
    changes = {"scorers": {"rows": changes}} if isinstance(changes, Scoring) else changes
    with pytest.raises((ValueError, TypeError), match=words):
        benchmark(**{**GOOD, "progress": "off", **changes})


def test_the_input_that_the_others_change_is_measured():
    assert benchmark(**GOOD, resamples=5, against="rows").rows[0].pixel.images == 4


def test_scorers_compared_under_protocols_that_count_other_pixels_are_refused():
    lines = {"a": Rows(), "b": (Rows(), Protocol(frames="anomalous"))}
    with pytest.raises(ValueError, match="whose protocols count other pixels"):
        benchmark(lines, IMAGES, (IMAGES, MASKS), against="a")


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(1), nn.Dropout(0.5), nn.Dropout2d(0.5)])
def test_a_model_in_training_mode_is_refused_where_maps_would_depend_on_it(layer):
    vae = ConvVAE(2, image_size=16, channels=(2, 2), hidden=4)
    benchmark({"r": ReconstructionError(vae)}, IMAGES, (IMAGES, MASKS), units="none")
    vae.extra = layer.train()
    with pytest.raises(ValueError, match=r"model of scorers\['r'\] is in training mode"):
        benchmark({"r": ReconstructionError(vae)}, IMAGES, (IMAGES, MASKS))


def test_models_on_two_devices_are_refused():
    vaes = [ConvVAE(2, image_size=16, channels=(2, 2), hidden=4) for _ in range(2)]
    vaes[1].to("meta")
    lines = {str(place): ReconstructionError(vae) for place, vae in enumerate(vaes)}
    with pytest.raises(ValueError, match="models lie on cpu and meta"):
        benchmark(lines, IMAGES, (IMAGES, MASKS))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"frames": None}, "frames=None is not known"),
        ({"frames": ["all"]}, "frames="),
        ({"size": (0, 5)}, r"size is \(0, 5\)"),
        ({"size": (True, 5)}, r"size is \(True, 5\)"),
        ({"size": (4.0, 5)}, "two positive integers"),
        ({"size": 5}, "size is 5"),
        ({"size": None}, "size is None"),
        ({"size": np.array([4, 5])}, "size is array"),
        ({"size": "4x5"}, "size is '4x5'"),
        ({"smoothing": -1}, "smoothing is -1"),
        ({"smoothing": NAN}, "smoothing=nan is not finite"),
        ({"smoothing": float("inf")}, "smoothing=inf is not finite"),
        ({"smoothing": 1e9}, "smoothing is 1000000000.0; wanted a sigma from 0 to 500"),
        ({"smoothing": "2"}, "smoothing='2' is no number"),
        ({"smoothing": True}, "smoothing=True is no number"),
        ({"threshold": 0.5}, "threshold=0.5 is not known"),
        ({"quantile": 0}, "quantile is 0"),
        ({"quantile": 1.01}, "quantile is 1.01"),
        ({"quantile": NAN}, "quantile=nan"),
        ({"quantile": None}, "quantile=None is no number"),
    ],
)
def test_a_protocol_out_of_its_range_is_refused_by_name(options, words):
    with pytest.raises((ValueError, TypeError), match=words):
        Protocol(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layers": "conv1"}, "choose_among.layers is 'conv1'; wanted a list"),
        ({"layers": [3]}, "choose_among.layers holds 3"),
        ({"fused": 1}, "choose_among.fused is 1"),
        ({"rectifiers": ["squared"]}, "choose_among.rectifiers='squared' is not known"),
        ({"weightings": [None]}, "choose_among.weightings=None"),
        ({"baselines": ["zero"]}, "choose_among.baselines='zero'"),
        ({"scales": "none"}, "choose_among.scales is 'none'; wanted a list"),
        ({"smoothing": [-1]}, "choose_among.smoothing is -1"),
        ({"smoothing": [NAN]}, "choose_among.smoothing=nan"),
        ({"smoothing": 3}, "choose_among.smoothing is 3; wanted a list"),
        ({"held_out": 0}, "choose_among.held_out is 0"),
        ({"held_out": "half"}, "choose_among.held_out='half'"),
        ({"images": 2.5}, "choose_among.images=2.5"),
        ({"contrast": NAN}, "choose_among.contrast=nan"),
        ({"area": 0.1}, "choose_among.area is 0.1"),
        ({"area": (0.1, None)}, "choose_among.area=None"),
        ({"visibility": "faint"}, "choose_among.visibility='faint'"),
        ({"masks": "exact"}, "choose_among.masks='exact'"),
        ({"seed": -1}, "choose_among.seed=-1"),
    ],
)
def test_candidates_out_of_their_range_are_refused_by_name(options, words):
    with pytest.raises((ValueError, TypeError), match=words):
        Candidates(**{"layers": ["encoder.conv1"], **options})


@pytest.mark.parametrize(
    ("normal", "options", "words"),
    [
        ([IMAGES], {}, "normal is a list of 1"),
        (None, {}, "normal is None"),
        (IMAGES[:2], {}, "2 normal images with held_out=0.2 leave 2"),
        (IMAGES[:0], {}, "0 normal images"),
        (Spots(10, defects=True), {}, "which is anomalous; wanted normal"),
        (Spots(10, defects=False), {"normal_images": 0}, "normal_images=0"),
        (Spots(10, defects=False), {"batch_size": 0}, "batch_size=0"),
        (Spots(10, defects=False), {"device": "x"}, "device is 'x'"),
    ],
)
def test_a_choice_that_cannot_be_made_is_refused(normal, options, words):
    vae = ConvVAE(2, image_size=16, channels=(2, 2), hidden=4).eval()
    candidates = Candidates(["encoder.conv1"], baselines=["mean_activation"])
    variants = candidate_scorers(candidates, vae)
    with pytest.raises((ValueError, TypeError), match=words):
        choose(variants, normal, candidates, progress="off", **options)


def test_a_variant_named_twice_is_refused():
    vae = ConvVAE(2, image_size=16, channels=(2, 2), hidden=4).eval()
    with pytest.raises(ValueError, match="choose_among gives the variant .* twice"):
        candidate_scorers(Candidates(["encoder.conv1", "encoder.conv1"]), vae)


class Dying(Spots):
    """Its second image kills the process that loads it, as the system does when memory is out."""

    def __getitem__(self, index):
        if index == 1:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


class Broken(Spots):
    """Its second image cannot be read."""

    def __init__(self, error) -> None:
        super().__init__(4, defects=True)
        self.error = error

    def __getitem__(self, index):
        if index == 1:
            raise self.error
        return super().__getitem__(index)


class TwoArguments(ValueError):
    def __init__(self, path, reason):
        super().__init__(f"{path} cannot be read: {reason}")


def test_a_process_that_dies_while_loading_is_one_line():
    with pytest.raises(ChildProcessError) as caught:
        benchmark({"r": Rows()}, IMAGES, Dying(4, defects=True), workers=1, progress="off")
    message = str(caught.value)
    assert "\n" not in message and "a process that loads images died" in message
    assert "memory" in message and "workers=0" in message


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (ValueError("b.png is no image"), ValueError, "^b.png is no image$"),
        (FileNotFoundError("c.png does not exist"), FileNotFoundError, "^c.png does not exist$"),
        (TwoArguments("d.png", "cut off"), ValueError, "^d.png cannot be read: cut off$"),
    ],
)
def test_what_goes_wrong_in_a_loading_process_is_said_without_its_traceback(error, kind, words):
    with pytest.raises(kind, match=words):
        benchmark({"r": Rows()}, IMAGES, Broken(error), workers=1, progress="off")
