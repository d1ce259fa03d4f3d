"""What compression of updates saves on the wire, and what detection loses: a curve over sparsity and bits.

    python benchmarks/compress.py examples/poisoning.toml --set "attack.name=''" --kept results.jsonl
    python benchmarks/compress.py examples/poisoning.toml --set "attack.name=''" --protocol sharing --bits 32
    python benchmarks/compress.py examples/record.toml --set data.path=PHYSIONET2012 --seeds 0 1 2 3 4

Printed as Markdown: bytes of all that sites send of updates (messages "update"; with --protocol those of
shares, masks or ciphertexts), envelopes included, as a share of what updates take as float32 in the clear,
and AUROC over steps of validation units, mean over seeds, and its difference to the dense run in the clear
(paired by seed: the mean, and the seed that lost most). Test units are not looked at. Every finished training
is a line of the file --kept; what stands there is not trained again, so that a stopped run goes on. The file
belongs to one plan and one commit.
"""

# ruff: noqa: T201
from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lazaretto import catalog, wire
from lazaretto.chain import rule_of
from lazaretto.compression import compressor_of
from lazaretto.evaluate.metrics import auroc
from lazaretto.evaluate.scored import OURS
from lazaretto.plan import Plan, load_plan
from lazaretto.plan_compress import CompressPlan, compress_conflicts
from lazaretto.plan_secure_checks import secure_conflicts, secure_problems
from lazaretto.run import systems
from lazaretto.run.backend import use_all_cores
from lazaretto.run.bench import Job, make_bench
from lazaretto.run.journal import open_journal, quiet
from lazaretto.run.post import Post
from lazaretto.run.prepare import Prepared, prepare
from lazaretto.types import Message

__all__ = ["Setting", "main", "settings"]

SHARES = (1.0, 0.5, 0.25, 0.1, 0.05, 0.01)
BITS = (32, 8, 4)
DENSE = "none"
BESIDE = ("round report", "control change")  # what a site sends up in a round that is not of its update


class Setting(NamedTuple):
    """A scheme, the share of coordinates that is kept, bits of each number, `secure.protocol`, ahead."""

    scheme: str
    share: float
    bits: int
    protocol: str = "none"
    ahead: bool = False

    @property
    def name(self) -> str:
        """For the file of what was kept."""
        hidden = "" if self.protocol == "none" else f" {self.protocol}"
        return f"{self.scheme} {self.share:g} {self.bits}{hidden}{' ahead' * self.ahead}"

    def section(self) -> CompressPlan:
        """What a plan says for it. Where all is sent, nothing chooses."""
        whole = self.share == 1.0
        names = [*([] if whole else [self.scheme]), *([] if self.bits == 32 else ["quantise"])] or [DENSE]
        options: dict[str, Any] = {"bits": self.bits} if "quantise" in names else {}
        chained = {"quantise": options} if len(names) > 1 else options
        given: dict[str, Any] = {} if whole else {"share": self.share, "ahead": self.ahead}
        return CompressPlan(scheme=" | ".join(names), options=chained, **given)


def settings(
    schemes: Sequence[str],
    shares: Sequence[float],
    bits: Sequence[int],
    protocol: str = "none",
    ahead: bool = False,
) -> Iterator[Setting]:
    """The dense run in the open first, then each scheme's curve; where all is sent schemes do not differ."""
    yield (dense := Setting(DENSE, 1.0, 32))
    if 1.0 in shares:
        whole = (Setting(DENSE, 1.0, each, protocol) for each in bits)
        yield from (setting for setting in whole if setting != dense)
    for scheme in schemes:
        for share in (share for share in shares if share < 1):
            yield from (Setting(scheme, share, b, protocol, ahead) for b in bits)


def _built(plan: Plan) -> dict[str, Any]:
    """What the checks of secrecy look at."""
    algorithm = catalog.build("algorithms", plan.federate.algorithm, plan.federate.options)
    return {"rules": rule_of(plan.aggregate.rule, plan.aggregate.options), "algorithms": algorithm}


