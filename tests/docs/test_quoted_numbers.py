"""Numbers that the README and the manual quote are those of docs/results, and no others.

Each measured sentence is written here as a function of the result files, and its page must hold it
word for word: where a new file says something else, the failure prints the new sentence. What
looks measured and stands in no such sentence is an error, unless it is a definition listed here.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.docs.blocks import DOCS, ROOT

pytest.importorskip("sphinx")

sys.path.insert(0, str(DOCS / "_ext"))
import readme  # noqa: E402

PAGES = [
    ROOT / "README.md",
    ROOT / "benchmarks" / "README.md",
    *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts),
]

DEFINITIONS = {
    "with 95% intervals": "a confidence level",
    "the mean of the highest 1% of its map": "a score's definition",
    "for alpha = 0.05": "an example",
    "`fit --data.held_out 0.2`": "an example",
    "with alpha = 0.05 and `pixel_rate` = 0.005": "what was promised",
    "looks every five seconds": "an example",
    "at least 80% of each in the 40% of places": "where defects are painted",
    "`margin`, .02 pixel AUROC, at the lower end of the 95% interval": "the rule of the choice",
    "choose the same; below 80% it warns": "the rule of the choice",
    "Python 3.10 or later": "what the package asks for",
    "with its 95% interval": "a confidence level",
    "a 95% interval of Student's t": "a confidence level",
    "Section 3.3 of the paper": "where a formula stands",
    "below 0.05 (or a KL below 0.01 nats)": "thresholds of the metric",
    "a KL above 0.01 nats and a standard deviation of the mean above 0.1": "thresholds",
    "a false positive rate of 0.3": "the integration limit of AUPRO",
    "with and without a CUDA graph: two minutes expected": "an expectation, called so",
    "all methods, precisions and CUDA graphs: ten minutes expected": "an expectation, called so",
    "a short run of eight seeds, two minutes expected": "an expectation, called so",
    "as a difference of .05 takes: 40 minutes a variant expected": "an expectation, called so",
    "67 MB a seed under way, 2 MB once it has finished": "what the architecture comes to",
    "As many as fit into six seconds, 3 to 30": "a rule of the benchmark",
    "more than\n  15 seconds": "a rule of the benchmark",
}
"""Passages whose numbers are chosen, not measured, and what they are."""

_UNIT = (
    r"(?:%|percent|times|x(?! ?\d)|(?:milli|micro)?seconds?|minutes?|hours?|ms|s|[kMGT]i?B|"
    r"FPS|images (?:a|per) second)(?![\w])"
)
_SPELLED = (
    "two|three|four|five|six|seven|eight|nine|ten|twelve|fifteen|twenty|thirty|forty|fifty|sixty|"
    "ninety|hundred|thousand"
)
MEASURED = re.compile(
    rf"(?<![\w.])\d*\.\d+(?:{_UNIT})?|(?<![\w.])\d[\d,]*[ -]?{_UNIT}|\b(?:{_SPELLED})[ -]{_UNIT}"
)
"""Decimals, and numbers with a unit of time, memory, share or ratio, in digits or words."""

NOT_PROSE = [
    re.compile(pattern, re.MULTILINE | re.DOTALL)
    for pattern in (
        r"^```.*?^```$",
        r"^<!-- (\w+):begin -->.*?<!-- \1:end -->$",
        r"<!--.*?-->",
        r"^    \S[^\n]*$",  # indented code
        r"\$\$.*?\$\$",
        r"\$[^$\n]+\$",
        r"`[^`\n]+`",
        r"(?<=\])\([^)\n]*\)",  # where a link leads
        r"^## Citations\n.*?(?=^## |\Z)",
    )
]


class Sentence(NamedTuple):
    """A measured sentence.

    Attributes:
        page: file below the repository.
        text: makes the sentence from docs/results.
    """

    page: str
    text: Callable[[], str]


def result(name: str) -> Any:
    return json.loads((DOCS / "results" / f"{name}.json").read_text(encoding="utf-8"))


def cost_of_all_maps() -> str:
    """Where a closed form applies, 32 dimensions, relative to method 2 by autograd."""
    rows = [
        row
        for _, run in readme.stored("speed")
        for row in run["rows"]
        if row["dims"] == 32 and row["plan"] in ("pooled", "masked")
    ]
    ours, loop = (
        {
            (row["encoder"], row["layer"]): row["ratios"]["method2_autograd"]["median"]
            for row in rows
            if row["way"] == way
        }
        for way in ("method1", "captum_loop")
    )
    exception = ours.pop(("MNIST", "conv2"))
    assert exception > max(ours.values())
    return (
        f"all 32 maps of method 1 cost {min(ours.values()):.2f} to {max(ours.values()):.2f} times "
        "what the one map of method 2 costs with an autograd backward "
        f"({exception:.2f} before the ReLU of the MNIST encoder); looping Captum's `LayerGradCam` "
        f"over the dimensions costs {min(loop.values()):.0f} to {max(loop.values()):.0f} times that"
    )


def compared(other: str) -> dict[int, list[str]]:
    """The data sets where the choice is better (1), worse (-1) or not told apart (0)."""
    found: dict[int, list[str]] = {1: [], -1: [], 0: []}
    evaluations = dict(readme.stored("localization"))
    for name, title in readme.DATA.items():
        sign = readme.difference(evaluations[name], other)["sign"]
        found[sign].append(title.split()[-1])
    return found


def comparison(other: str) -> str:
    words = {1: "better on", -1: "worse on", 0: "not told apart on"}
    found = compared(other)
    return listed(f"{words[sign]} {listed(found[sign])}" for sign in words if found[sign])


def against_the_reconstruction() -> str:
    return f"Against the reconstruction error the choice is {comparison('reconstruction error')}."


def against_the_control() -> str:
    assert not compared(readme.CONTROL)[1], "the latent weights do add something now"
    return (
        "Against the same feature difference without latent weights it is "
        f"{comparison(readme.CONTROL)}: the weights add nothing measurable here"
    )


def how_small_the_data_are() -> str:
    hazelnut, transistor = result("localization_hazelnut"), result("localization_transistor")
    sizes = [(e["normal"]["images"], e["test"]["images"]) for e in (hazelnut, transistor)]
    assert sizes[0] == sizes[1]
    normal, test = sizes[0]
    return f"hazelnut and transistor have {normal} normal and {test} test images each"


def the_reproductions() -> str:
    def claim(name: str) -> Any:
        claims = result(name)["claims"]
        return next(c for c in claims if c["name"] == "ours_beats_reconstruction")

    ucsd, mvtec = claim("reproduce_ucsd"), claim("reproduce_mvtec")
    # "hazelnut: pixel AUROC of ... minus ... -0.132 [-0.254, -0.038]"
    worse = [
        part.partition(":")[0]
        for part in mvtec["because"].split("; ")
        if re.search(r"-\S+ \[-\S+, -\S+\]$", part)
    ]
    steps = result("reproduce_ucsd")["settings"]["steps"]
    return (
        f"that the choice beats the reconstruction error is {ucsd['verdict']} by the reproduction "
        f"on UCSD below, after {steps} steps of training and among more candidates, and "
        f"{mvtec['verdict']} by that on MVTec AD, where a ResNet18 does worse on {listed(worse)}."
    )


def cost_of_a_monitor() -> str:
    run = result("monitoring")
    share = max(row["share"]["high"] for row in run["rows"])
    return f"costs at most {100 * share:.1f}% of the training's time on the VAEs measured"


def cost_of_an_evaluation() -> str:
    found = result("evaluation_cost")
    assert max(found["largest_differences"].values()) < 1e-6
    now = found["now"]
    return (
        f"it took {now['cpu_seconds']:.0f} CPU seconds and {now['peak_mb'] / 1000:.2f} GB, and the "
        f"code of {found['other_commit'][:7]} {found['ratios']['cpu_seconds']:.1f} times as many "
        f"seconds and {found['ratios']['peak_mb']:.1f} times as much memory"
    )


def cost_of_stacked_seeds() -> str:
    names = {"factorvae": "FactorVAE", "normalised": "mode `normalised`", "vae": "a plain VAE"}
    runs = {name: result(f"stacked_seeds_{name}_cpu") for name in names}
    rows = {name: run["rows"][0] for name, run in runs.items()}
    sizes = {(run["settings"]["seeds"], run["settings"]["steps"]) for run in runs.values()}
    ((seeds, steps),) = sizes

    def ratios(key: str) -> str:
        return listed(f"{rows[name][key]:.2f} for {told}" for name, told in names.items())

    differing = listed(
        f"at most {rows[name]['largest_relative_difference_of_a_loss']:.1g} ({told})"
        for name, told in names.items()
    )
    return (
        f"{seeds} seeds of {steps} steps by themselves took these times the processor seconds that "
        f"they took together, importing included: {ratios('speedup')}; by the step, set-up aside, "
        f"{ratios('speedup_of_steps')}, or {ratios('speedup_of_steps_keeping_memory')} where "
        f"single runs too keep freed memory. By then a loss differs by {differing} from that of "
        "the run by itself"
    )


def which_weighting_is_faithful() -> str:
    """By the rows that fill in a blurred copy."""
    worse_than_chance = 0
    for name in ("faithfulness_demo", "faithfulness_bottle"):
        rows = [row for row in result(name)["rows"] if row["fill"] == "blur"]
        area = {(row["map"], row["direction"]): row["area"]["value"] for row in rows}
        for row in rows:
            layer, _, weighting = row["map"].partition(", ")
            if weighting in ("elementwise", "integrated"):
                assert row["minus_gradient_times_input"]["low"] > 0, row
            if weighting == "pooled":
                way = row["direction"]
                assert area[row["map"], way] < area[f"{layer}, elementwise", way]
                worse_than_chance += row["minus_random"]["high"] < 0
    assert worse_than_chance
    return (
        "elementwise and integrated weights are more faithful than gradient times input at every "
        "layer of both VAEs, in both directions; pooled weights, which are Grad-CAM's, are less "
        "faithful than elementwise ones everywhere, and at some layers no better than a random "
        "order."
    )


def cost_of_the_choice() -> str:
    words = []
    for name, features in (
        ("choice", "of a pretrained network"),
        ("choice_scratch", "from scratch"),
    ):
        sets = result(name)["sets"]
        assert all(len(found["choices"]) == 10 for found in sets)
        dearest = max(sets, key=lambda found: found["largest_cost"])
        default = sets[0]["default"].split(",")[0]
        words.append(
            f"on features {features}, {len(sets)} sets and the {default} as default, at most "
            f"{dearest['largest_cost']:.3f}, on {dearest['set']}"
        )
    return f"That was, {'; '.join(words)}."


def cost_of_a_detector() -> str:
    found, trained = result("detector_bottle"), result("training_bottle_conv")
    fitted, applied = found["detect"], found["predict"]
    return (
        f"On the {found['images']['normal']} normal images of bottle at 256 x 256 that takes "
        f"{fitted['cpu_seconds']:.0f} CPU seconds and {fitted['peak_memory_mb'] / 1000:.1f} GB of "
        f"memory, and then {applied['cpu_seconds_per_image']:.2f} CPU seconds an image and "
        f"{applied['peak_memory_mb'] / 1000:.1f} GB; the VAE of `bottle_conv` trains for "
        f"{trained['seconds'] / 60:.0f} minutes first, on the same kind of machine."
    )


def promises_kept() -> str:
    """How many images of each set broke either promise, and how many were to be expected."""
    words = []
    for name in DETECTED:
        found = result(f"detector_{name}")["promised_and_seen"]
        assert found["pixel_rate"] == 0.005 and found["images"]["promised"] == 0.05
        images, pixels = found["images"], found["pixels"]
        units = images["units"]
        if images["unit"] == "clips":
            words.append(
                f"{images['seen']:.2f} and {pixels['seen']:.2f} of the normal frames of {units} "
                f"clips of {name} (up to {images['expected_high']:.2f} to be expected)"
            )
        else:
            words.append(
                f"{images['seen'] * units:.0f} and {pixels['seen'] * units:.0f} of {units} images "
                f"of {name} (up to {images['expected_high'] * units:.0f} to be expected)"
            )
    return f"That was so for {listed(words)}."


def promises_on_unseen() -> str:
    """What was seen on normal images kept out of the fit: as promised, or less."""
    words, less = [], []
    for name in DETECTED:
        if not (DOCS / "results" / f"detector_unseen_{name}.json").is_file():
            continue
        found = result(f"detector_unseen_{name}")["sets"][name]
        rates = [found["unseen"][kind] for kind in ("images", "pixels")]
        assert all(round(rate["promised"], 9) == 0.05 for rate in rates)
        assert all(rate["low"] <= rate["promised"] for rate in rates), name
        if any(rate["high"] < rate["promised"] for rate in rates):
            less.append(name)
        told = [f"{rate['seen']:.2f} [{rate['low']:.2f}, {rate['high']:.2f}]" for rate in rates]
        words.append(f"{' and '.join(told)} on {name} ({found['seeds']} seeds)")
    return (
        f"That was so for a share of {'; '.join(words)}: the promised 0.05 lies inside every "
        f"interval, but for {listed(less)}, where it was so for fewer."
    )


DETECTED = ("bottle", "hazelnut", "transistor", "tile", "ped2")

SENTENCES = [
    Sentence("README.md", cost_of_a_detector),
    Sentence("docs/detector.md", promises_kept),
    Sentence("docs/detector.md", promises_on_unseen),
    Sentence("docs/localization.md", cost_of_the_choice),
    Sentence("docs/localization.md", cost_of_an_evaluation),
    Sentence("docs/results/faithfulness.md", which_weighting_is_faithful),
    Sentence("docs/own_training.md", cost_of_a_monitor),
    Sentence("docs/disentanglement.md", cost_of_stacked_seeds),
    Sentence("README.md", cost_of_all_maps),
    Sentence("README.md", against_the_reconstruction),
    Sentence("README.md", against_the_control),
    Sentence("README.md", how_small_the_data_are),
    Sentence("README.md", the_reproductions),
]


def listed(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def measured(text: str, known: Sequence[str]) -> Iterator[tuple[int, str]]:
    """(Line, number) of what looks measured in a page's prose outside the known passages."""
    for passage in known:
        text = text.replace(passage, blank(passage))
    for pattern in NOT_PROSE:
        text = pattern.sub(lambda match: blank(match[0]), text)
    for match in MEASURED.finditer(text):
        yield text[: match.start()].count("\n") + 1, match[0]


