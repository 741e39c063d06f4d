"""Finds what the config names in Python code: "package.module:attribute" or "path/to/file.py:attribute".

For adapters, which call it once when they open. Only names from the config may come here, never a request's.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from proxy.errors import ConfigError
from proxy.schema import did_you_mean


def load(name: str, *, folder: Path, place: str) -> object:
    """The object called `name`; a file's path and a module's search start in `folder`.

    The folder (and the file's own) is put on `sys.path`, so that code finds its neighbours. A file is imported once
    under a name made from its path. Raises `ConfigError` that begins with `place` and says what to change.
    """
    source, colon, attribute = name.strip().rpartition(":")
    if not (colon and source and attribute):
        raise ConfigError(f"{place}: `{name}` should be `package.module:attribute` or `path/to/file.py:attribute`")
    importlib.invalidate_caches()
    _make_importable(folder)
    module = _from_file(source, folder, place) if source.endswith(".py") else _from_package(source, folder, place)
    return _attribute(module, source, attribute, place)


def _make_importable(folder: Path) -> None:
    entry = str(folder.resolve())
    if entry not in sys.path:
        sys.path.insert(0, entry)


def _from_package(source: str, folder: Path, place: str) -> ModuleType:
    if not all(part.isidentifier() for part in source.split(".")):
        raise ConfigError(f"{place}: `{source}` is neither a module's name nor the path of a .py file")
    try:
        return importlib.import_module(source)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing != source and not source.startswith(missing + "."):
            raise _broken(source, place, error) from error
        hint = did_you_mean(missing, _neighbours(missing, folder)) or f"; modules are looked for in {folder.resolve()}"
        raise ConfigError(f"{place}: no module `{missing}`{hint}") from error
    except Exception as error:
        raise _broken(source, place, error) from error


def _from_file(source: str, folder: Path, place: str) -> ModuleType:
    path = (folder / Path(source).expanduser()).resolve()
    if not path.is_file():
        hint = did_you_mean(path.name, [found.name for found in path.parent.glob("*.py")])
        raise ConfigError(f"{place}: no file {path}{hint}")
    name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{place}: {path} is not a Python file")
    _make_importable(path.parent)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise _broken(source, place, error) from error
    return module


def _attribute(module: ModuleType, source: str, attribute: str, place: str) -> object:
    found: object = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            hint = did_you_mean(part, [known for known in dir(found) if not known.startswith("_")])
            raise ConfigError(f"{place}: `{source}` has no `{attribute}`{hint}")
        found = getattr(found, part)
    return found


def _broken(source: str, place: str, error: Exception) -> ConfigError:
    """The module is there, but does not import; the full story is the error's cause."""
    cure = ""
    if isinstance(error, ModuleNotFoundError) and error.name:
        cure = f"; is the package that has `{error.name}` installed?"
    return ConfigError(f"{place}: importing `{source}` failed: {type(error).__name__}: {error}{cure}")


def _neighbours(missing: str, folder: Path) -> Iterable[str]:
    """Modules that stand where the missing one was looked for."""
    parent, dot, _ = missing.rpartition(".")
    where = list(getattr(sys.modules.get(parent), "__path__", ())) if dot else [str(folder.resolve())]
    return (parent + dot + found.name for found in pkgutil.iter_modules(where))