def _trained(
    plan: Plan, prepared: Sequence[Prepared], programs: dict[Any, Any], setting: Setting, place: int
) -> dict[str, Any]:
    """One training: bytes of its updates, how many there were, AUROC on validation units.

    programs: compiled by trainings before; no setting changes them.
    """
    section, momentum = setting.section(), plan.aggregate.client_momentum
    made = compressor_of(section.scheme, section.options, section.share)
    for problem in compress_conflicts(section, made, plan.federate.participation, momentum):
        raise problem
    secure = plan.secure.model_copy(update={"protocol": setting.protocol})
    plan = plan.model_copy(update={"compress": section, "secure": secure})
    for problem in [*secure_conflicts(plan), *secure_problems(plan, _built(plan))]:
        raise problem
    sent: dict[tuple[str, int], int] = {}

    def tap(message: Message) -> None:
        of_a_site = any(message.sender in one.site_names for one in prepared)
        if of_a_site and message.kind not in BESIDE and message.round > 0:  # counts are of round 0
            key = (message.sender, message.round)
            sent[key] = sent.get(key, 0) + wire.message_bytes(message)

    posts = [Post(tap=tap) for _ in prepared]
    with tempfile.TemporaryDirectory() as folder:
        journal = open_journal(Path(folder) / "run", plan, resume=False, show=quiet)
        bench = replace(
            make_bench(plan, prepared, posts, journal), programs=programs, every=plan.train.rounds
        )  # sites judge the last model alone: to judge each takes a fifth of the time
        one = systems.federated(bench, OURS, Job(place=place))
    scored = one.scores.validation
    assert scored is not None  # noqa: S101  every trained system has validation scores
    area = auroc(scored.score[scored.valid], scored.y[scored.valid] > 0)
    return {
        "bytes": sum(sent.values()),
        "count": len(sent),
        "auroc": float(area),
        "d": int(one.vector.shape[-1]),
    }


def _table(
    found: dict[tuple[str, int], dict[str, Any]], wanted: Sequence[Setting], seeds: Sequence[int]
) -> None:
    print("| scheme | sparse | bits | bytes, of float32 | AUROC | against dense | worst seed |")
    print("|---|---|---|---|---|---|---|")
    dense = wanted[0].name
    for setting in wanted:
        rows = [(found.get((setting.name, seed)), found.get((dense, seed))) for seed in seeds]
        both = [(mine, other) for mine, other in rows if mine is not None and other is not None]
        if not both:
            continue
        share = np.mean(
            [mine["bytes"] / mine["count"] / (other["bytes"] / other["count"]) for mine, other in both]
        )
        areas = np.array([(mine["auroc"], other["auroc"]) for mine, other in both])
        lost = areas[:, 0] - areas[:, 1]
        under = ", ahead" if setting.ahead else ""
        under += "" if setting.protocol == "none" else f", {setting.protocol}"
        what = f"| `{setting.scheme}`{under} | {1 - setting.share:.0%} | {setting.bits} | {share:.2%} "
        print(what + f"| {areas[:, 0].mean():.4f} | {lost.mean():+.4f} | {lost.min():+.4f} |")


def main() -> None:
    """Train with every setting and every seed, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("plan", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="sets", metavar="KEY=VALUE")
    parser.add_argument("--schemes", nargs="+", default=["top_k_previous", "top_k"])
    parser.add_argument("--shares", nargs="+", type=float, default=SHARES)
    parser.add_argument("--bits", nargs="+", type=int, choices=BITS, default=BITS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--ahead", action="store_true", help="compress.ahead, for all schemes")
    parser.add_argument("--kept", type=Path, default=Path("compress.jsonl"))
    parser.add_argument("--protocol", choices=("none", "sharing", "masked", "ckks"), default="none")
    given = parser.parse_args()
    use_all_cores()
    plan = load_plan(given.plan, sets=[*given.sets, f"run.seeds={list(given.seeds)}"])
    wanted = list(settings(given.schemes, given.shares, given.bits, given.protocol, given.ahead))
    found: dict[tuple[str, int], dict[str, Any]] = {}
    if given.kept.exists():
        for line in given.kept.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            found[(row["setting"], row["seed"])] = row
    prepared = [prepare(plan, seed, Post()) for seed in given.seeds]
    programs: dict[Any, Any] = {}
    for place, seed in enumerate(given.seeds):
        for setting in wanted:
            if (setting.name, seed) in found:
                continue
            row = {
                "setting": setting.name,
                "seed": seed,
                **_trained(plan, prepared, programs, setting, place),
            }
            found[(setting.name, seed)] = row
            with given.kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)
    _table(found, wanted, given.seeds)


if __name__ == "__main__":
    main()
