"""Workload W in PyTorch, shared by the peers that train with it. Needs torch and NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from session import w
from torch import nn

__all__ = ["Net", "load", "named", "sgd", "train"]


class Net(nn.Module):
    """Causal convolutions by padding on the left, `nn.GRU` with its second bias frozen at 0."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(w.FEATURES, w.CHANNELS, w.WIDTH)
        self.conv2 = nn.Conv1d(w.CHANNELS, w.CUT, w.WIDTH_2)
        self.gru = nn.GRU(w.CUT, w.HIDDEN, batch_first=True)
        self.gru.bias_hh_l0.requires_grad_(False)
        self.head = nn.Linear(w.HIDDEN, w.CLASSES)

    def forward(self, x: Any) -> Any:
        """x [B, T, F] -> logits [B, T, 6]."""
        h = self.conv1(nn.functional.pad(x.transpose(1, 2), (w.WIDTH - 1, 0)))
        h = nn.functional.gelu(h, approximate="tanh")
        h = self.conv2(nn.functional.pad(h, (w.WIDTH_2 - 1, 0)))
        return self.head(self.gru(h.transpose(1, 2))[0])

    def loss(self, x: Any, y: Any) -> Any:
        """Mean cross-entropy over all steps."""
        return nn.functional.cross_entropy(self(x).flatten(0, 1), y.flatten())

    def metrics(self, x: Any, y: Any) -> dict[str, Any]:
        """pfl asks for this method; nothing is evaluated."""
        return {}


def _gates(values: Any) -> Any:
    """Our gates z, r, n as torch's r, z, n, whose z is one minus ours; its own inverse but for the order."""
    z, r, n = np.split(values, 3, axis=-1)
    return np.concatenate([r, -z, n], axis=-1)


def _back(values: Any) -> Any:
    r, z, n = np.split(values, 3, axis=-1)
    return np.concatenate([-z, r, n], axis=-1)


def _conv(weight: Any, width: int) -> Any:
    return weight.reshape(width, -1, weight.shape[1]).transpose(2, 1, 0)


def load(net: Net, p: dict[str, Any]) -> None:
    """Set the parameters from W's named arrays."""
    values = {
        "conv1.weight": _conv(p["conv1_w"], w.WIDTH),
        "conv1.bias": p["conv1_b"],
        "conv2.weight": _conv(p["conv2_w"], w.WIDTH_2),
        "conv2.bias": p["conv2_b"],
        "gru.weight_ih_l0": _gates(p["gru_w"]).T,
        "gru.weight_hh_l0": _gates(p["gru_u"]).T,
        "gru.bias_ih_l0": _gates(p["gru_b"]),
        "gru.bias_hh_l0": np.zeros(3 * w.HIDDEN, np.float32),
        "head.weight": p["head_w"].T,
        "head.bias": p["head_b"],
    }
    net.load_state_dict(
        {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in values.items()}
    )


def named(state: dict[str, Any]) -> dict[str, Any]:
    """W's named arrays from a state dict."""
    p = {name: np.asarray(value.detach()) for name, value in state.items()}
    return {
        "conv1_w": p["conv1.weight"].transpose(2, 1, 0).reshape(-1, w.CHANNELS),
        "conv1_b": p["conv1.bias"],
        "conv2_w": p["conv2.weight"].transpose(2, 1, 0).reshape(-1, w.CUT),
        "conv2_b": p["conv2.bias"],
        "gru_w": _back(p["gru.weight_ih_l0"].T),
        "gru_u": _back(p["gru.weight_hh_l0"].T),
        "gru_b": _back(p["gru.bias_ih_l0"]),
        "head_w": p["head.weight"].T,
        "head_b": p["head.bias"],
    }


def sgd(net: Net) -> Any:
    """Plain SGD over what is trained."""
    return torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=w.RATE)


def train(net: Net, x: Any, y: Any) -> None:
    """One epoch over a client's data, batches in order."""
    optimiser = sgd(net)
    for begin in range(0, len(x), w.BATCH):
        optimiser.zero_grad(set_to_none=True)
        net.loss(x[begin : begin + w.BATCH], y[begin : begin + w.BATCH]).backward()
        optimiser.step()
