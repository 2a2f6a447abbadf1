"""The studies of experiments/: finished runs joined into the paper's layouts, from their records alone."""
