"""`torch.func.vmap(grad)` under `torch.compile`: clip and sum compiled together, and noise with the step.

Convolutions and the GRU are products of matrices (`nn.GRU` cannot be mapped), as in FedJAX's program. A batch
is padded to a multiple of 16 windows, which are taken 16 at a time, so that one program serves all. One
thread.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from session import Session, data, w
from torch.func import grad, vmap

TOGETHER = 16


def conv(x: Any, weight: Any, bias: Any, width: int) -> Any:
    """x [T, C] -> [T, outputs], causal."""
    padded = torch.nn.functional.pad(x, (0, 0, width - 1, 0))
    return torch.cat([padded[i : i + x.shape[0]] for i in range(width)], dim=-1) @ weight + bias


def loss(p: dict[str, Any], x: Any, y: Any) -> Any:
    """Of one window [T, F]."""
    h = torch.nn.functional.gelu(conv(x, p["conv1_w"], p["conv1_b"], w.WIDTH), approximate="tanh")
    gates = conv(h, p["conv2_w"], p["conv2_b"], w.WIDTH_2) @ p["gru_w"] + p["gru_b"]
    h, states = torch.zeros(w.HIDDEN), []
    for gate in gates.unbind(0):
        z, r, n = gate.chunk(3)
        uz, ur, un = (h @ p["gru_u"]).chunk(3)
        h = h + torch.sigmoid(z + uz) * (torch.tanh(n + torch.sigmoid(r + ur) * un) - h)
        states.append(h)
    logits = torch.stack(states) @ p["head_w"] + p["head_b"]
    return torch.nn.functional.cross_entropy(logits, y)


def clipped(p: dict[str, Any], x: Any, y: Any, real: Any) -> dict[str, Any]:
    """Sum of the clipped gradients of x [16, T, F]; those that are not `real` count for nothing."""
    each = vmap(grad(loss), in_dims=(None, 0, 0))(p, x, y)
    squares = sum(g.square().flatten(1).sum(1) for g in each.values())
    scale = real * (w.CLIP / squares.sqrt().clamp_min(1e-12)).clamp_max(1.0)
    return {name: torch.tensordot(scale, g, dims=1) for name, g in each.items()}


def stepped(p: dict[str, Any], total: dict[str, Any], noise: float) -> dict[str, Any]:
    """Noise on the sum, and a step of plain SGD."""
    return {
        name: value - w.RATE / w.BATCH * (total[name] + noise * torch.randn_like(value))
        for name, value in p.items()
    }


def main() -> None:
    """Serve rounds."""
    session = Session(
        "torch.compile (inductor) of vmap(grad), clip and sum, 16 windows at a time, one thread",
        ["torch", "numpy"],
    )
    torch.set_num_threads(1)
    add, step = torch.compile(clipped), torch.compile(stepped)
    parameters = {name: torch.from_numpy(value) for name, value in w.initial(0).items()}
    sites = [data(session.seed, number) for number in range(session.clients)]
    tensors = [(torch.from_numpy(x), torch.from_numpy(y).long()) for x, y in sites]
    rng = np.random.default_rng(session.seed)
    session.ready()
    while True:
        session.wait()
        noise = 0.0 if session.compared else w.CLIP * w.NOISE_MULTIPLIER
        ended = []
        for number, (x, y) in enumerate(tensors):
            p = parameters
            drawn = (
                w.sampled(session.seed, number)
                if session.compared
                else [np.flatnonzero(rng.random(len(x)) < w.BATCH / len(x)) for _ in range(w.ROUND_STEPS)]
            )
            for rows in drawn:
                padded = torch.from_numpy(np.pad(rows, (0, -len(rows) % TOGETHER)))
                real = (torch.arange(len(padded)) < len(rows)).float()
                total: Any = {name: torch.zeros_like(value) for name, value in p.items()}
                for some, there in zip(padded.split(TOGETHER), real.split(TOGETHER), strict=True):
                    part = add(p, x[some], y[some], there)
                    total = {name: total[name] + part[name] for name in total}
                p = step(p, total, torch.tensor(noise))
            ended.append(p)
        parameters = {name: sum(p[name] for p in ended) / session.clients for name in parameters}
        session.done(partial(as_arrays, parameters))


def as_arrays(parameters: dict[str, Any]) -> dict[str, Any]:
    """For `np.savez`."""
    return {name: value.numpy() for name, value in parameters.items()}


if __name__ == "__main__":
    main()
