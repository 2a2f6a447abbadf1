"""One attention pass by many workers: which images are whose, how far each is, and the chain of jobs on SLURM."""
