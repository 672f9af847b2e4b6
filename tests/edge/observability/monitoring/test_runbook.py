"""What the runbook names exists: panels, lines of the log, settings, commands and metrics."""

import re
from collections.abc import Iterator
from pathlib import Path

from typer.main import get_command

from edge.cli import app
from edge.config.fields import walk_settings
from edge.config.model import Configuration
from edge.observability.monitoring.panels import SECTIONS
from middlewares import KINDS
from middlewares.metric_table import TABLE

ROOT = Path(__file__).parents[4]
PAGE = " ".join((ROOT / "docs/runbook.md").read_text().split())
SPANS = set(re.findall(r"`([^`]+)`", PAGE))


def test_panels_have_these_titles() -> None:
    named = set(re.findall(r'"([A-Z][^"]+)"', PAGE))
    assert named
    assert named <= {panel.title for section in SECTIONS for panel in section.panels}


def test_log_and_answers_have_these_sentences() -> None:
    source = "\n".join(
        path.read_text() for room in ("edge", "middlewares") for path in (ROOT / room).rglob("*.py")
    )
    commands = ("penstock ", "kubectl ", "redis-cli ", "kill ", "GET ", "--only ")
    sentences = {
        span for span in SPANS if " " in span and "=" not in span and not span.startswith(commands)
    }
    assert len(sentences) >= 7
    for sentence in sentences:
        written = sentence.replace(" N ", " %d ").replace("…", "%s")
        assert written in source, sentence


def test_settings_exist() -> None:
    paths = {path for path, _ in walk_settings(Configuration)}
    named = {match[0] for span in SPANS if (match := re.match(r"[a-z]+(?:\[\])?\.[a-z_]+", span))}
    assert len(named) >= 8
    assert named <= paths


def test_kinds_of_problems_exist() -> None:
    named = {span for span in SPANS if re.fullmatch("(?:upstream|store)_[a-z]+", span)}
    assert named
    assert named <= set(KINDS)


def test_metrics_are_of_the_table() -> None:
    named = {span for span in SPANS if span.startswith("penstock_")}
    assert named
    assert named <= {row.exposed() for row in TABLE}


def _commands() -> Iterator[tuple[list[str], list[str]]]:
    """The words and the options of each command of ours."""
    for span in SPANS:
        if words := span.rpartition("penstock ")[2].split() if "penstock " in span else ():
            path = [word for word in words if word.islower() and not word.startswith("-")]
            yield path, [word for word in words if word.startswith("--")]


def test_commands_exist_with_their_options() -> None:
    found = list(_commands())
    assert found
    for path, options in found:
        command = get_command(app)
        for word in path:
            inner = getattr(command, "commands", None)
            if inner is None:
                break  # an argument
            command = inner[word]
        known = {name for parameter in command.params for name in parameter.opts}
        assert set(options) <= known, (path, options)
