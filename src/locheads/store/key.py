"""What a stored result was made from: the question (weights, settings, annotations) and, apart from it, what it was
made with (versions of packages, image processor, our own code), so that a run can say in which of these they differ."""

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import locheads
from locheads.errors import StoreError
from locheads.store.digest import json_digest

MadeWith = Mapping[str, str | None]
"""Name -> version, class name or digest; None: not installed."""

MADE_WITH = "made_with"
UNKNOWN = "versions that were not recorded"


@dataclass(frozen=True)
class Key:
    """Of a store. Its digest names the store's file or folder."""

    question: Mapping[str, Any]
    """Plain values."""
    made_with: MadeWith | None
    """None: with unknown versions, before they were recorded."""

    @property
    def content(self) -> dict[str, Any]:
        return {**self.question, **({} if self.made_with is None else {MADE_WITH: dict(self.made_with)})}

    @property
    def digest(self) -> str:
        return json_digest(self.content)


def read_key(path: Path) -> Key | None:
    """None where there is none, or one that does not match the name of its folder or file."""
    try:
        content = json.loads(path.read_text())
        made_with = content.pop(MADE_WITH, None)
    except (OSError, ValueError, AttributeError, TypeError):
        return None
    key = Key(content, made_with)
    return key if key.digest[:16] in (path.parent.name, path.name.partition(".")[0]) else None


def of_other_versions(key: Key, files: Iterable[Path]) -> list[tuple[Path, Key]]:
    """Those key files that hold the same question and were made with something else, the newest first."""
    question = json_digest(key.question)
    keys = [(file, read_key(file)) for file in files]
    others = [
        (file, stored)
        for file, stored in keys
        if stored is not None and stored.digest != key.digest and json_digest(stored.question) == question
    ]
    return sorted(others, key=lambda other: other[0].stat().st_mtime_ns, reverse=True)


def difference(stored: MadeWith | None, current: MadeWith | None) -> str:
    """In words, such as "transformers 5.22.0 (here 5.23.0)"."""
    if stored is None or current is None:
        return UNKNOWN
    changed = [name for name in {**current, **stored} if stored.get(name) != current.get(name)]
    return ", ".join(f"{name} {stored.get(name) or 'none'} (here {current.get(name) or 'none'})" for name in changed)


def lacks_some(path: Path, stored: Key, current: Key) -> StoreError:
    """The error where `engine.other_versions=take` does not go."""
    return StoreError(
        f"{path} was made with other versions ({difference(stored.made_with, current.made_with)}) and lacks some of "
        "what is needed: engine.other_versions=recompute asks the model for all of it, into a store of its own."
    )


@cache
def code_digest(*modules: str, without: frozenset[str] = frozenset()) -> str:
    """16 hex digits over the code of modules of this package and of all that they import, directly or not.

    Found by walking the import statements, so that a new module cannot be forgotten. Comments, docstrings and layout
    do not count.

    Args:
        modules: dotted names.
        without: those that decide nothing of the result; what only they import is left out with them.
    """
    digest = hashlib.sha256()
    for name, code in sorted(walk_imports(*modules, without=without).items()):
        digest.update("\n".join([name, *code.words]).encode())
    return digest.hexdigest()[:16]


class Code(NamedTuple):
    """Of one module."""

    words: tuple[str, ...]
    """See `_add_words`."""
    imports: tuple[str, ...]
    """What may be a module of this package, with the packages that it lies in."""


def walk_imports(*modules: str, without: frozenset[str] = frozenset()) -> dict[str, Code]:
    """Module -> its code, of modules of this package and of all in it that they import. See `code_digest`."""
    found: dict[str, Code] = {}
    todo = list(modules)
    while todo:
        name = todo.pop()
        if name not in found and name not in without and (file := _file(name)) is not None:
            found[name] = _code(file.read_bytes())
            todo += found[name].imports
    return found


@cache
def _code(source: bytes) -> Code:
    """Parsed once, though most digests share most modules."""
    tree, words = ast.parse(source), list[str]()
    _add_words(tree, words)
    return Code(tuple(words), tuple(_imports(tree)))


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[:n]) for n in range(2, len(parts) + 1))


def _file(module: str) -> Path | None:
    top, *parts = module.split(".")
    if top != locheads.__name__:
        return None
    path = Path(locheads.__path__[0]).joinpath(*parts)
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _add_words(node: Any, words: list[str]) -> None:
    """Adds a syntax tree in words, without what differs between versions of Python for the same code."""
    if isinstance(node, ast.AST):
        words.append(f"{type(node).__name__}(")
        for name in node._fields:
            if name != "ctx" and (value := getattr(node, name, None)) not in (None, []):
                words.append(f"{name}=")
                _add_words(value, words)
        words.append(")")
    elif isinstance(node, list):
        for item in node:
            if not _is_text(item):
                _add_words(item, words)
        words.append("]")
    else:
        words.append(repr(node))


def _is_text(node: Any) -> bool:
    """Whether a statement is a docstring, or a text below an attribute."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
