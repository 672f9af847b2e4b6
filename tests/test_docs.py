"""The tests read the documentation: everything has its row, and no row is stale.

A row that is missing or stale is printed whole, ready to be pasted into or cut from the table.
"""

import ast
import json
import re
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
from msgspec import NODEFAULT
from typer.main import get_command

from edge.chain import describe
from edge.cli import app
from edge.config.fields import walk_settings
from edge.config.model import Configuration
from edge.config.schema import text
from edge.config.units import plain
from edge.dialects import data_urls, json_schema
from edge.endpoints import ENDPOINTS
from edge.proxy import answer_memory, edit_source, intake, long_strings
from edge.proxy.attachments import named_files
from edge.requests import body_limits, image_request, json_body
from edge.routing.paths import OPEN
from edge.upstreams import provider
from middlewares import KINDS, body, uploads
from middlewares.metric_table import TABLE

ROOT = Path(__file__).parents[1]
REFERENCE = (ROOT / "docs/reference.md").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def rows(heading: str) -> list[str]:
    """The lines of the table below `## heading`, without its head."""
    _, found, rest = REFERENCE.partition(f"\n## {heading}\n")
    assert found, f"docs/reference.md has no section {heading!r}"
    section = rest.partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [line for line in lines if line.startswith("| `")]


def first_cells(heading: str) -> list[str]:
    return [match[1] for row in rows(heading) if (match := re.match(r"\| `([^`]+)`", row))]


def row(*cells: object) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def compare(heading: str, expected: Iterable[str]) -> None:
    written, wanted = rows(heading), list(expected)
    missing = "\n".join(line for line in wanted if line not in written)
    stale = "\n".join(line for line in written if line not in wanted)
    assert not missing, f"{heading}: missing from docs/reference.md:\n{missing}"
    assert not stale, f"{heading}: stale in docs/reference.md:\n{stale}"
    assert len(written) == len(set(written)), f"{heading}: a row is there twice"


# Errors


def error_rows() -> Iterator[str]:
    for name, kind in KINDS.items():
        code = {None: f"`{name}`", "": "null"}.get(kind.code, f"`{kind.code}`")
        status = str(kind.status)
        if kind.anthropic_status:
            status += f" ({kind.anthropic_status} to Anthropic clients)"
        message = kind.message.replace("{brand}", "*brand*").replace("{retry_after}", "*n*")
        yield row(
            f"`{name}`", status, f"`{kind.openai_type}`", code, f"`{kind.anthropic_type}`", message
        )


def test_errors() -> None:
    compare("Errors", error_rows())


# Bounds


def test_bounds() -> None:
    """Each bound that is a constant stands there with its name and value."""
    expand = import_module("edge.api.responses.expand")  # the package has a function of that name
    homes = (
        body,
        uploads,
        answer_memory,
        edit_source,
        image_request,
        long_strings,
        named_files,
        expand,
        intake,
        json_body,
        json_schema,
        data_urls,
        provider,
        body_limits,
    )
    names = ("MOST_", "LONGEST_", "FREE_", "LEAST_", "MAX_", "SMALL_")
    wanted = {
        (name, f"{value}")
        for home in homes
        for name, value in vars(home).items()
        if name.startswith(names) and isinstance(value, int)
    }
    found = re.findall(
        r"^\| `([A-Z_]+)` \| (\d+) \|", "\n".join(rows("Bounds of a request")), re.MULTILINE
    )
    assert set(found) == wanted
    assert len(found) == len(wanted)


# Settings


def setting_rows() -> Iterator[str]:
    for path, field in walk_settings(Configuration):
        default = "*required*" if field.required else "none"
        if field.default not in (None, NODEFAULT):
            default = f"`{json.dumps(plain(field.default), ensure_ascii=False)}`"
        change = "reload" if field.reloadable else "restart"
        yield row(f"`{path}`", default, change, " ".join(field.description.split()))


def test_settings() -> None:
    compare("Settings", setting_rows())


def test_pages_name_no_setting_that_was_renamed() -> None:
    written = {page.name: page.read_text() for page in PAGES}
    for path, field in walk_settings(Configuration):
        if field.renamed_from is not None:
            table = path.rpartition(".")[0]
            old = re.compile(rf"`{re.escape(table)}\.{field.renamed_from}\b")
            assert not [name for name, text in written.items() if old.search(text)], old.pattern


def test_every_setting_says_what_it_does() -> None:
    assert not [line for line in setting_rows() if line.endswith("|  |")]


def test_the_schema_for_editors_is_current() -> None:
    assert (ROOT / "config/schema.json").read_text() == text(), "run `make schema`"


# Metrics


def metric_rows() -> Iterator[str]:
    for metric in TABLE:
        labels = ", ".join(f"`{name}`" for name in metric.labels) or "none"
        yield row(f"`{metric.exposed()}`", metric.type, labels, metric.help)


def test_metrics() -> None:
    compare("Metrics", metric_rows())


def test_metrics_named_anywhere_exist() -> None:
    known = {metric.exposed() for metric in TABLE}
    for page in PAGES:
        for name in re.findall(r"\bpenstock_[a-z_]+[a-z]", page.read_text()):
            assert re.sub("_(bucket|sum|count)$", "", name) in known, f"{page.name}: {name}"


# Commands


def command_rows() -> Iterator[str]:
    def walk(command: Any, path: str) -> Iterator[str]:
        if inner := getattr(command, "commands", None):
            for name in inner:
                yield from walk(inner[name], f"{path} {name}")
        else:
            summary = (command.help or "").partition("\n\n")[0]
            yield row(f"`{path}`", " ".join(summary.split()))

    yield from walk(get_command(app), "penstock")


