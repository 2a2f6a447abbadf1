"""Experiment tracking with W&B, in a process of its own."""
