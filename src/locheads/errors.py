"""The one family of errors that a user's mistake raises. The command line prints the text and exits with 1."""

Rule = tuple[bool, str]
"""Of the settings: whether it holds, and the sentence if not."""


class LocHeadsError(Exception):
    """Base class. The text is one sentence: what is wrong, with its name, and what to do about it."""


class ConfigError(LocHeadsError):
    """A setting that is unknown, of the wrong type, or impossible in this combination."""


class DataError(LocHeadsError):
    """A data set that is absent, incomplete or contradicts itself."""


class ModelError(LocHeadsError):
    """A checkpoint that is absent, of another kind, or cannot be read completely."""


class StoreError(LocHeadsError):
    """A file of ours that cannot be written or read back."""


class DiscoveryError(LocHeadsError):
    """The samples do not yield the heads that were asked for."""
