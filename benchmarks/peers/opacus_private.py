"""Opacus: `PrivacyEngine.make_private` with its Poisson loader, sites one after another, one thread.

W's GRU is `opacus.layers.DPGRU`, which has the arithmetic of `nn.GRU` in layers that the hooks know.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from opacus import PrivacyEngine
from opacus.data_loader import DPDataLoader
from opacus.layers import DPGRU
from session import Session, data, w
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch_w import Net, load, named, sgd


def batches(loader: Any, session: Session, site: int, everything: Any) -> Iterator[Any]:
    """A round's samples: Opacus's own, or those that all are compared by."""
    if not session.compared:
        yield from loader
        return
    for rows in w.sampled(session.seed, site):
        yield tuple(v[torch.from_numpy(rows)] for v in everything)


def main() -> None:
    """Serve rounds."""
    session = Session(
        "PrivacyEngine, grad_sample_mode hooks, DPGRU, Poisson loader, one thread",
        ["opacus", "torch", "numpy"],
    )
    torch.set_num_threads(1)
    net = Net()
    load(net, w.initial(0))
    cell = DPGRU(w.CUT, w.HIDDEN, batch_first=True)
    cell.load_state_dict(net.gru.state_dict())
    net.gru = cell
    for name, value in net.named_parameters():
        value.requires_grad_(name != "gru.bias_hh_l0")
    sites = []
    for number in range(session.clients):
        x, y = data(session.seed, number)
        sites.append(TensorDataset(torch.from_numpy(x), torch.from_numpy(y).long()))
    plain = [DataLoader(site, batch_size=w.BATCH) for site in sites]
    wrapped, optimiser, _ = PrivacyEngine(accountant="rdp").make_private(
        module=net,
        optimizer=sgd(net),
        data_loader=plain[0],
        noise_multiplier=w.NOISE_MULTIPLIER,
        max_grad_norm=w.CLIP,
    )
    loaders = [DPDataLoader.from_data_loader(loader) for loader in plain]
    parameters = dict(net.named_parameters())
    weights = {name: value.detach().clone() for name, value in parameters.items()}
    session.ready()
    while True:
        session.wait()
        optimiser.noise_multiplier = 0.0 if session.compared else w.NOISE_MULTIPLIER
        total = {name: torch.zeros_like(value) for name, value in weights.items()}
        for number, loader in enumerate(loaders):
            with torch.no_grad():
                for name, value in parameters.items():
                    value.copy_(weights[name])
            for x, y in batches(loader, session, number, sites[number].tensors):
                optimiser.zero_grad(set_to_none=True)
                loss = nn.functional.cross_entropy(wrapped(x).flatten(0, 1), y.flatten())
                loss.backward()
                optimiser.step()
            for name, value in parameters.items():
                total[name] += value.detach()
        weights = {name: value / session.clients for name, value in total.items()}
        session.done(partial(named, weights))


if __name__ == "__main__":
    main()