def blank(passage: str) -> str:
    return re.sub(r"[^\n]", " ", passage)


@pytest.mark.parametrize("sentence", SENTENCES, ids=lambda sentence: sentence.text.__name__)
def test_a_measured_sentence_says_what_the_results_say(sentence: Sentence) -> None:
    text = sentence.text()
    page = (ROOT / sentence.page).read_text(encoding="utf-8")
    assert text in page, f"by docs/results, {sentence.page} should say: {text}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_number_stands_in_the_prose_without_a_result(page: Path) -> None:
    name = str(page.relative_to(ROOT))
    known = [*DEFINITIONS, *(s.text() for s in SENTENCES if s.page == name)]
    found = [f"{name}:{line}: {n}" for line, n in measured(page.read_text("utf-8"), known)]
    assert not found, "numbers without a sentence in SENTENCES: " + "; ".join(found)


@pytest.mark.parametrize("passage", DEFINITIONS)
def test_every_definition_is_still_somewhere(passage: str) -> None:
    assert any(passage in page.read_text(encoding="utf-8") for page in PAGES)


@pytest.mark.parametrize(
    "text",
    [
        "it takes 90 seconds",
        "3 times as fast",
        "a 12x gain",
        "two times that",
        "AUROC .95",
        "0.95 on bottle",
        "in 12% of them",
        "needs 300 MiB",
        "all of it in three minutes",
    ],
)
def test_a_number_in_the_prose_is_seen(text: str) -> None:
    assert [line for line, _ in measured(f"# Title\n\n{text}\n", [])] == [3]


@pytest.mark.parametrize(
    "text",
    [
        "method 2, 32 maps, 128 x 128 pixels, on 9, 7, 2 and 4",
        "`weight=0.5` and $\\alpha = 0.5$",
        "[the run](speed_0.5.json)",
        "```python\nx = 0.5\n```",
        "<!-- speed:begin -->\n| 0.5x |\n<!-- speed:end -->",
        "    pytest --limit 0.5",
        "## Citations\n\narXiv:2009.07896",
    ],
)
def test_code_tables_links_and_citations_are_not_prose(text: str) -> None:
    assert list(measured(f"# Title\n\n{text}\n", [])) == []


def test_a_checked_sentence_is_left_out_and_its_line_still_counts() -> None:
    text = "# Title\n\nIt is\n2.5 times\nas fast.\n\nOr 3.5 times."
    assert list(measured(text, ["2.5 times\nas fast"])) == [(7, "3.5")]
