"""What a plan may name and nobody can add a file to: protocols of secrecy, and systems to compare with."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["FIXED_PARTS"]

# family as `lazaretto list` has it -> name -> one line about it
FIXED_PARTS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "protocols": {
            "ckks": "Sums under homomorphic encryption in two exchanges; weaker than masks. Extra `he`.",
            "masked": "The coordinator learns the weighted sum of the updates that arrived, and no update.",
            "sharing": "Three aggregators hold shares: they open inner products and the weighted sum.",
        },
        "baselines": {
            "autoencoder": "The model `autoencoder`, trained on pooled normal steps.",
            "cnn": "The model `cnn`, trained on pooled data.",
            "gradient_boosting": "scikit-learn's on pooled windows of `evaluate.window_steps` steps.",
            "gru": "The model `gru`, trained on pooled data.",
            "local": "Ours, trained by each site alone.",
            "logistic_regression": "scikit-learn's on pooled windows.",
            "mlp": "The model `mlp`, trained on pooled data.",
            "pooled": "The same model, trained on the data of all sites in one place, without a cut.",
            "rate_threshold": "How far one feature is from its median: an alarm as operators set it by hand.",
            "record_only": "Ours, trained and judged on records alone (combined modality).",
            "tcn": "The model `tcn`, trained on pooled data.",
            "traffic_only": "Ours, trained and judged on traffic alone (combined modality).",
            "unprotected": "Ours without secrecy, compression and privacy.",
            "unsplit": "Ours without a cut between device and site.",
        },
    }
)
