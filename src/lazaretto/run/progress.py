"""What a person sees while a run goes on: stage, round, time left, loss, AUROC, bytes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lazaretto.errors import printable
from lazaretto.run.journal import Show, quiet
from lazaretto.run.systems import WINDOWED

__all__ = ["display", "human_bytes"]


def human_bytes(count: float) -> str:
    """Bytes for people, such as 1.2 MB; powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


@contextmanager
def display(silent: bool = False, console: Console | None = None) -> Iterator[Show]:
    """A `Show` that draws one line per stage on stderr; plain lines where that is not a terminal."""
    if silent:
        yield quiet
        return
    screen = console or Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())
    if not screen.is_terminal:
        yield _lines(screen)
        return
    columns = (
        TextColumn("{task.description}", style="bold"),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=screen, transient=False) as progress:
        yield _bars(progress)


def _title(body: Mapping[str, Any], name: str) -> str:
    title = printable(body[name])
    return title if body.get("seed") is None else f"{title} (seed {body['seed']})"


def _figures(body: Mapping[str, Any], left_seconds: float | None) -> str:
    """What a round came to. left_seconds: of this training, None where nobody can tell yet."""
    parts = []
    if body["loss"] is not None:
        parts.append(f"loss {body['loss']:.3f}")
    elif not body.get("arrived"):
        parts.append("no update came")
    if body["validation_auroc"] is not None:
        parts.append(f"AUROC {body['validation_auroc']:.3f}")
    sent = sum(body["bytes"].values())
    if sent:
        parts.append(human_bytes(sent))
    if left_seconds is not None and left_seconds >= 1:
        parts.append(f"{_time(left_seconds)} left")
    return " · ".join(parts)


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


class _Place:
    """Which of the parts of a run this is: trainings and other fits, as far as they were announced."""

    def __init__(self) -> None:
        self._of, self._passed = 0, 0

    def ahead(self, parts: int) -> None:
        """So many parts there are, from here on."""
        self._of, self._passed = parts, 0

    def next(self) -> tuple[int, int] | None:
        """One part more: its number, and of how many; None after the last and where nothing was announced."""
        self._passed += 1
        return (self._passed, self._of) if self._passed <= self._of else None


