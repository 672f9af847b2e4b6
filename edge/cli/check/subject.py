"""What is checked: a configuration, its file, and how far the checks may go."""

from pathlib import Path
from typing import NamedTuple

from edge.config.load import Settings


class Subject(NamedTuple):
    """file: of the configuration. billable: whether models may be called, which costs money."""

    settings: Settings
    file: Path
    billable: bool = False
