"""Which pixels of a mask file are anomalous: one exact rule, or what the user says.

Masks in the wild hold 0 and 1, 0 and 255, soft edges, colours, class numbers, ignored regions or a
transparency in which the shape is drawn. :data:`MASK_RULE` says what is decided without asking;
everything else is refused with the values found.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from captum_vae.checks import check_choice, real_number
from captum_vae.data.decode import opened, turn_upright

MaskMeaning: TypeAlias = Literal["normal", "anomalous", "ignore"]
MaskValues: TypeAlias = dict[int | str, MaskMeaning] | float | None
"""What each value of a mask means, or the smallest value that is anomalous, or None for the rule.

Keys are the numbers stored (of a palette image, the indices), or colours as "#rrggbb".
"""

MASK_RULE = (
    "a mask pixel is anomalous by the first of these that fits its file: values 0 and 1: 1; "
    "values 0 and one other in the top quarter of the range: the other; 0, the largest value of "
    "the range and at least two values in between, of which none fills a 3 x 3 block and all "
    "together no 11 x 11 block nor half of the image (soft edges), or a JPEG file of that kind: "
    "at least half of the range; black and one bright colour: the colour; one colour throughout "
    "and a transparency that varies: the opacity, read by these rules; anything else is refused"
)
"""The rule in words, for reports; the range is 0 to 1, 255 or 65535, the least that holds all."""

NORMAL, ANOMALOUS, IGNORED = 0, 1, 2
States: TypeAlias = NDArray[np.uint8]
"""(H, W) of NORMAL, ANOMALOUS and IGNORED."""

_NEAR = 32 / 255
"""How far from either end of the range compression moves a value, as a share of the range."""
_SHOWN = 8


class UndecidedMaskError(ValueError):
    """A mask whose values do not say which pixels are anomalous."""


class _Undecided(Exception):
    """What was found, in words; and a value to write into the advice."""


class _Layers(NamedTuple):
    """A mask file taken apart.

    Attributes:
        numbers: (H, W) stored numbers; None for a file of colours.
        colours: (H, W, 3) bytes; None for a file of numbers without palette.
        opacity: (H, W) bytes, 0 transparent; None where everything is opaque.
        lossy: Whether compression may have changed the values.
    """

    numbers: NDArray[Any] | None
    colours: NDArray[np.uint8] | None
    opacity: NDArray[np.uint8] | None
    lossy: bool


def read_mask(path: Path, mask_values: MaskValues = None) -> NDArray[np.bool_]:
    """Decode a mask to (H, W) bool, True on anomalous pixels, at its own size.

    Args:
        path: The file.
        mask_values: What the values mean; None decides by :data:`MASK_RULE`.

    Raises:
        UnreadableImageError: The file does not decode.
        UndecidedMaskError: The values do not say which pixels are anomalous, or are not among
            those that ``mask_values`` names.
    """
    return np.asarray(read_states(path, mask_values) == ANOMALOUS)


def read_states(path: Path, mask_values: MaskValues = None) -> States:
    """Decode a mask to normal, anomalous and ignored pixels; see :func:`read_mask`."""
    with opened(path) as image:
        frames = getattr(image, "n_frames", 1)
        turn_upright(image)
        layers = _take_apart(image)
    try:
        if frames > 1 and image.format != "MPO":
            raise _Undecided(f"{frames} frames")
        if mask_values is None:
            return _decide(layers).astype(np.uint8)
        return _as_told(layers, mask_values)
    except _Undecided as found:
        raise UndecidedMaskError(
            f"the mask {path} holds {found}, which does not say which pixels are anomalous; "
            f"{_advice(layers)}"
        ) from None


def checked_mask_values(mask_values: Any) -> MaskValues:
    """What a user gave for ``mask_values``, with colours in lower case.

    Raises:
        TypeError: It is neither a number nor a mapping from numbers or colours.
        ValueError: A meaning is unknown, a colour is not #rrggbb, or the mapping is empty.
    """
    if mask_values is None:
        return None
    if not isinstance(mask_values, Mapping):
        return real_number(
            "mask_values", mask_values, hint="wanted a number, or what each value means"
        )
    if not mask_values:
        raise ValueError("mask_values is empty; wanted what each value means")
    checked: dict[int | str, MaskMeaning] = {}
    for key, meaning in mask_values.items():
        check_choice(f"mask_values[{key!r}]", meaning, get_args(MaskMeaning))
        checked[_checked_key(key)] = meaning
    return checked


def described(mask_values: MaskValues) -> str:
    """How pixels of masks are decided, for a report."""
    if mask_values is None:
        return MASK_RULE
    if not isinstance(mask_values, dict):
        return f"a mask pixel is anomalous from the value {mask_values:g}"
    meanings = ", ".join(f"{value} {meaning}" for value, meaning in mask_values.items())
    return f"values of mask pixels: {meanings}"


def _checked_key(key: Any) -> int | str:
    if isinstance(key, str) and key.startswith("#"):
        digits = key[1:].lower()
        if len(digits) != 6 or any(digit not in "0123456789abcdef" for digit in digits):
            raise ValueError(f"mask_values has the key {key!r}; wanted a colour as '#ff0000'")
        return f"#{digits}"
    if isinstance(key, str) and key.removeprefix("-").isdecimal():
        # A YAML or JSON mapping may turn numbers into text.
        return int(key)
    if isinstance(key, bool) or not isinstance(key, int | np.integer):
        raise TypeError(f"mask_values has the key {key!r}; wanted a whole number or '#rrggbb'")
    return int(key)


def _take_apart(image: Image.Image) -> _Layers:
    lossy = image.format in ("JPEG", "MPO")
    opacity = None
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        opacity = np.asarray(image.convert("RGBA"))[..., 3]
        if (opacity == 255).all():
            opacity = None
    if image.mode in ("1", "L", "I", "F") or image.mode.startswith("I;"):
        return _Layers(np.asarray(image), None, opacity, lossy)
    if image.mode == "LA":
        return _Layers(np.asarray(image)[..., 0], None, opacity, lossy)
    colours: NDArray[np.uint8] | None = np.asarray(image.convert("RGB"))
    assert colours is not None
    numbers: NDArray[Any] | None = None
    if image.mode in ("P", "PA"):
        indices = np.asarray(image)
        numbers = indices if indices.ndim == 2 else indices[..., 0]
    elif (colours == colours[..., :1]).all():
        numbers, colours = colours[..., 0], None
    return _Layers(numbers, colours, opacity, lossy)


def _as_told(layers: _Layers, mask_values: MaskValues) -> States:
    numbers, colours = layers.numbers, layers.colours
    drawn_in_opacity = layers.opacity is not None and _is_constant(numbers, colours)
    if drawn_in_opacity:
        numbers, colours = layers.opacity, None
    if not isinstance(mask_values, dict):
        values = numbers if colours is None else colours.max(axis=2)
        assert values is not None and mask_values is not None
        if not np.isfinite(values).all():
            raise _Undecided("values that are not finite")
        if values.dtype.kind == "u":
            largest = np.iinfo(values.dtype).max
            if not 0 < mask_values <= largest:
                marked = "every" if mask_values <= 0 else "no"
                raise _Undecided(
                    f"values from 0 to {largest}, of which mask_values={mask_values:g} marks "
                    f"{marked} one"
                )
        return (values >= mask_values).astype(np.uint8)
    by_colour = any(isinstance(key, str) for key in mask_values)
    if by_colour and colours is None and numbers is not None and numbers.dtype == np.uint8:
        colours = np.repeat(numbers[..., None], 3, axis=2)
    if by_colour and colours is not None:
        packed, wanted = _packed(colours), {_number_of(key): key for key in mask_values}
    elif not by_colour and numbers is not None:
        packed, wanted = numbers, {_number_of(key): key for key in mask_values}
    else:
        raise _Undecided("colours" if numbers is None else "numbers")
    states = np.full(packed.shape, 255, dtype=np.uint8)
    for number, key in wanted.items():
        meaning = mask_values[key]
        states[packed == number] = get_args(MaskMeaning).index(meaning)
    if (states == 255).any():
        unknown = np.unique(packed[states == 255])
        words = _listed_colours(unknown) if by_colour else _listed(unknown)
        raise _Undecided(f"{words}, not among those of mask_values")
    return states


def _decide(layers: _Layers) -> NDArray[np.bool_]:
    if layers.opacity is None:
        return _by_look(layers)
    if _is_constant(layers.numbers, layers.colours):
        return _by_value(layers.opacity, layers.lossy)
    look, shape = _by_look(layers), _by_value(layers.opacity, layers.lossy)
    if not np.array_equal(look, shape):
        raise _Undecided("colours and a transparency that mark different pixels")
    return look


def _by_look(layers: _Layers) -> NDArray[np.bool_]:
    """Decide by numbers and colours, the transparency aside."""
    numbers, colours = layers.numbers, layers.colours
    if colours is None:
        assert numbers is not None
        return _by_value(numbers, layers.lossy)
    if numbers is None:
        return _by_colour(colours)
    # A palette: what is stored and what is seen must say the same.
    used, first = np.unique(numbers, return_index=True)
    seen = colours.reshape(-1, 3)[first].astype(int)
    if used[-1] <= 1:
        brightness = seen.sum(axis=1)
        agree = brightness[-1] > 0 if used[-1] == 1 else brightness[0] == 0
        if not agree or (len(used) == 2 and brightness[1] <= brightness[0]):
            raise _Undecided(f"{_listed(used)}, palette indices of {_listed_colours(seen)}")
        return np.asarray(numbers == 1)
    if (seen == seen[:, :1]).all():
        return _by_value(colours[..., 0], layers.lossy)
    try:
        return _by_colour(colours)
    except _Undecided:
        raise _Undecided(f"{_listed(used)}, palette indices of {_listed_colours(seen)}") from None


def _by_value(values: NDArray[Any], lossy: bool) -> NDArray[np.bool_]:
    if values.dtype == np.bool_:
        return values
    if not np.isfinite(values).all():
        raise _Undecided("values that are not finite")
    found = _distinct(values)
    if np.isin(found, (0, 1)).all():
        return np.asarray(values == 1)
    top = float(found[-1])
    full = next((full for full in (1.0, 255.0, 65535.0) if top <= full), None)
    if full is None or found[0] < 0 or (full == 1 and values.dtype.kind in "iu"):
        raise _Undecided(_listed(found))
    if len(found) == 1 + (found[0] == 0) and top > 0.75 * full:
        return np.asarray(values == found[-1])
    if not _is_soft(values / full, found / full, lossy):
        raise _Undecided(_listed(found))
    return np.asarray(values / full >= 0.5)


def _is_soft(values: NDArray[Any], found: NDArray[Any], lossy: bool) -> bool:
    """Whether values from 0 to 1 are those of a mask with soft edges, not of classes.

    Edges are thin: a value in the middle of the range that fills a 3 x 3 block is a class or an
    ignored region, and wide slopes or a middle that takes most of the image are a photograph or a
    map of scores. And no patch of any size may stay below one half, since it would be lost.
    """
    between = found[(found >= _NEAR) & (found <= 1 - _NEAR)]
    if lossy:
        if found[0] > _NEAR or found[-1] < 1 - _NEAR:
            return False
    elif found[0] != 0 or found[-1] != 1 or len(between) < 2:
        return False
    middle = (values >= _NEAR) & (values <= 1 - _NEAR)
    spread = ndimage.maximum_filter(values, 3) - ndimage.minimum_filter(values, 3)
    flat = middle & (spread <= (8 / 255 if lossy else 0))
    if flat[1:-1, 1:-1].any() or middle.mean() > 0.5:
        return False
    if ndimage.minimum_filter(middle, min(11, *middle.shape)).any():
        return False
    patches, count = ndimage.label(values >= _NEAR, np.ones((3, 3)))
    numbers = range(1, count + 1)
    sizes = ndimage.sum_labels(values >= _NEAR, patches, numbers)
    peaks = ndimage.maximum(values, patches, numbers)
    # Smaller ones are specks that resizing leaves of a single marked pixel.
    return not ((np.asarray(sizes) >= 9) & (np.asarray(peaks) < 0.5)).any()


def _by_colour(colours: NDArray[np.uint8]) -> NDArray[np.bool_]:
    found = np.unique(_packed(colours))
    used = [channel for channel in range(3) if colours[..., channel].any()]
    if len(found) == 2 and found[0] == 0 and int(colours.max()) >= 224:
        return np.asarray(colours.any(axis=2))
    if len(used) == 1:
        # One pure colour on black, perhaps with soft edges.
        try:
            return _by_value(colours[..., used[0]], lossy=False)
        except _Undecided:
            pass
    raise _Undecided(_listed_colours(found))


def _is_constant(numbers: NDArray[Any] | None, colours: NDArray[np.uint8] | None) -> bool:
    if colours is not None:
        return bool((colours == colours[:1, :1]).all())
    return numbers is not None and bool((numbers == numbers[:1, :1]).all())


def _distinct(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype == np.uint8:
        return np.flatnonzero(np.bincount(values.ravel(), minlength=256))
    return np.unique(values)


def _packed(colours: NDArray[np.uint8]) -> NDArray[np.int64]:
    wide = colours.astype(np.int64)
    return np.asarray(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2])


def _number_of(key: int | str) -> int:
    return int(key[1:], 16) if isinstance(key, str) else key


def _listed(values: NDArray[Any]) -> str:
    words = [f"{value:g}" for value in values[:_SHOWN].tolist()]
    if len(values) > _SHOWN:
        words[-1] = f"... and {values[-1]:g} ({len(values)} values)"
        return f"the values {', '.join(words)}"
    return f"the values {', '.join(words)}" if len(words) > 1 else f"only the value {words[0]}"


def _listed_colours(colours: NDArray[Any]) -> str:
    packed = colours if colours.ndim == 1 else _packed(colours.astype(np.uint8))
    words = [f"#{int(value):06x}" for value in packed[:_SHOWN]]
    more = f" and {len(packed) - _SHOWN} more" if len(packed) > _SHOWN else ""
    return f"the colours {', '.join(words)}{more}"


def _advice(layers: _Layers) -> str:
    """The option to write, with the values that the file holds as far as they are few."""
    numbers, colours = layers.numbers, layers.colours
    if layers.opacity is not None and _is_constant(numbers, colours):
        numbers, colours = layers.opacity, None
    if numbers is None:
        example = '{"#000000": "normal", "#ff0000": "anomalous"}'
        return f"say what each colour means, as in mask_values={example}"
    found = _distinct(numbers[np.isfinite(numbers)])
    middle = f"{(float(found[0]) / 2 + float(found[-1]) / 2 if len(found) > 1 else 0.5):g}"
    threshold = f"say the smallest value that is anomalous, as in mask_values={middle}"
    if numbers.dtype.kind == "f":
        return threshold
    shown = sorted(found.tolist(), key=abs)[:4]
    meanings = ["normal", *["anomalous"] * len(shown)]
    example = ", ".join(f'{value}: "{what}"' for value, what in zip(shown, meanings, strict=False))
    if len(found) > len(shown):
        example += ", ..."
    return (
        f"say what each value means with mask_values, as in mask_values={{{example}}} (or "
        f'"ignore"), or {threshold}'
    )
