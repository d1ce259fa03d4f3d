"""One client of Flower's SecAgg+ (`flwr.client.mod.secure_aggregation.secaggplus_mod`, the legacy workflow's
mod).

    python flower_secagg.py SITES THRESHOLD PARAMETERS TURNS

Calls the four stages that its mod runs, one after another, without network and serialisation: of the other
clients only what reaches this one is made. Prints one JSON object: seconds of each stage and turn, largest
error bound of its fixed point, versions. Needs benchmarks/peers/flower.txt.
"""

# ruff: noqa: T201
from __future__ import annotations

import importlib
import json
import logging
import sys
import time
from importlib.metadata import version
from typing import Any

import numpy as np
from flwr.common import ndarrays_to_parameters
from flwr.common.secure_aggregation.crypto.symmetric_encryption import encrypt, generate_shared_key
from flwr.common.secure_aggregation.secaggplus_constants import Key
from flwr.common.secure_aggregation.secaggplus_utils import share_keys_plaintext_concat
from flwr.supercore.primitives.asymmetric import bytes_to_private_key, bytes_to_public_key

# `from ... import` would give the function of this name.
flower = importlib.import_module("flwr.client.mod.secure_aggregation.secaggplus_mod")
# Defaults of `SecAggPlusWorkflow`: clipping 8, quantisation 2²², modulus 2³².
CLIPPING, QUANTISATION, MODULUS, MOST = 8.0, 2**22, 2**32, 1000.0


def settings(sites: int, threshold: int) -> dict[str, Any]:
    """What the server sends first."""
    return {
        Key.SAMPLE_NUMBER: sites,
        Key.SHARE_NUMBER: sites,
        Key.THRESHOLD: threshold,
        Key.CLIPPING_RANGE: CLIPPING,
        Key.TARGET_RANGE: QUANTISATION,
        Key.MOD_RANGE: MODULUS,
        Key.MAX_WEIGHT: MOST,
    }


def one(sites: int, threshold: int, update: Any) -> dict[str, float]:
    """Seconds of client 0 in each stage."""
    states, keys = [], {}
    for number in range(sites):
        state = flower.SecAggPlusState()
        state.nid = number
        begin = time.process_time()
        flower._setup(state, settings(sites, threshold))
        if number == 0:
            seconds = {"keys": time.process_time() - begin}
        states.append(state)
        keys[str(number)] = (state.pk1, state.pk2)
    begin = time.process_time()
    flower._share_keys(states[0], keys)
    seconds["shares"] = time.process_time() - begin
    ciphertexts = []
    for state in states[1:]:
        key = generate_shared_key(bytes_to_private_key(state.sk2), bytes_to_public_key(states[0].pk2))
        share = states[0].rd_seed_share_dict[0]
        ciphertexts.append(encrypt(key, share_keys_plaintext_concat(state.nid, 0, share, share)))
    configs = {Key.CIPHERTEXT_LIST: ciphertexts, Key.SOURCE_LIST: list(range(1, sites))}
    given = ndarrays_to_parameters([update])
    begin = time.process_time()
    flower._collect_masked_vectors(states[0], configs, 500, given)
    seconds["masked vector"] = time.process_time() - begin
    begin = time.process_time()
    flower._unmask(states[0], {Key.ACTIVE_NODE_ID_LIST: list(range(sites)), Key.DEAD_NODE_ID_LIST: []})
    seconds["unmask"] = time.process_time() - begin
    return seconds


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    n, t, d, turns = map(int, sys.argv[1:5])
    row = np.random.default_rng(0).normal(0, 1, d).astype(np.float32)
    found = [one(n, t, row) for _ in range(turns)]
    print(json.dumps({"turns": found, "versions": {name: version(name) for name in ("flwr", "numpy")}}))
