"""Training: the loop, its step, and its checkpoints, for every task."""
