"""The charts of UCSD and MVTec AD fit their tables."""

from pathlib import Path

from captum_vae.experiments.anomaly_charts import mvtec_charts, ucsd_charts
from captum_vae.experiments.mvtec_findings import result_tables
from captum_vae.experiments.pages import load_results
from captum_vae.experiments.results import ResultTable

UCSD = Path(__file__).parents[2] / "docs" / "results" / "reproduce_ucsd.json"


def test_the_charts_of_ucsd_draw_the_committed_tables() -> None:
    tables = [
        ResultTable(table["name"], table["title"], table["columns"], table["rows"])
        for table in load_results(UCSD)["tables"]
    ]
    charts = ucsd_charts("Ped2")
    for chart in charts:
        chart.check(tables)
    assert [chart.table for chart in charts] == ["beside", "protocols"]


def test_the_charts_of_mvtec_draw_its_tables() -> None:
    charts = mvtec_charts()
    for chart in charts:
        chart.check(result_tables([], None))
    assert [chart.table for chart in charts] == ["auroc", "best_iou"]
    # Half is chance for an area under a curve; an intersection over union has none of its own.
    assert [chart.reference is not None for chart in charts] == [True, False]
