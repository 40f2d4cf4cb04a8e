"""One self-contained HTML page of an evaluation: tables, and plots as inline SVG. Nothing is loaded from elsewhere.

Simulated data is said in the title and at the top of the page.
"""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.dataset import Dataset
from training.estimator import Fitted
from training.evaluation import measures
from training.evaluation.measures import Tested
from turnout.tactics import load_catalogue

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

LABELS: Mapping[str, str] = {
    "ours": "Turnout",
    "benchmark": "published benchmark only",
    "historical_cpa": "cost per registration so far",
    "hill": "Hill curve per tactic",
    "linear": "linear regression",
    "lightgbm": "LightGBM",
}
_BLUE, _GREY, _RED, _GREEN = "#1f5fa8", "#9aa3ad", "#b8323a", "#2f7d4f"
_CURVES = 8
_EFFECTS = 20
_POINTS = 400

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1080px;margin:2rem auto;padding:0 1rem;color:#1b2430}
h1{font-size:1.6rem} h2{font-size:1.2rem;margin-top:2.2rem;border-bottom:1px solid #dfe4ea;padding-bottom:.2rem}
table{border-collapse:collapse;margin:.6rem 0} figure{margin:.8rem 0}
td,th{padding:.25rem .8rem;border-bottom:1px solid #e7ebf0;text-align:right}
td:first-child,th:first-child{text-align:left} th{background:#f4f6f9} tr.ours td{font-weight:600;background:#eef4fb}
.banner{background:#fff3cd;border:1px solid #e0c36a;padding:.7rem 1rem;font-weight:600} .note{color:#5a6672}
.big{font-size:1.5rem;font-weight:600} svg{max-width:100%;height:auto} .cards{display:flex;flex-wrap:wrap;gap:1rem}
.card{border:1px solid #dfe4ea;border-radius:6px;padding:.6rem 1rem;min-width:9rem}
"""


class DecisionLike(Protocol):
    """What the page needs of a measured decision."""

    @property
    def regret(self) -> float: ...

    def regret_of(self, rule: str) -> float: ...

    @property
    def rules(self) -> dict[str, float]: ...


# --- pages ------------------------------------------------------------------------------------------------------------


def page(
    title: str,
    report: Mapping[str, Any],
    tested: Sequence[Tested],
    fitted: tuple[Fitted, Dataset] | None,
    decisions: Sequence[DecisionLike] = (),
) -> str:
    """The report of an own history or of simulated worlds.

    Args:
        report: figures as ``turnout evaluate --json`` prints them.
        fitted: a model of a whole history and its dataset, for response curves and effects.
    """
    events, rows = measures.pooled_events(tested), measures.pooled_rows(tested)
    parts = [_cards(report), _list(report.get("notes", []))]
    if len(events):
        parts += [
            "<h2>Against the yardsticks</h2>", _yardsticks(report),
            "<h2>Predicted and actual event totals</h2>", _svg(lambda f: _scatter(f, events), 6.4, 5.2),
            "<h2>Reliability of goal probabilities</h2>",
            "<p class=note>Each point is a tenth of the scale: how often goals were reached that had this probability. "
            f"Calibration error {_percent(report['goal_ece'])}.</p>",
            _svg(lambda f: _reliability(f, report["reliability"]), 5.2, 5.0),
            "<h2>Error by segment and size</h2>", _errors(report), _svg(lambda f: _by_segment(f, report), 9.0, 4.2),
            "<h2>Coverage of 90 % intervals by group</h2>", _svg(lambda f: _coverage(f, report), 9.0, 5.4),
            _coverage_table(report),
        ]  # fmt: skip
    if decisions:
        parts += [
            "<h2>Decisions: regret against the best portfolio</h2>", _decisions(report),
            _svg(lambda f: _regrets(f, decisions), 9.0, 4.0),
        ]  # fmt: skip
    if report.get("learning_curve"):
        parts += [
            "<h2>Learning curve</h2>", _svg(lambda f: _learning(f, report["learning_curve"]), 9.0, 4.6),
            _learning_table(report["learning_curve"]),
        ]  # fmt: skip
    if fitted is not None and len(fitted[1].rows):
        model, dataset = fitted
        parts += [
            "<h2>Response curves against data</h2>",
            "<p class=note>Points are past events; the dashed line is the published benchmark, the full line the model "
            "over the same events.</p>",
            _svg(lambda f: _curves(f, model, dataset), 11.0, 6.0),
            "<h2>Feature effects</h2>", _effects(model, dataset),
        ]  # fmt: skip
    if report.get("by_seed"):
        parts += ["<h2>Seeds</h2>", _records(report["by_seed"])]
    if len(rows):
        parts.append(f"<p class=note>{len(events):,} held-out events, {len(rows):,} held-out tactic results.</p>")
    return _document(title, "".join(parts), is_simulated=bool(report.get("is_simulated")))


def outside_page(title: str, report: Mapping[str, Any]) -> str:
    """The report of an outside file."""
    parts = [_list(report["notes"])]
    for table in report["tables"]:
        parts.append(f"<h2>{_text(table['title'])}</h2>")
        parts.append(_table(table["columns"], table["rows"], first_is_ours=report["data_kind"] != "daily"))
        if table.get("caption"):
            parts.append(f"<p class=note>{_text(table['caption'])}</p>")
    if report.get("daily"):
        parts.append(_svg(lambda f: _daily(f, report), 9.0, 4.0))
    return _document(title, "".join(parts), is_simulated=False)


def _document(title: str, body: str, *, is_simulated: bool) -> str:
    banner = (
        "<p class=banner>SIMULATED DATA. Nothing on this page is a finding about real events.</p>"
        if is_simulated
        else ""
    )
    mark = " (SIMULATED)" if is_simulated else ""
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{_text(title)}{mark}</title><style>{_STYLE}</style>"
        f"<h1>{_text(title)}{mark}</h1>{banner}{body}</html>\n"
    )


# --- tables -----------------------------------------------------------------------------------------------------------


def _text(value: object) -> str:
    return html.escape(str(value))


def _percent(value: object) -> str:
    return f"{100 * float(value):.1f} %" if isinstance(value, int | float) else "–"


def _list(notes: Sequence[str]) -> str:
    return "<ul class=note>" + "".join(f"<li>{_text(n)}</li>" for n in notes) + "</ul>" if notes else ""


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, first_is_ours: bool = False) -> str:
    def cell(value: object) -> str:
        return f"{value:,.4g}" if isinstance(value, float) else _text(value)

    head = "".join(f"<th>{_text(c)}</th>" for c in columns)
    body = "".join(
        f"<tr{' class=ours' if first_is_ours and number == 0 else ''}>"
        + "".join(f"<td>{cell(v)}</td>" for v in row)
        + "</tr>"
        for number, row in enumerate(rows)
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _cards(report: Mapping[str, Any]) -> str:
    shown = (
        ("accuracy of event totals", "accuracy"), ("attainable", "attainable_accuracy"),
        ("share of attainable", "share_of_attainable"), ("90 % intervals cover", "coverage_90"),
        ("goal calibration error", "goal_ece"), ("regret, mean", "regret_mean"),
        ("regret, 95th percentile", "regret_p95"),
    )  # fmt: skip
    cards = "".join(
        f"<div class=card><div class=big>{_percent(report.get(key))}</div>{label}</div>"
        for label, key in shown
        if report.get(key) is not None
    )
    return f"<div class=cards>{cards}</div>"


def _yardsticks(report: Mapping[str, Any]) -> str:
    rows = [
        [LABELS.get(n, n), _percent(r["accuracy"]), _percent(r["wape_tactics"]), r["mae_tactics"] or "–"]
        for n, r in report["yardsticks"].items()
    ]
    return _table(["", "accuracy of event totals", "WAPE per tactic", "MAE per tactic"], rows, first_is_ours=True)


def _errors(report: Mapping[str, Any]) -> str:
    rows = [
        [
            name,
            f"{r['events']:.0f}",
            *(_percent(r[k]) for k in ("accuracy", "attainable_accuracy", "best_yardstick", "bias")),
        ]
        for key in ("error_by_segment", "error_by_size")
        for name, r in report[key].items()
    ]
    return _table(["", "events", "accuracy", "attainable", "best yardstick", "bias"], rows)


def _coverage_table(report: Mapping[str, Any]) -> str:
    rows = [
        [f"{label}: {name}", _percent(value)]
        for label, key in (
            ("tactics", "coverage_90_by_group"), ("segment", "coverage_90_by_segment"), ("size", "coverage_90_by_size"),
        )
        for name, value in report[key].items()
    ]  # fmt: skip
    return _table(["group", "90 % intervals cover"], rows)


def _decisions(report: Mapping[str, Any]) -> str:
    found = report["decisions"]
    rows = [["Turnout", _percent(report["regret_mean"]), _percent(report["regret_p95"]), ""]]
    rows += [
        [name, _percent(r["regret_mean"]), _percent(r["regret_p95"]), _percent(r["ours_is_better"])]
        for name, r in found["rules"].items()
    ]
    caption = (
        f"<p class=note>{found['events']} events announced after the models were trained; same budget, hours and "
        "tactics in time for everybody. The best portfolio is proved to be within "
        f"{100 * found['proved_gap_max']:.2f} % of the best there is.</p>"
    )
    columns = ["portfolio", "mean regret", "95th percentile", "Turnout at least as good"]
    return _table(columns, rows, first_is_ours=True) + caption


def _learning_table(points: Sequence[Mapping[str, Any]]) -> str:
    names = list(points[0]["accuracy"])
    rows = [[f"{p['past_events']:,}", *(_percent(p["accuracy"][n]) for n in names)] for p in points]
    return _table(["past events", *(LABELS.get(n, n) for n in names)], rows)


def _records(records: Sequence[Mapping[str, Any]]) -> str:
    columns = list(records[0])
    return _table(columns, [[r[c] for c in columns] for r in records])


# --- plots ------------------------------------------------------------------------------------------------------------


def _svg(draw: Callable[[Figure], None], width: float, height: float) -> str:
    """``draw``'s figure as inline SVG, the same bytes for the same data."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: Any = {
        "svg.hashsalt": "turnout", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False,
        "axes.spines.right": False,
    }  # fmt: skip
    with mpl.rc_context(settings):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure)
        buffer = io.StringIO()
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(buffer, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return "<figure>" + text[text.index("<svg") :] + "</figure>"


def _axes(figure: Figure, title: str, x: str, y: str) -> Axes:
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return axes


def _scatter(figure: Figure, events: pd.DataFrame) -> None:
    axes = _axes(figure, "held-out events, with 90 % intervals", "predicted registrations", "actual registrations")
    shown = events if len(events) <= _POINTS else events.sample(_POINTS, random_state=1)
    x, y = shown["predicted"].to_numpy(dtype=np.float64), shown["registrations"].to_numpy(dtype=np.float64)
    low, high = (shown[c].to_numpy(dtype=np.float64) for c in ("p05", "p95"))
    axes.vlines(x, low, high, color=_GREY, alpha=0.25, linewidth=1)
    axes.plot(x, y, ".", color=_BLUE, markersize=4)
    top = float(max(x.max(), y.max(), 1.0))
    axes.plot([0, top], [0, top], color=_RED, linewidth=1)


def _reliability(figure: Figure, bins: Sequence[Mapping[str, float]]) -> None:
    axes = _axes(figure, "goals of held-out events", "probability given", "share reached")
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1)
    axes.plot([b["probability"] for b in bins], [b["reached"] for b in bins], "o-", color=_BLUE, markersize=5)
    for b in bins:
        axes.annotate(
            f"{b['goals']:.0f}", (b["probability"], b["reached"]), (4, -10), textcoords="offset points", fontsize=7
        )


def _by_segment(figure: Figure, report: Mapping[str, Any]) -> None:
    axes = _axes(figure, "accuracy by segment", "", "1 − WAPE")
    found = report["error_by_segment"]
    names = list(found)
    at = np.arange(len(names))
    axes.bar(at - 0.2, [found[n]["accuracy"] or 0 for n in names], 0.4, color=_BLUE, label="Turnout")
    axes.bar(at + 0.2, [found[n]["best_yardstick"] or 0 for n in names], 0.4, color=_GREY, label="best yardstick")
    if report["attainable_accuracy"] is not None:
        limits = [found[n]["attainable_accuracy"] or 0 for n in names]
        axes.plot(at, limits, "_", color=_RED, markersize=16, label="attainable")
    axes.set_xticks(at, names, rotation=40, ha="right")
    axes.set_ylim(0, 1.15)
    axes.legend(frameon=False, ncols=3, loc="upper right")


def _coverage(figure: Figure, report: Mapping[str, Any]) -> None:
    axes = _axes(figure, "", "share of held-out results inside the 90 % interval", "")
    keys = ("coverage_90_by_group", "coverage_90_by_segment", "coverage_90_by_size")
    found = [
        (n, v, color) for key, color in zip(keys, (_BLUE, _GREEN, _RED), strict=True) for n, v in report[key].items()
    ]
    found = [(n, v, c) for n, v, c in found if v is not None][::-1]
    axes.axvspan(0.85, 0.95, color=_GREY, alpha=0.15)
    axes.axvline(0.9, color=_GREY, linewidth=1)
    axes.scatter([v for _, v, _ in found], range(len(found)), c=[c for _, _, c in found], s=22)
    axes.set_yticks(range(len(found)), [n for n, _, _ in found], fontsize=7)
    axes.set_xlim(min(0.6, min(v for _, v, _ in found) - 0.02), 1.01)


def _regrets(figure: Figure, decisions: Sequence[DecisionLike]) -> None:
    axes = _axes(figure, "share of decisions with at most this regret", "regret", "share")
    series = {"Turnout": [d.regret for d in decisions]}
    series |= {name: [d.regret_of(name) for d in decisions] for name in decisions[0].rules}
    share = np.arange(1, len(decisions) + 1) / len(decisions)
    for (name, values), color in zip(series.items(), (_BLUE, _GREY, _GREEN, _RED), strict=False):
        axes.step(
            np.sort(values), share, where="post", color=color, label=name, linewidth=2 if name == "Turnout" else 1
        )
    axes.legend(frameon=False, loc="lower right")
    axes.set_xlim(left=0)


def _learning(figure: Figure, points: Sequence[Mapping[str, Any]]) -> None:
    axes = _axes(figure, "accuracy of event totals by number of past events", "past events", "1 − WAPE")
    x = np.arange(len(points))
    for name in points[0]["accuracy"]:
        values = [p["accuracy"][name] for p in points]
        style: dict[str, Any] = {"color": _BLUE, "linewidth": 2.5} if name == "ours" else {"linewidth": 1}
        axes.plot(
            x, [np.nan if v is None else v for v in values], "o-", label=LABELS.get(name, name), markersize=4, **style
        )
    limits = [np.nan if p["attainable_accuracy"] is None else float(p["attainable_accuracy"]) for p in points]
    if np.isfinite(limits).all():
        axes.plot(x, limits, ":", color=_RED, label="attainable")
    axes.set_xticks(x, [f"{p['past_events']:,}" for p in points])
    axes.legend(frameon=False, ncols=2, loc="lower right")


def _daily(figure: Figure, report: Mapping[str, Any]) -> None:
    axes = _axes(figure, "registrations per day", "days before the event", "registrations")
    found = report["daily"]
    days_before = pd.Timestamp(found["event"]) - pd.to_datetime(found["days"])
    before = days_before.days.to_numpy(dtype=np.float64)
    axes.bar(-before, found["counts"], color=_GREY, width=1.0)
    axes.set_xticks([-120, -90, -60, -30, -14, 0], ["120", "90", "60", "30", "14", "0"])
    for ahead, result in report["results"].items():
        if ahead.isdigit():
            days = np.array([-float(ahead), -1.0])
            level = result["forecasts"]["ours"] / float(ahead)
            axes.plot(days, [level, level], color=_BLUE, linewidth=2)
    axes.set_xlim(-125, 6)


# --- the model itself -------------------------------------------------------------------------------------------------


def _curves(figure: Figure, model: Fitted, dataset: Dataset) -> None:
    catalogue = load_catalogue()
    rows = dataset.rows
    means = model.means(dataset)
    names = rows["tactic_id"].value_counts().index[:_CURVES]
    for number, name in enumerate(names):
        at = np.flatnonzero((rows["tactic_id"] == name).to_numpy())
        axes = figure.add_subplot(2, 4, number + 1)
        x, y = (rows[c].to_numpy(dtype=np.float64)[at] for c in ("x", "y"))
        is_paid = name in catalogue and catalogue.get(name).is_paid
        unit = 1000.0 if is_paid else 1.0
        axes.plot(x / unit, y, ".", color=_GREY, markersize=3)
        grid = np.linspace(0, float(np.quantile(x, 0.98)) * 1.1, 60)
        sample = at[np.linspace(0, len(at) - 1, min(len(at), 40)).astype(int)]
        benchmark, own = np.zeros_like(grid), np.zeros_like(grid)
        for i in sample:
            prior = dataset.curves[i]
            curve = model.parameters.curve(str(name), prior)
            height = float(means[i]) / max(float(curve(float(rows["x"].iloc[i]))), 1e-6)
            benchmark += prior(grid) / len(sample)
            own += curve(grid) * min(height, 50.0) / len(sample)
        axes.plot(grid / unit, benchmark, "--", color=_RED, linewidth=1)
        axes.plot(grid / unit, own, color=_BLUE, linewidth=2)
        axes.set_title(str(name), fontsize=9, loc="left")
        axes.set_xlabel("thousand of spend" if is_paid else "staff hours", fontsize=7)
        axes.set_ylim(0, max(float(np.quantile(y, 0.98)) * 1.2, 1.0))
        axes.tick_params(labelsize=7)


def _effects(model: Fitted, dataset: Dataset) -> str:
    """Mean absolute contribution (TreeSHAP) of each feature to the log of the expected registrations."""
    if model.booster.num_boosted_rounds() == 0:
        return (
            "<p class=note>No trees were grown: on later events they did not beat the pooled curves. What moves a "
            "prediction is the tactic, its amount, segment, kind, season and demand.</p>"
        )
    import xgboost

    matrix = dataset.matrix()[-5000:]
    data = xgboost.DMatrix(matrix, feature_names=list(model.parameters.feature_names), nthread=1)
    contributions = np.abs(model.booster.predict(data, pred_contribs=True)[:, :-1]).mean(axis=0)
    order = np.argsort(contributions)[::-1][:_EFFECTS]
    names = [model.parameters.feature_names[i] for i in order]

    def draw(figure: Figure) -> None:
        axes = _axes(figure, "mean |effect| on log registrations (TreeSHAP)", "", "")
        axes.barh(range(len(order)), contributions[order][::-1], color=_BLUE)
        axes.set_yticks(range(len(order)), names[::-1], fontsize=7)

    return _svg(draw, 8.0, 5.0)


__all__ = ["LABELS", "DecisionLike", "outside_page", "page"]
