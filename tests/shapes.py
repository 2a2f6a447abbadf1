"""The check of types and shapes that `conftest.py` puts before every function of the modules that it names."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # a whole number is a float, as type checkers have it
