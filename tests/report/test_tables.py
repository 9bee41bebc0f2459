import csv
import io
import math

import pytest

from captum_vae.report.tables import Table, unbroken

TABLE = Table(["name", "AUROC"], [["a|b", 0.1234567890123], ["longer\nname", None]])


def test_text_is_aligned_and_has_a_line_per_row() -> None:
    assert TABLE.text() == "name         AUROC\na|b          0.1234567890123\nlonger name"


def test_markdown_escapes_bars_and_joins_lines() -> None:
    assert TABLE.markdown() == (
        "| name | AUROC |\n| --- | --- |\n| a\\|b | 0.1234567890123 |\n| longer name |  |"
    )


def test_csv_reads_back_in_full_with_undefined_values_empty() -> None:
    rows = [['say "a, b"\nc', 1 / 3], ["x", math.nan], ["y", None]]
    read = list(csv.reader(io.StringIO(Table(["name", "value"], rows).csv())))
    assert read[0] == ["name", "value"]
    assert read[1][0] == 'say "a, b"\nc' and float(read[1][1]) == 1 / 3
    assert read[2:] == [["x", ""], ["y", ""]]


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="row 1 has 1 cells for the 2 columns"):
        Table(["a", "b"], [["1", "2"], ["3"]])


def test_a_table_of_columns_alone_renders() -> None:
    assert Table(["a", "b"], []).text() == "a  b"
    assert Table(["a", "b"], []).csv() == "a,b\n"


def test_a_data_frame_takes_the_records_in_one_line() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(Table(["scorer", "auroc"], [["a", 0.5], ["b", 0.25]]).records())
    assert list(frame.columns) == ["scorer", "auroc"] and frame["auroc"].sum() == 0.75


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.83 [0.81, 0.85]", "0.83 [0.81,\u00a00.85]"),
        ("[+0.01, -0.02]", "[+0.01,\u00a0-0.02]"),
        ("| **0.8** [0.1, 0.2] |", "| **0.8** [0.1,\u00a00.2] |"),
        ('`{"mean": [0.5, 0.5]}`', '`{"mean": [0.5, 0.5]}`'),
        ("[1, 2]", "[1, 2]"),
    ],
)
def test_intervals_do_not_break(text: str, expected: str) -> None:
    assert unbroken(text) == expected
