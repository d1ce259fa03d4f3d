"""The protocol of judging: metrics, intervals, baselines."""