class _Pace:
    """Seconds of a training's rounds as this process saw them. The first one compiles, and tells nothing."""

    def __init__(self) -> None:
        self._seen: dict[str, list[float]] = {}

    def left(self, title: str, body: Mapping[str, Any]) -> float | None:
        """What is left after this round, by the median of those seen, the first of them left out."""
        seen = self._seen.setdefault(title, [])
        seen.append(body["seconds"])
        usual = sorted(seen[1:])
        ahead = body["rounds"] - body["round"]
        if not ahead:
            return 0.0
        return ahead * usual[len(usual) // 2] if usual else None


def _draw_line(body: Mapping[str, Any]) -> str:
    """One finished training of a sweep (a draw or a point), its system's best, and what is left of all."""
    said = body["failed"] or f"AUROC {body['auroc']['value']:.4f}"
    best = body["best"]
    if best is not None:
        said += f" (best {best['auroc']['value']:.4f}, {body['one']} {best['number'] + 1})"
    return f"{body['system']}: {body['number'] + 1}/{body['draws']} · {said}{_left(body['left_seconds'])}"


def _tried_line(body: Mapping[str, Any]) -> str:
    """One finished training of a robustness sweep, and what is left of the whole."""
    said = body["failed"] or f"AUROC {body['values']['auroc']:.3f}"
    met = f"{body['rule']} · {body['attack']}" + (f" {body['share']:.0%}" if body["share"] else "")
    return f"{met} · {said}{_left(body['left_seconds'])}"


def _left(seconds: float) -> str:
    """What is left of a whole sweep, "" at its end."""
    return f" · about {_time(seconds)} left" if seconds >= 1 else ""


def _bars(progress: Progress) -> Show:
    tasks: dict[str, Any] = {}
    pace, place, said = _Pace(), _Place(), set[str]()

    def show(event: str, body: Mapping[str, Any]) -> None:
        if event == "drawn":
            for task in tasks.values():
                progress.remove_task(task)
            tasks.clear()
            progress.console.print(_draw_line(body), markup=False)
        elif event == "tried":
            if body["stage"] not in tasks:
                tasks[body["stage"]] = progress.add_task(body["stage"], total=body["of"], figures="")
            figures = _tried_line(body)
            progress.update(tasks[body["stage"]], total=body["of"], completed=body["number"], figures=figures)
        elif event == "begin":
            title = _title(body, "name")
            plain = body["name"] in _UNTRAINED or body["name"].startswith("audit")
            figures = _FITTING if _fits(body["name"]) else "" if plain else "compiling"
            at = place.next()  # before the title, whose end is cropped first
            shown = title if at is None else f"{at[0]}/{at[1]} {title}"
            tasks[title] = progress.add_task(shown, total=1, figures=figures)
        elif event == "ahead":
            place.ahead(body["parts"])
        elif event == "kept":
            place.next()
        elif event in _SENTENCES:
            for line in _new(event, body, said):
                progress.console.print(line, markup=False)
        elif event == "round":
            title = _title(body, "system")
            if title not in tasks:
                tasks[title] = progress.add_task(title, total=body["rounds"], figures="")
            figures = _figures(body, pace.left(title, body))
            progress.update(tasks[title], total=body["rounds"], completed=body["round"], figures=figures)
        elif event == "stage":
            task = tasks.get(_title(body, "name"))
            if task is not None:
                total = next(t.total for t in progress.tasks if t.id == task)
                progress.update(task, completed=total)
                if _fits(body["name"]):
                    progress.update(task, figures="")
                progress.stop_task(task)

    return show


_FITTING = "being trained, in one go"  # nothing can be told of it before it is done
_UNTRAINED = ("prepare data", "judge", "score")  # stages that compile nothing worth a word


def _fits(name: str) -> bool:
    """Whether a part is fitted without rounds, on all data or without a family or site."""
    return name.partition(" without ")[0] in WINDOWED


# what is said once, in lines of its own, on any screen
_SENTENCES: Mapping[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "vote refused": lambda body: [f"{body['site']} has no vote on the threshold: {body['reason']}"],
    "data": lambda body: [f"warning: {warning}" for warning in body.get("warnings", ())],
    "warning": lambda body: [f"warning: {body['said']}"],
    "budget": lambda body: [str(body["said"])],
    "diverges": lambda body: [f"warning: {body['said']}"],
    "code": lambda body: [
        "warning: this is not the code that the run was made with so far, as its log and report will say"
    ],
    "goes on": lambda body: [f"going on with {body['folder']}: {body['done']}"],
}


def _new(event: str, body: Mapping[str, Any], said: set[str]) -> list[str]:
    """The sentences on an event that were not said before; from now on they were."""
    lines = [line for line in map(printable, _SENTENCES[event](body)) if line not in said]
    said.update(lines)
    return lines


def _lines(screen: Console) -> Show:
    pace, place, said = _Pace(), _Place(), set[str]()

    def show(event: str, body: Mapping[str, Any]) -> None:
        if event == "stage":
            at = place.next()
            which = "" if at is None else f" · {at[0]} of {at[1]}"
            screen.print(f"{_title(body, 'name')}: {body['seconds']:.1f} s{which}")
        elif event == "begin" and _fits(body["name"]):  # minutes may pass without a round to tell of
            screen.print(f"{_title(body, 'name')}: {_FITTING}")
        elif event == "ahead":
            place.ahead(body["parts"])
        elif event == "kept":
            place.next()
        elif event in _SENTENCES:
            for line in _new(event, body, said):
                screen.print(line, markup=False)
        elif event == "drawn":
            screen.print(_draw_line(body), markup=False)
        elif event == "tried" and body["number"] % max(1, body["of"] // 40) == 0:
            line = f"{body['stage']} {body['number']}/{body['of']}: {_tried_line(body)}"
            screen.print(line, markup=False)
        elif event == "round":
            title = _title(body, "system")
            figures = _figures(body, pace.left(title, body))
            if body["round"] % max(1, body["rounds"] // 4) == 0:
                screen.print(f"{title}: round {body['round']}/{body['rounds']} · {figures}")

    return show
