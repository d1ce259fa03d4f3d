"""Flower's simulation engine (Ray): FedAvg over ClientApps, one core each, as many at a time as cores."""

from __future__ import annotations

import os
from typing import Any

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from session import Session, data, w
from torch_w import Net, load, named, train

client_app = ClientApp()


@client_app.train()
def fit(message: Message, context: Context) -> Message:
    """One client: load the model, train one epoch, answer with it."""
    torch.set_num_threads(1)
    net = Net()
    net.load_state_dict(message.content["arrays"].to_torch_state_dict())
    x, y = (
        torch.from_numpy(v)
        for v in data(int(message.content["config"]["seed"]), int(context.node_config["partition-id"]))
    )
    train(net, x, y.long())
    reply = {"arrays": ArrayRecord(net.state_dict()), "metrics": MetricRecord({"num-examples": len(x)})}
    return Message(content=RecordDict(reply), reply_to=message)


class Rounds(FedAvg):
    """FedAvg that waits to be asked before each round."""

    session: Session

    def configure_train(self, server_round: int, arrays: Any, config: Any, grid: Grid) -> Any:
        """Wait, then sample all clients."""
        if server_round == 1:
            self.session.ready()
        self.session.wait()
        config["seed"] = self.session.seed
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(self, server_round: int, replies: Any) -> Any:
        """Average, and say that the round is over."""
        replies = list(replies)
        arrays, metrics = super().aggregate_train(server_round, replies)
        failed = sum(reply.has_error() for reply in replies)
        if failed or len(replies) != self.session.clients:
            raise RuntimeError(f"{failed} clients failed, {len(replies)} answered")
        self.session.done(lambda: named(arrays.to_torch_state_dict()))
        return arrays, metrics


def main() -> None:
    """Serve rounds."""
    session = Session("Flower simulation (Ray), one CPU a client", ["flwr", "ray", "torch", "numpy"])
    server_app = ServerApp()

    @server_app.main()
    def serve(grid: Grid, context: Context) -> None:
        net = Net()
        load(net, w.initial(0))
        strategy = Rounds(fraction_train=1.0, fraction_evaluate=0.0, min_available_nodes=session.clients)
        strategy.session = session
        try:
            strategy.start(grid, ArrayRecord(net.state_dict()), num_rounds=1_000_000)
        except SystemExit:
            return

    cores = len(os.sched_getaffinity(0))
    run_simulation(
        server_app,
        client_app,
        num_supernodes=session.clients,
        backend_config={
            "init_args": {"num_cpus": cores, "include_dashboard": False},
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        },
    )


if __name__ == "__main__":
    main()
