"""pfl-research: `FederatedAveraging` on a `SimulatedBackend`, one process."""

from __future__ import annotations

from typing import Any

import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data import FederatedDataset
from pfl.data.dataset import Dataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam import NNTrainHyperParams
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel
from session import Session, data, w
from torch_w import Net, load, named


class Rounds(TrainingProcessCallback):
    """Waits to be asked before each central iteration."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def on_train_begin(self, *, model: Any) -> Metrics:
        """Before the first."""
        self.session.ready()
        self.session.wait()
        return Metrics()

    def after_central_iteration(
        self, aggregate_metrics: Any, model: Any, *, central_iteration: int
    ) -> tuple[bool, Metrics]:
        """One is over."""
        self.session.done(lambda: named(model.pytorch_model.state_dict()))
        self.session.wait()
        return False, Metrics()


def main() -> None:
    """Serve rounds."""
    session = Session("pfl-research, simulated backend, one process", ["pfl", "torch", "numpy"])
    torch.set_num_threads(1)
    net = Net()
    load(net, w.initial(0))
    trained = [p for p in net.parameters() if p.requires_grad]
    model = PyTorchModel(net, torch.optim.SGD, torch.optim.SGD(trained, lr=1.0))

    def user(client: int) -> Dataset:
        x, y = data(session.seed, client)
        return Dataset([torch.from_numpy(x), torch.from_numpy(y).long()])

    users = FederatedDataset(user, get_user_sampler("minimize_reuse", list(range(session.clients))))
    FederatedAveraging().run(
        NNAlgorithmParams(
            central_num_iterations=1_000_000,
            evaluation_frequency=1_000_000,
            train_cohort_size=session.clients,
            val_cohort_size=0,
        ),
        SimulatedBackend(users, None),
        model,
        NNTrainHyperParams(local_num_epochs=1, local_learning_rate=w.RATE, local_batch_size=w.BATCH),
        None,
        callbacks=[Rounds(session)],
        send_metrics_to_platform=False,
    )


if __name__ == "__main__":
    main()
