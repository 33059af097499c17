"""From scores to labels, and from labels to honest numbers; needs numpy, scipy and pyarrow, never torch.

`decision.Decision` turns scores into probabilities and labels, `metrics.evaluate` measures them with intervals,
`predictions` writes and reads ``predictions.parquet``, `tables` shows the result in a terminal, and
`significance.compare_pairs` says which of several methods is better on the same rows.
"""
