"""How fast the engine is, measured beside how it is done today: `python -m locheads.bench --help`."""
