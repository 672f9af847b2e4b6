"""Each module of the bench finds what it imports from the others."""

import ast
from collections.abc import Iterator
from pathlib import Path

import bench

ROOT = Path(bench.__path__[0])


def defined(path: Path) -> set[str]:
    """Names at the top of a module; of a folder, its modules."""
    if path.is_dir():
        names = {one.stem for one in path.iterdir() if one.suffix == ".py" or one.is_dir()}
        return names | defined(path / "__init__.py")
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {name.asname or name.name for name in node.names}
    return found


def imports() -> Iterator[tuple[Path, Path, str]]:
    """The importing module, the imported one or folder, and the name."""
    for path in (*ROOT.glob("*.py"), *ROOT.glob("[a-z]*/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom):
                continue
            module = (node.module or "").split(".") if node.module else []
            if node.level:
                place = path.parents[node.level - 1].joinpath(*module)
            elif module[0] == "bench":
                place = ROOT.joinpath(*module[1:])
            else:
                continue
            for name in node.names:
                yield path, place if place.is_dir() else place.with_suffix(".py"), name.name


def test_every_module_finds_what_it_imports_from_the_bench() -> None:
    found = list(imports())
    assert len(found) > 100
    names = {place: defined(place) for place in {place for _, place, _ in found}}
    missing = [(path.name, name) for path, place, name in found if name not in names[place]]
    assert not missing
