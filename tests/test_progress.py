"""What is told while something runs: to whom, how often, and how it is silenced."""

import logging
from collections.abc import Iterator

import pytest

from captum_vae import progress
from captum_vae.commands.main import COMMANDS, main
from captum_vae.progress import Pace, detail, hides_bar, progress_bar, reporting, stage


class Clock:
    """Time that moves when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(progress.time, "perf_counter", lambda: self.now)

    def slow(self, count: int, seconds: float) -> Iterator[int]:
        for number in range(count):
            self.now += seconds
            yield number


def test_progress_goes_to_standard_error_and_leaves_results_alone(capsys) -> None:
    with reporting():
        stage("training")
        assert list(progress_bar("auto")([1, 2], "maps")) == [1, 2]
        print("result")
    said = capsys.readouterr()
    assert said.out == "result\n"
    assert "captum-vae: training\n" in said.err and "captum-vae: maps: all 2 in " in said.err
    assert "%|" not in said.err  # standard error is no terminal here


@pytest.mark.parametrize("how", [{"quiet": True}, {"progress": "off"}, {"progress": False}])
def test_quiet_and_off_tell_nothing(how, capsys) -> None:
    with reporting(**how):
        stage("training")
        list(progress_bar("auto")([1, 2], "maps"))
    assert capsys.readouterr().err == ""


def test_bars_are_shown_without_a_terminal_when_they_are_asked_for(capsys) -> None:
    with reporting("on"):
        list(progress_bar("auto")([1, 2], "maps"))
    assert "maps:   0%|" in capsys.readouterr().err


def test_details_are_told_by_verbose_alone(capsys) -> None:
    for verbose in (False, True):
        with reporting(verbose=verbose):
            detail("captum_vae 9.9")
        assert ("captum-vae: captum_vae 9.9" in capsys.readouterr().err) == verbose


def test_a_bar_that_is_switched_off_in_python_stays_off() -> None:
    with reporting("on"):
        assert hides_bar("off") is True and hides_bar("auto") is False
    assert hides_bar("auto") is None and hides_bar("on") is False


def test_after_a_command_everything_is_as_before(capsys) -> None:
    logger = logging.getLogger("captum_vae")
    before = (logger.level, list(logger.handlers))
    with pytest.raises(KeyError), reporting("on", verbose=True):
        raise KeyError
    assert (logger.level, list(logger.handlers)) == before
    stage("nobody hears this")
    assert capsys.readouterr().err == "" and hides_bar("auto") is None


def test_under_torchrun_the_first_process_alone_tells(monkeypatch, capsys) -> None:
    monkeypatch.setenv("RANK", "1")
    with reporting("on"):
        stage("training")
        assert hides_bar("auto") is True
    assert capsys.readouterr().err == ""


def test_lines_come_soon_and_then_rarely(monkeypatch) -> None:
    clock = Clock(monkeypatch)
    pace = Pace()
    told = [seconds for _ in clock.slow(3600, 1.0) if (seconds := pace.due()) is not None]
    assert told[:4] == [5, 10, 15, 23]
    gaps = [after - before for before, after in zip(told, told[1:], strict=False)]
    assert max(gaps) <= 60 and min(gaps) >= 5 and len(told) < 80


def test_a_long_pass_is_not_silent(monkeypatch, capsys) -> None:
    clock = Clock(monkeypatch)
    with reporting():
        list(progress_bar("auto")(clock.slow(4, 6.0), "scoring"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "captum-vae: scoring: 1 after 6 s"
    assert lines[-1] == "captum-vae: scoring: all 4 in 24.0 s"


def test_quiet_and_verbose_exclude_each_other(capsys) -> None:
    assert main(["reproduce", "mnist", "--quiet", "--verbose"]) == 2
    assert "quiet and verbose are both chosen" in capsys.readouterr().err


def test_verbose_shows_options_versions_and_where_an_error_came_from(capsys) -> None:
    assert main(["demo", "--normal", "11", "--verbose"]) == 2
    said = capsys.readouterr().err
    assert "captum-vae: normal = 11" in said and "torch " in said
    assert "Traceback" in said and "captum-vae: error: " in said.splitlines()[-1]


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"info", "plugins"}))
def test_help_has_the_shared_options_and_no_markup(command, capsys) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    said = capsys.readouterr().out
    assert all(option in said for option in ("--progress", "--quiet", "--verbose"))
    assert "`" not in said and ":class:" not in said
