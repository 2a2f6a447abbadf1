"""One command for a list of models and data sets on SLURM: `python -m locheads.cluster --help`."""
