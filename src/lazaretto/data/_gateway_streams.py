"""Gateway streams: normal packets with an attack campaign mixed in, cut into steps of equal count.

What stands here knows nothing of files. A source gives packets and, for each split, the blocks of
time from which that split may draw; one generator per stream does the rest.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lazaretto.errors import DataError
from lazaretto.types import TEST, TRAIN, VALIDATION, Float, Int

__all__ = [
    "Campaign",
    "Packets",
    "Pool",
    "Stream",
    "assign_splits",
    "cut_blocks",
    "draw_campaign",
    "draw_stream",
]

_LONGEST_GAP_SECONDS = 1.0  # inside a burst; longer ones are pauses of the tool or holes in the capture
_LEAST_BASE_SHARE = 0.1  # of a step's packets stay normal, so that its place in time is known
_MOST_BURSTS = 3
_SHARES = {TRAIN: 0.55, VALIDATION: 0.15, TEST: 0.30}


# Bursts to lay in: packets [p], seconds since their burst began [p]; of each burst: seconds, step, packets.
_Bursts: TypeAlias = tuple[Int, NDArray[np.float64], NDArray[np.float64], Int, Int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Packets:
    """Packets by time, P of them. Arrays are [P] but for the last.

    time: float64 seconds. length, payload: float32 bytes. flags: uint8 bits of `_packet_steps`.
    towards_server: bool. device: int64 which client takes part. connection: int64.
    identity: uint64, equal for rows that are equal but for their time. kind: int64 of the source.
    application: uint8 code of the message inside (0 none), for the full view.
    telemetry: float32 [P, V] values inside, NaN where a packet has none; V is 0 where they are not read.
    """

    time: NDArray[np.float64]
    length: NDArray[np.float32]
    payload: NDArray[np.float32]
    flags: NDArray[np.uint8]
    towards_server: NDArray[np.bool_]
    device: Int
    connection: Int
    identity: NDArray[np.uint64]
    kind: Int
    application: NDArray[np.uint8]
    telemetry: Float

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Packets:
        """The packets at `index`, in that order."""
        return Packets(**{name: getattr(self, name)[index] for name in self.__slots__})


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """What the streams of one split may draw from: indices into the packets.

    base: blocks of the stream that goes on all the time. exchanges: whole background exchanges.
    attacks: family (1, 2, ...) -> blocks of its packets.
    """

    base: tuple[Int, ...]
    exchanges: tuple[Int, ...]
    attacks: dict[int, tuple[Int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """One attack inside a stream: steps onset:end, peak intensity, expected share [steps] of packets."""

    family: int
    onset: int
    end: int
    intensity: float
    shape: str
    share: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """index, time: [steps · packets], the packets in order. attack: [steps] attack packets in each."""

    index: Int
    time: NDArray[np.float64]
    attack: Int


def cut_blocks(time: NDArray[np.float64], target: int, gap_seconds: float) -> Int:
    """Block [P] of each packet (time not decreasing): cut at silences, then into pieces of about `target`."""
    edges = np.r_[0, np.flatnonzero(np.diff(time) > gap_seconds) + 1, len(time)]
    block = np.empty(len(time), dtype=np.int64)
    following = 0
    for low, high in itertools.pairwise(edges):
        pieces = max(1, round((high - low) / max(target, 1)))
        block[low:high] = following + np.arange(high - low) * pieces // max(high - low, 1)
        following += pieces
    return block


def assign_splits(sizes: Int, what: str, rng: np.random.Generator) -> Int:
    """Split [blocks] of blocks of `sizes` packets in time order: about 55, 15 and 30 % of the packets.

    Within every seven blocks the order is drawn, and each goes to the split that lacks most, so that
    every split sees all times. Raises DataError where there are fewer than three blocks.
    """
    blocks = len(sizes)
    if blocks < len(_SHARES):
        raise DataError(
            f"{what}: too few blocks of time for disjoint train, validation and test packets",
            found=f"{blocks} blocks",
            way_out="give more of the published parts (three blocks at least)",
        )
    groups = np.array_split(np.arange(blocks), max(1, round(blocks / 7)))
    held = dict.fromkeys(_SHARES, 0)
    split = np.empty(blocks, dtype=np.int64)
    for done, block in enumerate(np.concatenate([rng.permutation(group) for group in groups])):
        total = sum(held.values()) + int(sizes[block])
        empty = [code for code, packets in held.items() if packets == 0]
        # The last blocks are kept for splits that have none yet.
        open_to = empty if len(empty) == blocks - done else list(_SHARES)
        split[block] = max(open_to, key=lambda code: _SHARES[code] * total - held[code])
        held[int(split[block])] += int(sizes[block])
    return split


def draw_campaign(steps: int, family: int, lowest_intensity: float, rng: np.random.Generator) -> Campaign:
    """15 to 60 % of the stream long, at any place that overlaps it, intensity log-uniform up to 50 %.

    Some campaigns are under way when the stream begins and some when it ends: every step is attacked
    with the same chance, so that its number tells nothing. Shapes: steady; ramp, from a tenth of the
    intensity to all of it; on-off, 2 to 5 steps each.
    """
    lasting = max(1, round(steps * rng.uniform(0.15, 0.6)))
    began = int(rng.integers(1 - lasting, steps))
    intensity = float(np.exp(rng.uniform(np.log(lowest_intensity), np.log(0.5))))
    shape = str(rng.choice(["steady", "ramp", "on-off"]))
    height = np.ones(lasting)
    if shape == "ramp":
        height = np.linspace(0.1, 1.0, lasting)
    elif shape == "on-off":
        on, off = rng.integers(2, 6, size=2)
        height = np.asarray(np.arange(lasting) % (on + off) < on, np.float64)
    onset, end = max(0, began), min(steps, began + lasting)
    share = np.zeros(steps)
    share[onset:end] = intensity * height[onset - began : end - began]
    return Campaign(family=family, onset=onset, end=end, intensity=intensity, shape=shape, share=share)


def draw_stream(
    packets: Packets,
    pool: Pool,
    usable: tuple[Int, ...],
    background: float,
    step_packets: int,
    campaign: Campaign | None,
    steps: int,
    rng: np.random.Generator,
) -> Stream:
    """One stream of `steps` steps of `step_packets` packets.

    usable: blocks of the pool's base that the site's devices sent or got. background: expected share of
    background exchanges in the normal packets. In each step the attack takes Binomial(step_packets, share)
    packets, a run of one block of its family, in one to three bursts that start at random times of the
    step and keep their own gaps (up to a second); the base's packets keep theirs, and come later by what a
    burst needs where a step is shorter than what is laid into it.
    Raises DataError where no block of the base is long enough.
    """
    attack = np.zeros(steps, dtype=np.int64)
    if campaign is not None:
        most = int(step_packets * (1 - 2 * _LEAST_BASE_SHARE))
        attack = np.minimum(rng.binomial(step_packets, campaign.share), most).astype(np.int64)
    laid_in = [_draw_exchanges(packets, pool, step_packets - attack, background, rng)]
    if campaign is not None and attack.any():
        laid_in.append(_draw_attack(packets, pool.attacks[campaign.family], attack, rng))
    index, offset, length, step, count = (
        np.concatenate(column) for column in zip(*laid_in, strict=True)
    )  # [packets], [packets], then one for each burst

    base_count = step_packets - np.bincount(step, weights=count, minlength=steps).astype(np.int64)
    run, begin, finish = _base_run(packets, usable, base_count, rng)
    # What is laid in keeps its own tempo; where a step is too short for that, what follows comes later.
    late = np.maximum(np.bincount(step, weights=length, minlength=steps) - (finish - begin), 0.0)
    shift = np.cumsum(late) - late
    room = finish - begin + late
    at = begin[step] + shift[step] + rng.random(len(step)) * (room[step] - length)
    base_step = np.repeat(np.arange(steps), base_count)
    where = np.concatenate([run, index])
    when = np.concatenate([packets.time[run] + shift[base_step], np.repeat(at, count) + offset])
    order = np.lexsort((when, np.concatenate([base_step, np.repeat(step, count)])))
    return Stream(index=where[order], time=when[order], attack=attack)


def _base_run(
    packets: Packets, usable: tuple[Int, ...], count: Int, rng: np.random.Generator
) -> tuple[Int, NDArray[np.float64], NDArray[np.float64]]:
    """A contiguous run of sum(count) packets; when each step begins, and when the next one does."""
    total = int(count.sum())
    long_enough = [block for block in usable if len(block) > total]
    if not long_enough:
        longest = max((len(block) for block in usable), default=0)
        raise DataError(
            "too few packets in a row for the streams asked for",
            found=f"{longest} normal packets in the longest block of a split, {total + 1} needed",
            way_out="give more of the published parts, or set fewer windows, window_steps or step_packets",
        )
    block = long_enough[int(rng.integers(len(long_enough)))]
    first = int(rng.integers(len(block) - total))
    edges = packets.time[block[first + np.r_[0, np.cumsum(count)]]]
    return block[first : first + total], edges[:-1], edges[1:]


def _draw_exchanges(
    packets: Packets, pool: Pool, normal: Int, background: float, rng: np.random.Generator
) -> _Bursts:
    """Whole exchanges for steps of `normal` [steps] packets: about `background` of them, half at most."""
    size = np.array([len(exchange) for exchange in pool.exchanges] or [1], dtype=np.int64)
    mean = background * normal / size.mean() if pool.exchanges else np.zeros(len(normal))
    wanted = rng.poisson(mean)
    step = np.repeat(np.arange(len(normal)), wanted)
    chosen = rng.integers(len(size), size=len(step))
    running = np.cumsum(size[chosen])
    before = np.r_[0, running][np.cumsum(wanted) - wanted]  # packets drawn before each step's first
    kept = running - before[step] <= normal[step] // 2
    step, chosen = step[kept], chosen[kept]
    count = size[chosen]
    index = np.concatenate([np.zeros(0, np.int64), *(pool.exchanges[c] for c in chosen)])
    offset, length = _offsets(packets.time[index], count)
    return index, offset, length, step, count


def _draw_attack(packets: Packets, blocks: tuple[Int, ...], attack: Int, rng: np.random.Generator) -> _Bursts:
    """attack [steps] packets in a row from one block (round and round a short one), 1 to 3 bursts a step."""
    block = blocks[int(rng.choice(len(blocks), p=_shares(blocks)))]
    total = int(attack.sum())
    index = block[(int(rng.integers(len(block))) + np.arange(total)) % len(block)]
    gaps = np.clip(np.diff(packets.time[index], prepend=0.0), 0.0, _LONGEST_GAP_SECONDS)
    bursts = np.minimum(rng.integers(1, _MOST_BURSTS + 1, size=len(attack)), attack)
    step = np.repeat(np.arange(len(attack)), bursts)
    nth = np.arange(len(step)) - np.repeat(np.cumsum(bursts) - bursts, bursts)
    # a step's packets in equal parts, as whole numbers
    count = (nth + 1) * attack[step] // bursts[step] - nth * attack[step] // bursts[step]
    offset, length = _offsets(np.cumsum(gaps), count)
    return index, offset, length, step, count


def _shares(blocks: tuple[Int, ...]) -> NDArray[np.float64]:
    sizes = np.array([len(block) for block in blocks], dtype=np.float64)
    return np.asarray(sizes / sizes.sum())


def _offsets(time: NDArray[np.float64], count: Int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Seconds since its burst began of each packet, and length of each burst of `count` packets."""
    if not len(count):
        return np.zeros(0), np.zeros(0)
    end = np.cumsum(count)
    start = end - count
    offset = time - np.repeat(time[start], count)
    return offset, offset[end - 1]
