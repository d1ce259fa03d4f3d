"""The page as a whole: complete, self-contained, safe, well formed, and never at a loss."""

from __future__ import annotations

import copy
import html.parser
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from lazaretto import runlog
from lazaretto.errors import InputError, LazarettoError
from lazaretto.keys import generator
from lazaretto.report.page import render, write_report
from lazaretto.types import Record

Entries = list[tuple[str, dict[str, Any]]]
Chain = Callable[[Entries], list[Record]]
VOID = {"meta", "br", "hr", "img", "input", "link", "wbr"}
HOSTILE = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "</style></svg></title><script src=//evil.example/x.js></script>",
    "$\\frac{1}{$ {{ 7*7 }} {% raw %}",
    "nul\x00 \ud800 \u202etxt.exe ]]> <!-- &amp; 名前",
    "x" * 400,
)


class Page(html.parser.HTMLParser):
    """Tags, attributes and text of a page; fails on a tag that is not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def values(self, name: str) -> list[str]:
        return [attributes[name] or "" for _, attributes in self.tags if name in attributes]

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_page_is_whole_and_the_same_every_time(whole: str, entries: Entries, chain: Chain) -> None:
    text = render(chain(entries))
    assert text == whole
    assert len(text.encode()) < 1_500_000
    page = Page(text)
    assert [a["href"] for a in page.named("a")][1:] == [
        f"#{section['id']}" for section in page.named("section")
    ]
    for needle in (
        "0.957",
        "federated split",
        "gradient boosting",
        "slow exfiltration",
        "Harbour",
        "withheld",
    ):
        assert needle in text
    assert text.count("n/a") > 0  # the autoencoder has no calibration error
    assert "0.1.0" in text
    assert "4f0c2b19a7d3" in text
    assert "learning_rate = 0.003" in text
    assert chain(entries)[-1].digest.hex() in text
    assert "lazaretto run plan.toml --out again" in text
    assert "quick look" in text
    assert "2 of the 5 seeds" in text


def test_page_loads_nothing_and_runs_nothing(whole: str) -> None:
    text, page = whole, Page(whole)
    policy = next(
        m["content"] for m in page.named("meta") if m.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'")
    tags = {tag for tag, _ in page.tags}
    assert not tags & {
        "script",
        "img",
        "image",
        "link",
        "iframe",
        "object",
        "embed",
        "base",
        "form",
        "foreignobject",
    }
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    for name in ("src", "srcset", "href", "xlink:href", "action"):
        assert all(value.startswith("#") for value in page.values(name))
    assert not re.search(r"(https?:)?//[a-z]|@import|url\((?!#)|javascript:|data:[a-z]", text)


def test_page_is_well_formed_and_can_be_read_aloud(whole: str) -> None:
    text, page = whole, Page(whole)
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert {value[1:] for value in page.values("href")} <= set(ids)
    assert {part for value in page.values("aria-labelledby") for part in value.split()} <= set(ids)
    assert re.findall(r'clip-path="url\(#([^)]+)\)"', text)
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(ids)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert page.named("html")[0]["lang"] == "en"
    assert any(tag == "title" and "consortium" in data for tag, data in page.texts)
    assert all(cell.get("scope") in ("col", "row", "rowgroup") for cell in page.named("th"))
    pictures = page.named("svg")
    assert len(pictures) >= 18
    assert all(p["role"] == "img" and len(p["aria-label"] or "") > 30 for p in pictures)
    for picture in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        root = ElementTree.fromstring(picture)  # noqa: S314 (our own page)
        assert root.get("viewBox", "").count(" ") == 3
        assert not root.findall(".//metadata")
        assert not root.findall(".//style")
        assert "DejaVu" not in picture


def test_what_rests_on_single_cases_or_small_groups_stays_at_the_site(whole: str) -> None:
    marks = {}
    for head in re.findall(r'<div class="head">(.*?)</div>', whole, re.DOTALL):
        title = re.sub(r"<[^>]*>", "", head.split("</span>", 1)[1].split("</h3>")[0]).strip()
        marks[title] = "stays at the site" in head
    assert {title for title, stays in marks.items() if stays} == {
        "Slow exfiltration: infusion pump 12, Harbour",
        "Federated split, site by site",
        "AUROC at a site that took no part",
        "Sites",
        "Units with an attack outside test, by site and family",
    }
    assert len(marks) > 15


def _spoiled(value: Any, hostile: Iterator[str]) -> Any:
    """The same structure with every text replaced; keys of known meaning and numbers stay."""
    if isinstance(value, str):
        return next(hostile)
    if isinstance(value, list):
        return [_spoiled(entry, hostile) for entry in value]
    if isinstance(value, dict):
        return {key: _spoiled(entry, hostile) for key, entry in value.items()}
    return value


@pytest.mark.parametrize("start", range(len(HOSTILE)))
def test_hostile_names_stay_text(entries: Entries, chain: Chain, start: int) -> None:
    hostile = HOSTILE[start]
    for kind, body in entries:
        for key in (
            "name",
            "plan_toml",
            "version",
            "commit",
            "source",
            "step",
            "modality",
            "unit",
            "site",
            "family",
        ):
            if key in body:
                body[key] = hostile
        if kind == "run":
            body["machine"] = dict.fromkeys(body["machine"], hostile)
            body["plan"]["data"]["path"] = hostile
        if kind == "data":
            body |= {key: [hostile] for key in ("features", "notes")} | {"classes": ["normal", hostile]}
            body["leaks_dropped"], body["counts"] = {hostile: hostile}, {hostile: 3}
            for site in body["sites"]:
                site |= {"name": hostile, "families": {hostile: 2}, "withheld": [hostile]}
        if kind == "round":
            for place, site in enumerate(body["sites"]):
                site["name"] = f"{hostile}{place}"
        if kind == "messages":
            body["rows"] = [
                _spoiled(row, iter([hostile] * 9)) | {"link": row["link"]} for row in body["rows"]
            ]
        if kind == "metrics":
            ours = body["test"]["traffic"]
            ours["recall_by_class"] = {hostile: ours["auroc"]}
            ours["leave_one_family_out"] = {hostile: {"auroc": ours["auroc"]}}
            body["baselines"][hostile] = body["baselines"]["gru"]
            body["comparison"] = [row | {"name": hostile, "target": hostile} for row in body["comparison"]]
            ours["recall_by_intensity"] = {
                hostile: ours["auroc"],
                f"<{hostile}": ours["auroc"],
                f">={hostile}": ours["auroc"],
                f"0.1-{hostile}": ours["auroc"],
            }
            ours["operating_points"] = {hostile: ours["operating_points"]["one_alarm_per_device_day"]}
            ours["leave_one_site_out"] = {hostile: {"auroc": ours["auroc"]}}
            body["cost"] = {hostile: body["cost"]["pooled"]}
        if kind == "reliability":
            body["method"] = hostile
        if kind in ("curves", "latency", "reliability") and body["system"] != "federated split":
            body["system"] = hostile
    text = render(chain(entries))
    text.encode("utf-8")
    page = Page(text)
    assert not {tag for tag, _ in page.tags} & {"script", "img"}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert not re.search("[\x00-\x08\ud800-\udfff\u202a-\u202e]", text)
    if "script>alert" in hostile:
        assert "&lt;script&gt;alert(1)" in text
    for picture in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(picture)  # noqa: S314 (our own page)


@pytest.mark.parametrize("length", [0, 1, 2, 20, -12, -1])
def test_a_log_cut_short_gives_a_page(entries: Entries, chain: Chain, length: int) -> None:
    text = render(chain(entries[:length]))
    Page(text)
    assert "This run had not finished" in text
    if 0 <= length < 80:
        assert "It has not been judged" in text


@pytest.mark.parametrize(
    "kind", ["run", "data", "round", "messages", "stage", "curves", "latency", "reliability", "timeline"]
)
def test_a_missing_kind_leaves_a_sentence(entries: Entries, chain: Chain, kind: str) -> None:
    text = render(chain([entry for entry in entries if entry[0] != kind]))
    Page(text)
    assert 'class="missing"' in text or kind == "run"
    assert "This run had not finished" not in text


def test_cards_say_what_knowing_nothing_would_have(entries: Entries, chain: Chain) -> None:
    text = render(chain(entries))  # 2,410 of 29,110 test steps are attacked
    assert "precision over all recalls; guessing has 0.083" in text
    assert "at the validation threshold; one answer to all has 0.917" in text
    data = next(body for kind, body in entries if kind == "data")
    other = copy.deepcopy(data)
    other["splits"]["test"] = {"units": 10, "steps": 1000, "attacked_steps": 800}
    text = render(chain([*entries, ("data", other)]))  # each seed counts alike, however long its streams
    assert "guessing has 0.441" in text
    assert "one answer to all has 0.859" in text
    data["splits"]["test"] |= {"steps": 100_000, "attacked_steps": 40}
    text = render(chain(entries))
    assert "guessing has &lt;0.001" in text
    assert "one answer to all has &gt;0.999" in text
    del data["splits"]["test"]["attacked_steps"]
    assert "guessing has" not in render(chain(entries))


def test_a_run_gone_on_with_does_not_say_that_its_last_part_is_the_whole(
    entries: Entries, chain: Chain
) -> None:
    assert "From start to end" in render(chain(entries))
    finished = next(body for kind, body in entries if kind == "finished")
    finished["seconds"] = 12.0  # less than its stages took, as a log of before tells it
    text = render(chain(entries))
    assert "From start to end" not in text
    assert "Since it was last gone on with" in text
    finished |= {"seconds": 500.0, "resumed": True}
    assert "All stages, without what was stopped midway" in render(chain(entries))
    finished |= {"seconds": 12.0, "resumed": False}
    assert "From start to end" in render(chain(entries))


def test_an_alarm_after_the_attack_does_not_count(entries: Entries, chain: Chain) -> None:
    body = next(body for kind, body in entries if kind == "timeline")
    onset, end = body["onset_step"], body["end_step"]
    before = [onset - 2]
    body["score"] = [float(step in before or step >= end) for step in body["steps"]]
    assert "Federated split: not detected; 1 false before." in render(chain(entries))
    body["score"] = [float(step == end - 1) for step in body["steps"]]
    assert f"Federated split: above the threshold {end - 1 - onset} steps" in render(chain(entries))


def test_no_baselines_and_one_class(entries: Entries, chain: Chain) -> None:
    rest = [entry for entry in entries if entry[0] not in ("curves", "latency", "timeline")]
    metrics = next(body for kind, body in rest if kind == "metrics")
    metrics |= {"baselines": {}, "comparison": [], "margin_over_best_deep": {}}
    nothing = {"value": None, "low": None, "high": None}
    metrics["test"] = {"traffic": dict.fromkeys(("auroc", "auprc", "recall", "latency_steps"), nothing)}
    text = render(chain(rest))
    assert "No baseline was judged in this run." in text
    assert "with one class in test there is none" in text
    assert "n/a" in text


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, child in children:
        yield from _paths(child, (*path, key))


@pytest.mark.parametrize("seed", range(5))
def test_a_page_survives_wrong_values_anywhere(entries: Entries, chain: Chain, seed: int) -> None:
    rng = generator(seed, "report", "spoil")
    wrong: list[Any] = [
        None,
        "text",
        -1,
        1e300,
        float("nan"),
        [],
        {},
        [None],
        {"value": "x"},
        True,
        np.zeros(2),
    ]
    thin = [e for e in entries if e[0] != "round" or e[1]["round"] < 4]
    for _, body in thin:
        paths = list(_paths(body))
        for place in rng.choice(len(paths), size=min(3, len(paths)), replace=False):
            target: Any = body
            try:
                for key in paths[place][:-1]:
                    target = target[key]
                target[paths[place][-1]] = wrong[rng.integers(len(wrong))]
            except (TypeError, KeyError, IndexError):
                continue  # an earlier change took this place away
    Page(render(chain(thin)))


def test_unknown_kinds_and_fields_are_ignored(entries: Entries, chain: Chain) -> None:
    for _, body in entries:
        body["from_a_later_version"] = {"deep": [1, 2]}
    assert "0.957" in render(chain([*entries, ("ledger", {"root": "x"})]))


def test_warnings_stand_above_the_summary_once(entries: Entries, chain: Chain) -> None:
    sheet = next(body for kind, body in entries if kind == "data")
    sheet["warnings"] = ["Too little data <here>."]
    text = render(chain([*entries, ("data", {**sheet, "seed": 1})]))
    said = "<strong>Before you read on:</strong> Too little data &lt;here&gt;."
    assert text.count(said) == 1
    assert text.index(said) < text.index('id="summary"')


def test_enough_seeds_are_no_quick_look(entries: Entries, chain: Chain) -> None:
    run = entries[0][1]
    run |= {"seeds": [0, 1, 2, 3, 4], "quick": False}
    assert "quick look" not in render(chain(entries))


def test_many_sites_become_one_panel(entries: Entries, chain: Chain) -> None:
    for kind, body in entries:
        if kind == "round":
            body["sites"] = [dict(body["sites"][0], name=f"site {i:03d}") for i in range(100)]
    text = render(chain(entries))
    assert "mean of 100 sites" in text
    assert len(text.encode()) < 1_500_000


def test_write_report_from_a_run_log(entries: Entries, tmp_path: Path) -> None:
    runlog.create(tmp_path / "run.sqlite", entries)
    path = write_report(tmp_path)
    assert path == tmp_path / "report.html"
    text = path.read_text(encoding="utf-8")
    assert runlog.head(tmp_path / "run.sqlite").digest.hex() in text
    assert write_report(tmp_path).read_text(encoding="utf-8") == text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "run.sqlite"]


def test_write_report_without_a_log_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run log"):
        write_report(tmp_path)


def test_a_page_that_cannot_be_written_leaves_nothing(entries: Entries, tmp_path: Path) -> None:
    runlog.create(tmp_path / "run.sqlite", entries[:2])
    (tmp_path / "report.html").mkdir()
    with pytest.raises(LazarettoError, match="cannot be written"):
        write_report(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "run.sqlite"]


def test_tables_show_that_they_go_on(whole: str) -> None:
    """A shadow that stays at the edge, under paper that moves with the table; none of it on paper."""
    rule = re.search(r"\n\.scroll \{(.*?)\}", whole, re.DOTALL)
    assert rule is not None
    assert rule.group(1).count("no-repeat local") == rule.group(1).count("no-repeat scroll") == 2
    assert len(re.findall("--shade: ", whole)) == 2, "by day and by night"
    assert "vertical-align: bottom" not in whole
    (row,) = re.findall(r"\n\.ours td, \.ours th \{ background: var\((--\w+)\)", whole)
    washes = re.findall(rf"{row}: ([^;]*);", whole)
    assert len(washes) == 2, "by day and by night"
    assert all("%" in wash for wash in washes), "the shadow shows through our own row"


def test_names_of_rows_may_break_at_their_underscores_alone(entries: Entries, chain: Chain) -> None:
    sites = next(body for kind, body in entries if kind == "data")["sites"]
    sites[0]["name"] = "ward_<b>_7"
    page = render(chain(entries))
    assert '<th scope="row">ward_<wbr>&lt;b&gt;_<wbr>7' in page
