"""Golden checkpoints: the table of cases, their random weights and the reference forward passes."""
