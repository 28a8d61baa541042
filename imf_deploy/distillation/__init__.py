"""Distillation: a student with branches learns from a frozen teacher."""
