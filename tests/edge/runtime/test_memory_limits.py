"""Memory limits of control groups and address space."""

import resource
from pathlib import Path

import pytest

from edge.runtime.memory_limits import ADDRESS_BYTES, PARENT_BYTES, WORKER_BYTES, low_memory_limits

TIGHT = PARENT_BYTES + 2 * WORKER_BYTES


def kernel(root: Path, groups: str, **limits: str) -> Path:
    """A file system with these files: `proc/self/cgroup` and limits by their paths."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for path, text in limits.items():
        file = root / "sys/fs/cgroup" / path.replace("__", "/").replace("_max", ".max")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def test_low_memory_limits_without_limit_is_empty(tmp_path: Path) -> None:
    assert low_memory_limits(64, kernel(tmp_path, "0::/a\n", a__memory_max="max\n")) == []
    assert low_memory_limits(64, tmp_path / "no such") == []


def test_low_memory_limits_includes_outer_groups(tmp_path: Path) -> None:
    groups = {"a__b__memory_max": "max\n", "a__memory_max": f"{TIGHT}\n"}
    root = kernel(tmp_path, "1:name=systemd:/x\n0::/a/b\n", **groups)
    assert low_memory_limits(2, root) == []
    (said,) = low_memory_limits(3, root)
    assert said == (
        "memory: the control group allows 256 MiB, 3 idle workers need about 352 MiB, so "
        "processes will be killed; set server.workers to 2 or raise it"
    )


def test_low_memory_limits_version_1_in_a_container(tmp_path: Path) -> None:
    root = kernel(tmp_path, "4:cpu,memory:/pod/x\n")
    folder = root / "sys/fs/cgroup/memory"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text(f"{PARENT_BYTES}\n")
    (said,) = low_memory_limits(1, root)
    assert said.endswith("; raise it")


def test_low_memory_limits_includes_the_address_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (ADDRESS_BYTES - 1, -1))
    (said,) = low_memory_limits(1, tmp_path)
    assert "639 MiB (ulimit -v)" in said
