"""The table and the compact file from benchmark JSON, on ratios chosen by hand."""

import json

import pytest

from benchmarks.summary import BEGIN, COLUMNS, END, compact, main, table
from benchmarks.ways import WAYS


def spread(median):
    return {"median": median, "low": median * 0.9, "high": median * 1.1}


def row(way, seconds, ratios, peak=100, **setting):
    return {
        "encoder": "MNIST",
        "layer": "relu2",
        "features": "post-activation",
        "dims": 32,
        "batch": 128,
        "image_size": 28,
        "device": "cpu",
        "dtype": "float32",
        "plan": "pooled",
        "way": way,
        "seconds": spread(seconds),
        "ratios": {name: spread(ratio) for name, ratio in ratios.items()},
        "rounds": 3,
        "peak_bytes": peak,
        "protocol": {"clock": "wall", "seed": 0},
    } | setting


@pytest.fixture
def raw():
    rows = [
        row("method2_autograd", 0.025, {"method2": 1.25, "method1": 0.8}, peak=200),
        row("method2", 0.02, {"method2_autograd": 0.8, "method1": 0.64}),
        row("method1", 0.03125, {"method2_autograd": 1.25, "method2": 1.5625}, peak=150),
        row("batched_vjp", 0.25, {"method2_autograd": 10, "method1": 8}),
        row("autograd_loop", 0.5, {"method2_autograd": 20, "method1": 16}),
        row("captum_loop", 1.0, {"method2_autograd": 40, "method1": 32}),
    ]
    slow = {k: v for k, v in row("published_loop", 0, {}).items() if k not in ("seconds", "ratios")}
    return {
        "command": "pytest benchmarks",
        "commit_info": {"id": "0123456789abcdef", "dirty": False},
        "datetime": "2026-01-02T03:04:05",
        "machine_info": {
            "node": "a host name",
            "cpu_model": "A CPU",
            "cores": 2,
            "threads": 2,
            "versions": {"torch": "2.6"},
        },
        "benchmarks": [
            *({"extra_info": r, "stats": {"data": [1.0] * 1000}} for r in rows),
            {"extra_info": {"images_per_second": 5}, "stats": {}},
        ],
        "skipped": [slow | {"reason": "about 90 s a call, more than 60 s"}],
    }


def cells(text):
    heading, values = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| ")
    ]
    return dict(zip(heading, values, strict=True))


def test_the_table_gives_each_way_relative_to_method_2_by_autograd(raw):
    line = cells(table([compact(raw)]))
    assert line["method 2 by autograd"] == "25 ms"
    assert line["method 1, ours"] == "1.25x"
    assert line["method 2, ours"] == "0.80x"
    assert line["batched VJP"] == "10x"
    assert line["Captum loop"] == "40x"
    assert line["method 1 / method 2, ours"] == "1.56x"


def test_the_table_compares_method_1_with_the_faster_general_way(raw):
    # The batched product takes 8 times as long as method 1, the loop 16 times.
    assert cells(table([compact(raw)]))["method 1 / best general way"] == "0.12x"


def test_the_table_compares_peak_memory(raw):
    assert cells(table([compact(raw)]))["memory, method 1 / method 2 by autograd"] == "0.75x"


def test_a_way_that_was_skipped_says_why_in_its_cell(raw):
    line = cells(table([compact(raw)]))
    assert line["published loop"] == "about 90 s a call, more than 60 s"


def test_a_compact_file_has_neither_raw_timings_nor_the_hosts_name_and_gives_the_same_table(raw):
    small = json.loads(json.dumps(compact(raw)))
    assert "data" not in json.dumps(small)
    assert "a host name" not in json.dumps(small)
    assert len(small["rows"]) == 6
    assert compact(small) == small
    assert table([small]) == table([compact(raw)])


def test_rows_of_several_files_stand_in_one_table_the_latest_run_of_a_setting_alone(raw):
    earlier, other = compact(raw), json.loads(json.dumps(compact(raw)))
    earlier["date"] = "2020-01-01"
    for row in [*other["rows"], *other["skipped"]]:
        row["dims"] = 77
    text = table([earlier, compact(raw), other])
    assert sum(line.startswith("| MNIST") for line in text.splitlines()) == 2


def test_runs_of_one_commit_are_written_to_one_file(raw, tmp_path):
    file, out = tmp_path / "raw.json", tmp_path / "out.json"
    file.write_text(json.dumps(raw))
    main([str(file), str(file), "--compact", str(out), "--only", "MNIST"])
    found = json.loads(out.read_text())
    assert len(found["rows"]) == 2 * len(compact(raw)["rows"])
    assert found["command"].count(";") == 1
    main([str(file), "--compact", str(out), "--only", "UCSD"])
    assert json.loads(out.read_text())["rows"] == []


def test_the_table_replaces_what_stands_between_the_markers(raw, tmp_path):
    source, readme, small = (tmp_path / name for name in ("raw.json", "README.md", "small.json"))
    source.write_text(json.dumps(raw))
    readme.write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n")
    main([str(source), "--write", str(readme), "--compact", str(small)])
    main([str(small), "--write", str(readme)])
    assert readme.read_text() == f"before\n\n{BEGIN}\n{table([compact(raw)])}\n{END}\n\nafter\n"


def test_a_file_without_markers_is_left_alone(raw, tmp_path):
    source, readme = tmp_path / "raw.json", tmp_path / "README.md"
    source.write_text(json.dumps(raw))
    readme.write_text("no markers\n")
    with pytest.raises(ValueError, match="speed:begin"):
        main([str(source), "--write", str(readme)])
    assert readme.read_text() == "no markers\n"


def test_a_file_of_other_benchmarks_is_refused(raw):
    with pytest.raises(ValueError, match="bench_channel_weights"):
        compact(raw | {"benchmarks": raw["benchmarks"][-1:]})


def test_every_way_has_a_column():
    assert {"method2_autograd", *COLUMNS} == set(WAYS)