def test_commands() -> None:
    compare("Commands", command_rows())


def test_every_command_and_option_has_its_help() -> None:
    assert not [line for line in command_rows() if line.endswith("|  |")]


# Endpoints


def test_endpoints() -> None:
    expected = [
        row(
            f"`{one.path.replace('*', '{id}')}`",
            ", ".join(one.methods),
            "link" if one.open else "key",
            one.documented,
        )
        for one in ENDPOINTS
    ]
    written = rows("Endpoints")
    assert [line for line in written if "| key |" in line or "| link |" in line] == expected
    starts = [row(f"`{path}`", ", ".join(methods), "none")[:-1] for path, methods in OPEN.items()]
    opened = [line for line in written if "| none |" in line]
    assert len(opened) == len(starts)
    for start in starts:
        assert any(line.startswith(start) for line in opened), f"expected: {start} ..."


# Response headers

RESPONDING = ("middlewares", "edge")
OUTWARD = {
    "edge/cli/demo.py",
    "edge/dashboard/inner.py",
    "edge/dialects",
    "edge/management/alerts",
    "edge/media/fetch",
    "edge/media/jobs/vendors",
    "edge/proxy/attachments/vendor_files.py",
    "edge/proxy/corrections",
    "edge/proxy/form_conversion.py",
    "edge/proxy/translate.py",
    "edge/upstreams",
    "middlewares/stores",
}
"""What is written to upstreams, or to ourselves, and what makes bodies only."""

FRAMING = {"content-type", "content-length", "transfer-encoding"}
"""Of every HTTP response, not ours to explain."""


def sent_headers() -> set[str]:
    """Names in all `(b"name", value)` pairs and `headers={"name": ...}` dicts of what answers."""
    found = set()
    for package in RESPONDING:
        for path in (ROOT / package).rglob("*.py"):
            if any(path.is_relative_to(ROOT / outward) for outward in OUTWARD):
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                match node:
                    case ast.Tuple(elts=[ast.Constant(value=bytes() as name), _]):
                        found.add(name.decode())
                    case ast.keyword(arg="headers", value=ast.Dict(keys=keys)):
                        found |= {str(key.value) for key in keys if isinstance(key, ast.Constant)}
    return {name for name in found if re.fullmatch(r"[a-z]+(-[a-z]+)*", name)} - FRAMING


def test_response_headers() -> None:
    assert set(first_cells("Response headers")) == sent_headers()


# Pages


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        goal = (page.parent / file).resolve() if file else page
        assert goal.exists(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", goal.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}
            assert anchor in slugs, f"{page.name}: {target}"


PATHS = re.compile(r"(?:edge|middlewares|tests|docs|config|bench)/[\w./-]*")


@pytest.mark.parametrize("name", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_paths_named_by_a_page_exist(name: str) -> None:
    spans = re.findall(r"`([^`\n]+)`", (ROOT / name).read_text())
    paths = [span for span in spans if PATHS.fullmatch(span)]
    assert paths
    assert not [path for path in paths if not (ROOT / path).exists()]


NAMES = re.compile(r"`((?:edge|middlewares)(?:\.\w+)+)`")


def resolves(name: str) -> bool:
    """Whether `name` is a module, or an attribute of one."""
    try:
        resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def test_dotted_names_in_text_exist() -> None:
    """Backticked names such as `edge.proxy.translation`, in pages and in code."""
    code = [path for room in ("edge", "middlewares") for path in (ROOT / room).rglob("*.py")]
    pages = [page for page in PAGES if page.name != "CHANGELOG.md"]
    found = {name for path in (*pages, *code) for name in NAMES.findall(path.read_text())}
    assert found
    assert not sorted(name for name in found if not resolves(name))


SCRIPTS = re.compile(r"\blua/\w+\.lua\b")


def test_scripts_named_in_text_exist() -> None:
    code = [*(ROOT / "middlewares/stores").rglob("*.py"), ROOT / "docs/architecture.md"]
    found = {name for path in code for name in SCRIPTS.findall(path.read_text())}
    assert found
    assert not sorted(name for name in found if not (ROOT / "middlewares/stores" / name).exists())


def test_architecture_has_every_room() -> None:
    """What is directly in `edge`, and the folders of `middlewares`."""
    rooms = set()
    for package in ("edge", "middlewares"):
        for entry in (ROOT / package).iterdir():
            if entry.is_dir() and any(entry.glob("*.py")):
                rooms.add(f"{package}/{entry.name}/")
            elif package == "edge" and entry.suffix == ".py" and entry.stem != "__init__":
                rooms.add(f"{package}/{entry.name}")
    section = (ROOT / "docs/architecture.md").read_text().partition("\n## Rooms\n")[2]
    cells = re.findall(r"^\| (`.*?) \|", section.partition("\n## ")[0], re.MULTILINE)
    named = {path for cell in cells for path in re.findall(r"`([^`]+)`", cell)}
    assert rooms <= named, f"docs/architecture.md has no row for {sorted(rooms - named)}"


def test_architecture_has_every_layer_in_order() -> None:
    section = (ROOT / "docs/architecture.md").read_text().partition("\n## The chain\n")[2]
    named = re.findall(r"^\| (\w+) \|", section.partition("\n## ")[0], re.MULTILINE)
    assert named[1:] == [layer for layer, _ in describe()]


def test_the_make_targets_that_pages_name_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"`make ([a-z-]+)", page.read_text()))
        assert named <= targets, f"{page.name}: {named - targets}"
