"""The plain way: a PyTorch loop over clients, in one process or several, each with one thread."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.multiprocessing as mp
from session import Session, data, w
from torch_w import Net, load, named, train


def part(net: Net, weights: dict[str, Any], seed: int, clients: range) -> dict[str, Any]:
    """Sum of the parameters that these clients end with."""
    total = {name: torch.zeros_like(value) for name, value in weights.items()}
    for client in clients:
        net.load_state_dict(weights)
        x, y = (torch.from_numpy(v) for v in data(seed, client))
        train(net, x, y.long())
        for name, value in net.state_dict().items():
            total[name] += value
    return total


def worker(pipe: Any, seed: int, clients: range) -> None:
    """Answer weights with a sum, until None comes."""
    torch.set_num_threads(1)
    net = Net()
    while (weights := pipe.recv()) is not None:
        pipe.send(part(net, weights, seed, clients))


def main() -> None:
    """Serve rounds."""
    session = Session("PyTorch, a loop over clients", ["torch", "numpy"])
    torch.set_num_threads(1)
    net = Net()
    load(net, w.initial(0))
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    pipes, context = [], mp.get_context("spawn")
    for index in range(session.processes if session.processes > 1 else 0):
        ours, theirs = context.Pipe()
        clients = range(index, session.clients, session.processes)
        context.Process(target=worker, args=(theirs, session.seed, clients), daemon=True).start()
        pipes.append(ours)
    session.ready()
    while True:
        session.wait()
        for pipe in pipes:
            pipe.send(weights)
        parts = [pipe.recv() for pipe in pipes] or [part(net, weights, session.seed, range(session.clients))]
        weights = {name: sum(p[name] for p in parts) / session.clients for name in weights}
        session.done(partial(named, weights))


if __name__ == "__main__":
    main()
