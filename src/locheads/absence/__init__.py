"""Whether what an expression names is in the image at all: a score from stored maps, and the answer "none"."""
