"""Plugins as installed distributions see them: real metadata folders on sys.path."""

import importlib
import sys

import pytest

from captum_vae.commands.main import main
from captum_vae.plugins import GROUPS, PluginError, Registry


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a distribution with entry points, and perhaps a module, on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(distribution: str, entries: str, **modules: str) -> None:
        info = tmp_path / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n"
        )
        (info / "entry_points.txt").write_text(entries)
        for name, source in modules.items():
            (tmp_path / f"{name}.py").write_text(source)
        importlib.invalidate_caches()

    yield install
    for name in ("plug_a", "plug_b", "plug_broken"):
        sys.modules.pop(name, None)


def test_a_plugin_of_another_distribution_is_found_by_name(install):
    install(
        "plug-a", "[captum_vae.scorers]\nmine = plug_a:Mine\n", plug_a="class Mine:\n    x = 7\n"
    )
    assert Registry("scorers").load("mine").x == 7


def test_listing_names_imports_nothing(install):
    install("plug-a", "[captum_vae.scorers]\nmine = plug_a:Mine\n", plug_a="raise SystemError\n")
    assert "mine" in Registry("scorers").names
    assert "plug_a" not in sys.modules


def test_a_name_registered_twice_is_an_error_that_names_both_distributions(install):
    install("plug-a", "[captum_vae.models]\nmine = plug_a:A\n", plug_a="A = 1\n")
    install("plug-b", "[captum_vae.models]\nmine = plug_b:B\nother = plug_b:B\n", plug_b="B = 2\n")
    registry = Registry("models")
    with pytest.raises(PluginError, match="plug-a.*plug-b|plug-b.*plug-a"):
        registry.load("mine")
    assert registry.load("other") == 2
    assert list(registry.problems()) == ["mine"]


def test_a_plugin_that_fails_to_import_breaks_nothing_else(install):
    install(
        "plug-broken",
        "[captum_vae.scorers]\nbroken = plug_broken:X\nfine = plug_a:A\n",
        plug_broken="raise RuntimeError('no such driver')\n",
        plug_a="A = 1\n",
    )
    registry = Registry("scorers")
    assert registry.load("fine") == 1
    with pytest.raises(PluginError, match="broken.*plug-broken.*RuntimeError: no such driver"):
        registry.load("broken")
    assert set(registry.problems()) == {"broken"}


def test_a_missing_attribute_is_reported_as_a_failing_plugin(install):
    install("plug-a", "[captum_vae.scorers]\nmine = plug_a:Absent\n", plug_a="A = 1\n")
    with pytest.raises(PluginError, match="AttributeError"):
        Registry("scorers").load("mine")


def test_an_unknown_name_lists_the_known_ones_and_the_nearest():
    with pytest.raises(PluginError, match="mvtec.*did you mean 'mvtec'"):
        Registry("datasets").load("mvtek")


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="kind is 'losses'; wanted one of attributions"):
        Registry("losses")


@pytest.mark.parametrize("kind", GROUPS)
def test_every_built_in_is_registered_and_imports(kind):
    registry = Registry(kind)
    assert any(registry.plugin(name).distribution == "captum-vae" for name in registry.names)
    assert registry.problems() == {}


def test_the_command_reports_a_broken_plugin_and_lists_the_others(install, capsys):
    install(
        "plug-broken",
        "[captum_vae.scorers]\nbroken = plug_broken:X\n",
        plug_broken="raise RuntimeError('no such driver')\n",
    )
    assert main(["plugins"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("broken" in line and "no such driver" in line for line in lines)
    assert any("mvtec" in line and "captum_vae.data:MVTec" in line for line in lines)
