"""Original checkpoints that have no transformers form on the hub become folders that `model.id` takes.

`python -m locheads.models.convert SRC DST`. A format (`from_llava.py`, `from_mini_gemini.py`) says what the checkpoint
is: the configuration of the result, its processor, and a key map for every folder that weights come from.
`rules.account` proves the map complete from names and shapes alone, before a weight is read; `conversion.stream` then
makes the weights, one file after the other.
"""
