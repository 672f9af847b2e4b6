"""A folder as kubelet mounts a ConfigMap or Secret, and as it changes one."""

import shutil
from collections.abc import Mapping
from itertools import count
from pathlib import Path


class ConfigMapVolume:
    """Each file is a link to `..data/NAME`, and `..data` one to a folder with the files.

    A change is a new folder: `..data` is replaced in one step, and the old folder removed.
    """

    def __init__(self, folder: Path, files: Mapping[str, str]) -> None:
        self.folder = folder
        self._numbers = count(1)
        folder.mkdir(exist_ok=True)
        self.put(files)

    def put(self, files: Mapping[str, str]) -> None:
        """Replace files; the others stay as they are."""
        data = self.folder / "..data"
        old = data.resolve() if data.exists() else None
        new = self.folder / f"..2026_11_30_16_00_00.{next(self._numbers)}"
        if old is None:
            new.mkdir()
        else:
            shutil.copytree(old, new)
        for name, text in files.items():
            (new / name).write_text(text)
        link = self.folder / "..data_tmp"
        link.symlink_to(new.name)
        link.replace(data)
        for name in files:
            visible = self.folder / name
            if not visible.is_symlink():
                visible.symlink_to(f"..data/{name}")
        if old is not None:
            shutil.rmtree(old)
