"""Each module of the bench finds what it imports from the others."""

from importlib import import_module
from pathlib import Path

import bench

ELSEWHERE = {"locustfile", "__main__"}
"""Run by another program, or when it is imported."""


def test_every_module_can_be_imported() -> None:
    root = Path(bench.__path__[0])
    names = {
        ".".join(path.relative_to(root.parent).with_suffix("").parts)
        for path in root.rglob("*.py")
        if path.stem not in ELSEWHERE and not any(p.startswith(".") for p in path.parts)
    }
    assert len(names) > 30
    for name in sorted(names):
        import_module(name.removesuffix(".__init__"))
