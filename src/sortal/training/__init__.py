"""The loop and what keeps a run safe: checkpoints, locks, budgets, progress."""
