"""Original checkpoints become folders that `model.id` takes: `python -m locheads.models.convert SRC DST`.

A format (one small file in `formats/`) says what the checkpoint is: the configuration of the result, its processor, and
a key map for every folder that weights come from. `account` proves the map complete from names and shapes alone, before
a weight is read; `stream` then makes the weights, one file after the other.
"""
