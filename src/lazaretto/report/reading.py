"""The run log as the report sees it: records by kind, names of systems, metrics. Missing parts are empty.

A log may be cut short, come from a later version or hold more than is known here; nothing in this
module fails for that. What is absent comes back as None or as an empty list or map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lazaretto.report.formats import Triple, clean, items, mapping, number, triple, words
from lazaretto.types import Record

__all__ = [
    "METRICS",
    "OURS",
    "REFERENCES",
    "Log",
    "Metric",
    "called",
    "false_positive_rate",
    "families",
    "group_word",
    "is_outcome",
    "is_timed",
    "is_unfinished",
    "measured",
    "metric_named",
    "paired_auroc",
    "read_log",
    "sites_of",
    "step_seconds",
    "system_key",
    "system_name",
    "systems",
]

OURS = "ours"
# the same model, otherwise trained or used
REFERENCES = (
    *("supervised_only", "traffic_only", "record_only", "without_traffic", "without_record"),
    "with_trigger",
    *("unprotected", "unsplit", "pooled", "local"),
)
_NAMES = {
    OURS: "federated split",
    "supervised_only": "its supervised score alone",
    "traffic_only": "ours on traffic alone",
    "record_only": "ours on records alone",
    "without_traffic": "ours, traffic withheld",
    "without_record": "ours, records withheld",
    "with_trigger": "ours, the backdoor's trigger shown",
    "unprotected": "ours, unprotected",
    "unsplit": "federated unsplit",
    "local": "local only",
    "pooled": "pooled",
    "gradient_boosting": "gradient boosting",
    "logistic_regression": "logistic regression",
    "gru": "GRU",
    "cnn": "CNN",
    "autoencoder": "autoencoder",
    "tcn": "TCN",
    "mlp": "MLP",
    "rate_threshold": "rate threshold",
}
_ATTACKED = ("attacked steps", "normal steps")
_ALIASES = {name.replace(" ", "_").lower(): key for key, name in _NAMES.items()} | {
    "federated": "unsplit",
    "split": OURS,
    "pooled_same_model": "pooled",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """keys: where it may stand in metrics.json. ratio: lies in [0, 1]. up: larger is better."""

    keys: tuple[str, ...]
    title: str
    hint: str = ""
    ratio: bool = True
    up: bool = True


METRICS = (
    Metric(keys=("auroc",), title="AUROC"),
    Metric(keys=("auprc",), title="AUPRC"),
    Metric(keys=("f1",), title="F1"),
    Metric(keys=("accuracy",), title="Accuracy"),
    Metric(keys=("recall", "recall_at_false_positive_rate", "recall_at_1_percent"), title="Recall"),
    Metric(keys=("unseen_at_site.recall",), title="Recall, unseen at site"),
    Metric(
        keys=("leave_one_family_out_mean.auroc", "leave_one_family_out_mean"), title="AUROC, unknown families"
    ),
    Metric(keys=("latency_steps",), title="Latency", hint="steps", ratio=False, up=False),
    Metric(
        keys=("false_alarms_per_device_day",),
        title="False alarms",
        hint="per device-day",
        ratio=False,
        up=False,
    ),
    Metric(keys=("false_positive_rate",), title="False positives", hint="reached on test", up=False),
    Metric(keys=("calibration_error",), title="Calibration error", up=False),
)


_LEFT_OUT = (
    Metric(keys=("leave_one_family_out_mean.recall",), title="Recall, unknown families"),
    Metric(
        keys=("leave_one_family_out_mean.false_positive_rate",),
        title="False positives",
        hint="reached on test",
        up=False,
    ),
    Metric(keys=("leave_one_site_out_mean.auroc",), title="AUROC, site that took no part"),
)


@dataclass(frozen=True, slots=True)
class Log:
    """Bodies by kind (cleaned text, in order), the digest of the last record and how many there are."""

    bodies: dict[str, list[dict[str, Any]]]
    digest: str
    records: int

    def all(self, kind: str) -> list[dict[str, Any]]:
        """Every body of a kind."""
        return self.bodies.get(kind, [])

    def first(self, kind: str) -> dict[str, Any]:
        """The first body of a kind (of data sheets: the first seed's), or an empty one."""
        return self.bodies.get(kind, [{}])[0]

    def last(self, kind: str) -> dict[str, Any]:
        """The last body of a kind, or an empty one."""
        return self.bodies.get(kind, [{}])[-1]


def read_log(records: Sequence[Record]) -> Log:
    """Sort records by kind; text is cleaned once, here."""
    bodies: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        bodies.setdefault(str(record.kind), []).append(mapping(clean(record.body)))
    return Log(bodies, records[-1].digest.hex() if records else "", len(records))


def system_key(name: Any) -> str:
    """One key for a system however a record spells it: "federated split" -> "ours"."""
    key = "_".join(str(name).strip().lower().replace("-", " ").replace("_", " ").split())
    return _ALIASES.get(key, key)


def system_name(key: str) -> str:
    """How the report calls a system."""
    return _NAMES.get(key, words(key))


def systems(log: Log) -> dict[str, dict[str, Any]]:
    """System key -> its metrics in the run's setting; ours, the same model otherwise, others."""
    metrics, setting = log.last("metrics"), _setting(log)
    found = {}
    own = mapping(mapping(metrics.get("test")).get(setting))
    if own:
        found[OURS] = own
    baselines = mapping(metrics.get("baselines"))
    known = dict.fromkeys((*REFERENCES, *_NAMES))  # as the first table groups them
    order = [key for key in known if key in baselines] + sorted(set(baselines) - set(known))
    for name in order:
        body = mapping(mapping(baselines[name]).get(setting))
        if body:
            found[system_key(name)] = body
    return found


def measured(body: dict[str, Any], metric: Metric | str) -> Triple | None:
    """A metric of one system ("auroc", "unseen_at_site.recall"), or None."""
    for path in metric.keys if isinstance(metric, Metric) else (metric,):
        value: Any = body
        for part in path.split("."):
            value = mapping(value).get(part)
        found = triple(value)
        if found is not None:
            return found
    return None


def metric_named(name: str) -> Metric:
    """The metric that a record calls `name`; an unknown one is taken for a ratio where larger is better."""
    known = {key: metric for metric in METRICS for key in metric.keys}
    known |= {key.replace(".", "_"): metric for key, metric in known.items()}
    known["leave_one_family_out.auroc"] = known["leave_one_family_out_mean"]
    known |= {metric.keys[0]: metric for metric in _LEFT_OUT}
    return known.get(name) or Metric(keys=(name,), title=words(name.replace(".", ", ")))


def false_positive_rate(log: Log) -> float:
    """The share of false positives at which recall is given (0.01 unless the plan says otherwise)."""
    plan = mapping(log.last("run").get("plan"))
    return number(mapping(plan.get("evaluate")).get("false_positive_rate")) or 0.01


def step_seconds(log: Log) -> float | None:
    """Length of a step in seconds, or None."""
    length = number(log.first("data").get("step_seconds"))
    return length if length and length > 0 else None


def is_timed(log: Log) -> bool:
    """False where steps have no clock, so that neither latency nor alarms per day were measured."""
    return log.first("data").get("timed") is not False


def is_outcome(log: Log) -> bool:
    """Whether units are judged once for what became of them, as death in hospital: nothing is attacked."""
    return not is_timed(log) and called(log)[0] != _ATTACKED[0]


def called(log: Log) -> tuple[str, str]:
    """What attacked and normal steps are called: ("attacked steps", "normal steps") unless the data says."""
    data = log.first("data")
    return str(data.get("positive") or _ATTACKED[0]), str(data.get("negative") or _ATTACKED[1])


def sites_of(log: Log) -> list[dict[str, Any]]:
    """The sites of the data sheet."""
    return [mapping(site) for site in items(log.first("data").get("sites"))]


def is_unfinished(log: Log) -> bool:
    """Whether a run or sweep was stopped, or is still at work."""
    finished = log.last("finished")
    return not finished or finished.get("interrupted") is True


def group_word(log: Log) -> str:
    """What the kinds are called that steps come in: families of attacks, or classes of an outcome."""
    return "class" if is_outcome(log) else "family"


def _setting(log: Log) -> str:
    test = mapping(log.last("metrics").get("test"))
    plan = mapping(log.last("run").get("plan"))
    wanted = str(mapping(plan.get("run")).get("setting", "traffic"))
    if wanted in test or not test:
        return wanted
    return next(iter(test))


def families(values: Any) -> list[str]:
    """Names of families in a map or a list, "normal" left out."""
    return [str(name) for name in items(values) or mapping(values) if name != "normal"]


def paired_auroc(log: Log) -> dict[str, Triple]:
    """Of each other system the paired difference in AUROC, ours minus it; {} for logs without."""
    rows = mapping(log.last("metrics").get("paired_difference"))
    found = {system_key(name): triple(mapping(body).get("auroc")) for name, body in rows.items()}
    return {name: value for name, value in found.items() if value is not None}
