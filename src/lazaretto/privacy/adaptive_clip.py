"""A clip that moves towards a quantile of the gradients' lengths, by noisy counts of short ones."""

from __future__ import annotations

import math

__all__ = ["next_clip"]

_PACE = 0.2  # of the geometric step, as in the paper


def next_clip(clip: float, share: float, quantile: float) -> float:
    """The clip of the next step, clip · exp(-0.2 · (share - quantile)).

    clip > 0. share: of the sampled gradients at most as long as the clip, noisy, so it may lie outside
    [0, 1]; it is taken to the nearest end. quantile in (0, 1): the share that is aimed at.
    Andrew et al. 2021, https://arxiv.org/abs/1905.03871.
    """
    return clip * math.exp(-_PACE * (min(1.0, max(0.0, share)) - quantile))
