"""A published experiment: its specification, its settings per budget, and what runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic

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
            scikit-learn's data) and the :class:`~captum_vae.experiments.work.Work`.
    """

    specification: Specification
    settings: Mapping[Budget, Settings]
    run: Callable[[Settings, Path | None, Work], Findings]

    def results(
        self, budget: Budget, findings: Findings, facts: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The results as plain JSON data, from which every page is written.

        Args:
            budget: What was run.
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
        settings: Any = self.settings[budget]
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
            "settings": specification.shown(asdict(settings)),
            **facts,
        }
