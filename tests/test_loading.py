import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.errors import ConfigError
from proxy.loading import load

PLACE = "agents.fn.options.function"


@pytest.fixture(autouse=True)
def clean_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget what a test imported, and where from."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def fault(name: str, folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(name, folder=folder, place=PLACE)
    assert caught.value.message.startswith(PLACE + ": ")
    return caught.value.message


def test_a_file_is_found_relative_to_the_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("answer = 42")
    assert load("./mine.py:answer", folder=tmp_path, place=PLACE) == 42
    assert load("mine.py:answer", folder=tmp_path, place=PLACE) == 42


def test_a_file_is_found_by_its_absolute_path(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("answer = 42")
    assert load(f"{tmp_path}/mine.py:answer", folder=Path("/"), place=PLACE) == 42


def test_a_module_is_found_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "pack_of_mine").mkdir()
    (tmp_path / "pack_of_mine" / "deep.py").write_text("class Box:\n    answer = 42")
    assert load("pack_of_mine.deep:Box.answer", folder=tmp_path, place=PLACE) == 42


def test_a_file_is_imported_once_under_a_stable_name(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("class Note: pass\nnote = Note()")
    note = load("./mine.py:note", folder=tmp_path, place=PLACE)
    kind = load("mine.py:Note", folder=tmp_path, place=PLACE)
    assert type(note) is kind
    assert sys.modules[type(note).__module__].__file__ == str(tmp_path / "mine.py")


def test_files_of_one_name_in_two_folders_are_two_modules(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.py").write_text(f"answer = {name!r}")
    assert load("a/mine.py:answer", folder=tmp_path, place=PLACE) == "a"
    assert load("b/mine.py:answer", folder=tmp_path, place=PLACE) == "b"


def test_a_file_may_import_its_siblings(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "sibling_of_mine.py").write_text("answer = 42")
    (tmp_path / "sub" / "mine.py").write_text("from sibling_of_mine import answer")
    assert load("sub/mine.py:answer", folder=tmp_path, place=PLACE) == 42


def test_a_missing_module_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "agents_of_mine.py").write_text("")
    assert "no module `agentz_of_mine`; did you mean `agents_of_mine`?" in fault("agentz_of_mine:fn", tmp_path)


def test_a_missing_submodule_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "pack_of_mine").mkdir()
    (tmp_path / "pack_of_mine" / "deep.py").write_text("")
    message = fault("pack_of_mine.deap:fn", tmp_path)
    assert "no module `pack_of_mine.deap`; did you mean `pack_of_mine.deep`?" in message


def test_a_missing_module_without_a_near_one_says_where_it_was_looked_for(tmp_path: Path) -> None:
    assert f"modules are looked for in {tmp_path}" in fault("nothing_like_it:fn", tmp_path)


def test_a_missing_file_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "agents.py").write_text("")
    assert f"no file {tmp_path}/agent.py; did you mean `agents.py`?" in fault("./agent.py:fn", tmp_path)


def test_a_missing_attribute_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def answer(): ...")
    assert "`./mine.py` has no `anser`; did you mean `answer`?" in fault("./mine.py:anser", tmp_path)


@pytest.mark.parametrize("name", ["", "mine", "mine.py", ":answer", "mine.py:"])
def test_a_name_of_another_form_is_refused_with_both_forms(name: str, tmp_path: Path) -> None:
    assert "`package.module:attribute` or `path/to/file.py:attribute`" in fault(name, tmp_path)


@pytest.mark.parametrize("name", ["./mine:answer", "my-agents:answer", ".mine:answer"])
def test_a_path_without_py_is_not_taken_for_a_module(name: str, tmp_path: Path) -> None:
    assert "neither a module's name nor the path of a .py file" in fault(name, tmp_path)


@pytest.mark.parametrize("name", ["./mine.py:answer", "mine_that_fails:answer"])
def test_a_package_that_the_module_needs_is_named_not_the_module(name: str, tmp_path: Path) -> None:
    for file in ("mine.py", "mine_that_fails.py"):
        (tmp_path / file).write_text("import not_installed_here")
    message = fault(name, tmp_path)
    assert "failed: ModuleNotFoundError" in message
    assert "is the package that has `not_installed_here` installed?" in message


@pytest.mark.parametrize(("code", "said"), [("1 / 0", "ZeroDivisionError: division by zero"), ("def", "SyntaxError")])
def test_a_module_that_breaks_on_import_says_how_and_can_be_tried_again(code: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(code)
    assert f"importing `./mine.py` failed: {said}" in fault("./mine.py:answer", tmp_path)
    (tmp_path / "mine.py").write_text("answer = 'mended, and of another length'")
    assert load("./mine.py:answer", folder=tmp_path, place=PLACE) == "mended, and of another length"
