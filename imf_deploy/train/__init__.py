"""Training: the loop, the teacher, and the distillation."""
