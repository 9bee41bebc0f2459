"""A published experiment: its specification, its settings per budget, and what runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, cast

from captum_vae.experiments.results import Findings
from captum_vae.experiments.specification import Budget, Settings, Specification
from captum_vae.experiments.work import Work


@dataclass(frozen=True)
class Experiment(Generic[Settings]):
    """A published experiment.

    Attributes:
        specification: Its title, claims and words.
        settings: A frozen dataclass of plain values per budget.
        run: Called with the settings, the folder of data sets (None for rendered and
            scikit-learn's data) and the :class:`~captum_vae.experiments.work.Work`; it gives the
            findings so far whenever a part has finished, those of the whole run last.
        parts: The options that choose a part or the length of an experiment, each with the setting
            that it replaces.
        published_data: Whether what was published was measured on data from a folder.
    """

    specification: Specification
    settings: Mapping[Budget, Settings]
    run: Callable[[Settings, Path | None, Work], Iterator[Findings]]
    parts: Mapping[str, str] = field(default_factory=dict)
    published_data: bool = True

    def chosen(self, budget: Budget, options: Mapping[str, Any]) -> Settings:
        """The settings of a budget with those replaced that options choose.

        Args:
            budget: What it may cost.
            options: Values by the names of options; None leaves a setting as it is.

        Raises:
            ValueError: The experiment does not have the option, or a value is out of range.
        """
        given = {name: value for name, value in options.items() if value is not None}
        for name, value in given.items():
            if name not in self.parts:
                known = ", ".join(self.parts)
                raise ValueError(
                    f"{name} is {value!r}, which {self.specification.name} does not have; of the "
                    f"options that choose a part it has {known}"
                )
        changes = {
            self.parts[name]: tuple(value) if isinstance(value, list) else value
            for name, value in given.items()
        }
        if "epochs" in given:
            changes["steps"] = 0
        settings: Any = self.settings[budget]
        changed: Settings = replace(settings, **changes)
        return changed

    def results(
        self, budget: Budget, settings: Settings, findings: Findings, facts: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The results as plain JSON data, from which every page is written.

        Args:
            budget: What was run.
            settings: The budget's settings, perhaps with some replaced.
            findings: What the run found.
            facts: Command, version, commit, seed, machine, seconds and trainings.

        Raises:
            ValueError: A claim has no verdict, or a verdict is on no claim.
        """
        specification = self.specification
        names = [claim.name for claim in specification.claims]
        if sorted(names) != sorted(findings.verdicts):
            raise ValueError(
                f"{specification.name} has the claims {sorted(names)} and verdicts on "
                f"{sorted(findings.verdicts)}; wanted one verdict per claim"
            )
        claims = []
        for claim in specification.claims:
            verdict = findings.verdicts[claim.name]
            said = {"name": claim.name, "text": claim.text, "source": claim.source}
            claims.append({**said, "verdict": verdict.outcome, "because": verdict.because})
        found = asdict(findings)
        del found["data"], found["verdicts"]
        return {
            "experiment": specification.name,
            "title": specification.title,
            "about": specification.about,
            "scale": budget,
            "data": findings.data,
            "claims": claims,
            **found,
            "settings": specification.shown(asdict(cast(Any, settings))),
            **facts,
        }
