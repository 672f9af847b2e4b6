"""Which module may import which, and what else the source shows of itself, read by `ast`."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache, cached_property
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import middlewares
from middlewares import KINDS, Exchange

ROOT = Path(__file__).parents[1]
FEATURES = {
    "auth",
    "budget",
    "downgrade",
    "errors",
    "fallback",
    "headers",
    "idempotency",
    "metrics",
    "rate_limit",
    "request_id",
    "tracing",
}
"""Rooms of `middlewares` that are features: a module, or a folder where one needs several."""


class Module:
    """A module of the source. Most are read by several tests: each is parsed once, when first
    asked for."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path

    @cached_property
    def text(self) -> str:
        return self.path.read_text()

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, str(self.path))

    def imports(self, typing: bool = True) -> list[str]:
        """Absolute names of everything imported anywhere in the module, at any depth.

        typing: also what only type checkers import.
        """
        return [name for name, checked_only in self._imports if typing or not checked_only]

    @cached_property
    def _imports(self) -> list[tuple[str, bool]]:
        """Each name, and whether only type checkers import it."""
        package = self.name.split(".")
        if self.path.name != "__init__.py":
            package = package[:-1]
        nodes = list(statements(self.tree))
        checked_only = {
            part
            for block in nodes
            if isinstance(block, ast.If)
            and isinstance(block.test, ast.Name)
            and block.test.id == "TYPE_CHECKING"
            for part in statements(block)
        }
        found = []
        for node in nodes:
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = package[: len(package) - node.level + 1] if node.level else []
                home = ".".join([*base, *([node.module] if node.module else [])])
                names = [home, *(f"{home}.{alias.name}" for alias in node.names)]
            found += [(name, node in checked_only) for name in names]
        return found


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """All statements below a node, at any depth."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            yield child
            yield from statements(child)


def modules(package: str) -> list[Module]:
    found = []
    for path in sorted((ROOT / package).rglob("*.py")):
        if "node_modules" in path.parts:
            continue
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found.append(Module(name.removesuffix(".__init__"), path))
    return found


LIBRARY = modules("middlewares")
APPLICATION = modules("edge")
SOURCE = LIBRARY + APPLICATION
TESTS = modules("tests")


@pytest.fixture(scope="module", autouse=True)
def forget_trees() -> Iterator[None]:
    """The collector would walk through millions of nodes in all tests that follow."""
    yield
    for module in SOURCE + TESTS:
        vars(module).pop("tree", None)


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


# Imports


def test_the_library_never_imports_the_application() -> None:
    wrong = {
        (module.name, name)
        for module in LIBRARY
        for name in module.imports()
        if inside(name, "edge") or inside(name, "tests")
    }
    assert not wrong


def test_a_feature_never_imports_another() -> None:
    """`middlewares/__init__.py` re-exports all of them; what they share is no feature."""
    homes = {module.name.split(".")[1] for module in LIBRARY if module.name != "middlewares"}
    assert homes >= FEATURES
    wrong = {
        (module.name, name)
        for module in LIBRARY
        if module.name != "middlewares"
        for name in module.imports()
        for feature in FEATURES
        if inside(name, f"middlewares.{feature}")
        and not inside(module.name, f"middlewares.{feature}")
    }
    assert not wrong


def test_middlewares_are_features() -> None:
    found = {
        module.name.split(".")[1]
        for module in LIBRARY
        for node in module.tree.body
        if isinstance(node, ast.ClassDef) and node.name.endswith("Middleware")
    }
    assert found <= FEATURES


def test_the_library_does_not_import_itself_by_its_front_door() -> None:
    """`from middlewares import X` inside it would load features by the way."""
    exported = {f"middlewares.{name}" for name in middlewares.__all__}
    wrong = {
        (module.name, name) for module in LIBRARY for name in module.imports() if name in exported
    }
    assert not wrong


def test_scripts_for_redis_stand_in_their_folder() -> None:
    assert not [module.name for module in SOURCE if "redis.call(" in module.text]


def test_one_module_knows_the_server() -> None:
    knows = {
        module.name
        for module in SOURCE
        for name in module.imports()
        if inside(name, "granian") or inside(name, "_granian")
    }
    assert knows == {"edge.server.granian_server"}


def test_one_module_knows_the_inside_of_prometheus_client() -> None:
    """Elsewhere what it exports, and no private attribute."""
    for module in SOURCE:
        names = [name for name in module.imports() if inside(name, "prometheus_client")]
        if not names or module.name == "middlewares.prometheus_internals":
            continue
        internal = ("prometheus_client.values", "prometheus_client.mmap_dict")
        assert not [name for name in names if name.startswith(internal)], module.name
        private = [
            ast.unparse(node)
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Attribute)
            and re.match("_[a-z]", node.attr)
            and ast.unparse(node.value) not in ("self", "cls")
        ]
        assert not private, module.name


def test_no_room_for_odds_and_ends() -> None:
    names = {part for module in SOURCE + TESTS for part in module.path.parts}
    assert not {
        name for name in names if re.match(r"_?(utils?|helpers?|common|misc)(\.py)?$", name)
    }


def test_every_export_has_a_home() -> None:
    assert dir(middlewares) == sorted(middlewares.__all__)
    assert len(set(middlewares.__all__)) == len(middlewares.__all__)
    for name in middlewares.__all__:
        value = getattr(middlewares, name)
        home = getattr(value, "__module__", "middlewares.problem")
        assert inside(home, "middlewares"), f"{name} comes from {home}"
    with pytest.raises(AttributeError, match="no attribute 'NoSuchMiddleware'"):
        getattr(middlewares, "NoSuchMiddleware")  # noqa: B009


def test_importing_the_library_loads_next_to_nothing() -> None:
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import middlewares"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    loaded = {
        line.rpartition("|")[2].strip()
        for line in ran.stderr.splitlines()
        if line.startswith("import time:")
    }
    assert "middlewares" in loaded
    foreign = (
        "edge",
        "starlette",
        "httpx",
        "granian",
        "msgspec",
        "prometheus_client",
        "sqlalchemy",
    )
    assert not {name for name in loaded if name.partition(".")[0] in foreign}
    assert not {name for name in loaded if name.startswith("middlewares.")}


# Rooms and floors


class Import(NamedTuple):
    importer: str
    imported: str
    name: str


def room_of(module: str) -> str:
    """The folder of `edge` or of `middlewares` that a module stands in, or the module itself."""
    package, *rest = module.split(".")
    if package == "edge":
        return ".".join((package, *rest[:1]))
    return ".".join((package, *rest[: 2 if rest[:1] == ["stores"] else 1]))


@cache
def imports_of(package: str) -> list[Import]:
    """Every import at run time of a module of `package` by another of it, at any depth; without
    those of a folder by what stands in it."""
    parts = {"edge": APPLICATION, "middlewares": LIBRARY}[package]
    known = {module.name for module in parts}
    found = []
    for module in parts:
        for name in module.imports(typing=False):
            home = name if name in known else name.rpartition(".")[0]
            if home in known and not inside(module.name, home):
                found.append(Import(module.name, home, name))
    return found


def floors(rooms: dict[str, set[str]]) -> dict[str, int]:
    """Each room's floor: one above the highest of those it imports. Raises CycleError."""
    levels: dict[str, int] = {}
    for room in TopologicalSorter(rooms).static_order():
        levels[room] = 1 + max((levels[below] for below in rooms.get(room, ())), default=0)
    return levels


@pytest.mark.parametrize("package", ["edge", "middlewares"])
def test_rooms_stand_on_ten_floors_without_a_cycle(package: str) -> None:
    rooms: dict[str, set[str]] = {}
    for importer, imported, _ in imports_of(package):
        if package == "middlewares" and importer in ("middlewares", "middlewares.stores"):
            continue  # front doors, which only hand names on
        below, room = room_of(imported), room_of(importer)
        if below != room:
            rooms.setdefault(room, set()).add(below)
    assert max(floors(rooms).values()) <= 10


@pytest.mark.parametrize("package", ["edge", "middlewares"])
def test_modules_import_each_other_without_a_cycle(package: str) -> None:
    graph: dict[str, set[str]] = {}
    for importer, imported, _ in imports_of(package):
        graph.setdefault(importer, set()).add(imported)
    assert floors(graph)


def test_edge_has_at_most_twenty_two_rooms_and_modules() -> None:
    entries = {
        path.name
        for path in (ROOT / "edge").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    } - {"__init__.py"}
    assert len(entries) <= 22


def test_names_with_an_underscore_stay_in_their_folder() -> None:
    wrong = {
        (importer, name)
        for package in ("edge", "middlewares")
        for importer, imported, name in imports_of(package)
        if any(part.startswith("_") for part in name.split("."))
        and not inside(importer, imported.rpartition(".")[0])
    }
    wrong |= {
        (module.name, name)
        for module in APPLICATION
        for name in module.imports()
        if inside(name, "middlewares") and any(part.startswith("_") for part in name.split("."))
    }
    assert not wrong


# The five lines of a middleware's docstring, against its code


class Middleware(NamedTuple):
    module: Module
    name: str

    @property
    def node(self) -> ast.ClassDef:
        (found,) = (
            node
            for node in self.module.tree.body
            if isinstance(node, ast.ClassDef) and node.name == self.name
        )
        return found

    def contract(self) -> dict[str, str]:
        """Label to text, in the order written; continuation lines are joined."""
        lines: dict[str, str] = {}
        label = ""
        for line in (ast.get_docstring(self.node) or "").splitlines():
            match = re.match(r"([A-Z][a-z]+):\s+(.*)", line)
            if match:
                label = match[1]
                lines[label] = match[2]
            elif label and line.startswith(" "):
                lines[label] += " " + line.strip()
            else:
                label = ""
        return lines


MIDDLEWARES = [
    pytest.param(Middleware(module, name), id=f"{module.name}.{name}")
    for module in SOURCE
    for name in re.findall(r"^class (\w*Middleware)\b", module.text, re.MULTILINE)
]


def listed(text: str, nothing: str) -> set[str]:
    return set() if text == nothing else {name.strip() for name in text.split(",")}


def test_the_exported_middlewares_are_among_them() -> None:
    found = {str(param.id).rpartition(".")[2] for param in MIDDLEWARES}
    assert {name for name in middlewares.__all__ if name.endswith("Middleware")} <= found


@pytest.mark.parametrize("middleware", MIDDLEWARES)
def test_the_docstring_ends_with_its_five_lines(middleware: Middleware) -> None:
    contract = middleware.contract()
    assert list(contract) == ["Reads", "Writes", "Rejects", "Order", "Cost"]
    assert all(contract.values())


@pytest.mark.parametrize("middleware", MIDDLEWARES)
def test_writes_names_the_fields_that_are_written(middleware: Middleware) -> None:
    fields = {field for field, _ in writes(middleware.module)}
    assert listed(middleware.contract()["Writes"], "nothing") == fields


@pytest.mark.parametrize("middleware", MIDDLEWARES)
def test_reads_names_fields_of_the_exchange(middleware: Middleware) -> None:
    reads = middleware.contract()["Reads"]
    if reads not in ("nothing", "every field", "whatever `stamp` reads"):
        assert listed(reads, "") <= set(Exchange.__struct_fields__)


@pytest.mark.parametrize("middleware", MIDDLEWARES)
def test_rejects_names_the_problems_that_are_made(middleware: Middleware) -> None:
    """Made in its module, or by what it imports of those that read and count bodies."""
    made = problems(middleware.module.tree)
    imported = set(middleware.module.imports())
    homes = {module.name: module for module in SOURCE}
    for name, module in (
        ("read_body", "middlewares.body"),
        ("Upload", "middlewares.uploads"),
        ("check_forwarded_headers", "edge.upstreams.provider"),
        ("read_json_headers", "edge.requests.json_body"),
        ("Claim", "middlewares.rate_limit.claim"),
    ):
        if f"{module}.{name}" in imported:
            made |= problems(homes[module].tree)
    assert listed(middleware.contract()["Rejects"], "never") == made


def problems(tree: ast.AST) -> set[str]:
    """First arguments of every `Problem(...)`, which have to be literal."""
    kinds = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Problem":
            first = node.args[0]
            assert isinstance(first, ast.Constant), f"line {node.lineno}: a kind is a literal"
            kinds.add(str(first.value))
    return kinds


def test_every_problem_made_anywhere_is_in_the_table() -> None:
    """Kinds are often chosen on rare paths, where a wrong name would only fail in production."""
    for module in SOURCE:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Problem":
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    assert first.value in KINDS, f"{module.name}:{node.lineno}"


# One writer per field of the exchange

CHANGING = {"append", "extend", "insert", "pop", "clear", "update", "setdefault", "remove", "add"}

WRITERS = {
    "Exchange.of": {"middlewares.exchange"},
    "errors": {"middlewares.errors"},
    "request_id": {"middlewares.request_id"},
    "tracing": {"middlewares.tracing.middleware"},
    "the application's router": {"edge.routing.router"},
    "auth": {"middlewares.auth"},
    "dashboard": {"edge.dashboard.inner"},
    "read_body": {"middlewares.body"},
    "intake": {"edge.proxy.intake"},
    "forward": {
        "edge.proxy.attachments.attachments",
        "edge.proxy.upstream_request",
        "edge.proxy.decoded_request",
        "edge.proxy.client_wait",
        "edge.proxy.forwarder",
        "edge.proxy.stream",
        "edge.proxy.attempt",
        "edge.proxy.bytes_answer",
        "edge.proxy.media_attempt",
    },
    "subrequests": {"edge.proxy.subrequests"},
    "responses": {"edge.api.responses.app"},
    "counting": {"edge.api.count_tokens"},
    "rate_limit": {"middlewares.rate_limit.middleware"},
    "budget": {"middlewares.budget"},
    "downgrade": {"middlewares.downgrade"},
    "fallback": {"middlewares.fallback.middleware"},
    "idempotency": {"middlewares.idempotency.middleware"},
    "metrics": {"middlewares.metrics.middleware"},
    "Problem": {"middlewares.problem"},
    "any layer": {
        "edge.api.jobs.app",
        "edge.api.account",
        "edge.api.files.app",
        "edge.media.content",
        "edge.api.files.uploads",
        "edge.management.http.app",
        "edge.api.count_tokens",
        "edge.proxy.intake",
        "edge.api.models",
        "edge.api.health",
        "edge.dashboard.app",
        "edge.proxy.forwarder",
        "edge.proxy.stream",
        "edge.proxy.attempt",
        "edge.proxy.bytes_answer",
        "edge.proxy.media_attempt",
        "edge.api.responses.app",
        "middlewares.downgrade",
        "middlewares.fallback.middleware",
        "middlewares.idempotency.middleware",
        "middlewares.problem",
        "middlewares.rate_limit.middleware",
    },
}
"""The writers that the comments in exchange.py name, and the modules they are."""


EXCHANGE = frozenset(("Exchange", "exchange_of"))
"""Names by which a module comes by the exchange of a request."""


def writes(module: Module) -> Iterator[tuple[str, int]]:
    """(field, line) of every assignment to a field of an exchange, or change of its value."""
    if EXCHANGE.isdisjoint(name.rpartition(".")[2] for name in (module.name, *module.imports())):
        return  # what is called `exchange` there is another thing
    for node in ast.walk(module.tree):
        for target in changed(node):
            for part in target.elts if isinstance(target, ast.Tuple) else [target]:
                if isinstance(part, ast.Subscript):
                    part = part.value
                if isinstance(part, ast.Attribute) and is_exchange(part.value):
                    yield part.attr, part.lineno


def changed(node: ast.AST) -> list[ast.expr]:
    """What a statement assigns to, or what a call of `append` and its like changes in place."""
    match node:
        case ast.Assign(targets=targets):
            return targets
        case ast.AugAssign(target=target) | ast.AnnAssign(target=target):
            return [target]
        case ast.Call(func=ast.Attribute(value=value, attr=name)) if name in CHANGING:
            return [value]
    return []


def is_exchange(node: ast.expr) -> bool:
    """A variable, attribute or parameter called `exchange`, or `Exchange.of(...)` itself."""
    if isinstance(node, ast.Call):
        return ast.unparse(node.func) in ("Exchange.of", "exchange_of")
    return ast.unparse(node).rpartition(".")[2].lstrip("_") == "exchange"


def declared_writers() -> dict[str, set[str]]:
    """Field to modules, from the comment at the end of each field's line."""
    source = (ROOT / "middlewares/exchange.py").read_text()
    body = source.partition("class Exchange(")[2].partition("@classmethod")[0]
    writers = {}
    for field, comment in re.findall(r"^    (\w+): .*  # (.+)$", body, re.MULTILINE):
        names = [part.strip() for part in re.split(r"[:,;]", comment)]
        known = [WRITERS[name] for name in names if name in WRITERS]
        assert known, f"{field}: its comment {comment!r} names no writer"
        writers[field] = set().union(*known)
    return writers


def test_every_field_of_the_exchange_names_its_writer() -> None:
    assert set(declared_writers()) == set(Exchange.__struct_fields__)


def test_no_other_module_writes_a_field_of_the_exchange() -> None:
    declared = declared_writers()
    wrong = {
        f"{module.name}:{line} writes {field}; its writer is {' or '.join(sorted(declared[field]))}"
        for module in SOURCE
        for field, line in writes(module)
        if module.name not in declared[field]
    }
    assert not wrong


def test_every_field_of_the_exchange_is_written() -> None:
    """A field without a writer is a field to delete."""
    written = {field for module in SOURCE for field, _ in writes(module)}
    assert set(Exchange.__struct_fields__) - written == {"started"}


# Tests


def test_a_module_of_tests_is_imported_by_none() -> None:
    """What tests share is in plain modules: a test can then be moved, renamed or dropped alone."""
    wrong = {
        (module.name, name)
        for module in TESTS
        for name in module.imports()
        if name.startswith("tests.") and ".test_" in name
    }
    assert not wrong


def test_tests_mirror_the_tree() -> None:
    """A test stands in the folder of what it tests, so that both are found by one name.

    Where modules of its name exist, one of them is in that folder or below it.
    """
    namesakes: dict[str, set[str]] = {}
    for module in SOURCE:
        home, _, name = module.name.rpartition(".")
        namesakes.setdefault(name, set()).add(home)
        if module.path.name == "__init__.py":
            namesakes[name].add(module.name)
    packages = {module.name for module in SOURCE if module.path.name == "__init__.py"}
    wrong = []
    for top in ("edge", "middlewares"):
        for path in sorted((ROOT / "tests" / top).rglob("*.py")):
            folder = ".".join(path.relative_to(ROOT / "tests").parts[:-1])
            name = path.stem.removeprefix("test_")
            homes = namesakes.get(name, set()) if name != path.stem else set()
            if folder not in packages:
                wrong.append(f"{path}: {folder} is no package of the source")
            elif not (path.parent / "__init__.py").exists():
                wrong.append(f"{path.parent} has no __init__.py")
            elif homes and not any(inside(home, folder) for home in homes):
                wrong.append(f"{path}: its namesake is in {' or '.join(sorted(homes))}")
    assert not wrong


PRIVATE = {
    # Work that is counted: what comes out is the same, however often something is done.
    "edge/dialects/test_hostile_deltas.py": {"_Brackets", "_decode", "_fits"},
    "edge/dialects/test_text_template.py": {"_ordinary"},
    "edge/proxy/test_watchdog.py": {"_tick"},
    "edge/upstreams/http1/test_request_and_response.py": {"_chunks"},
    # Memory that must not grow: what is forgotten cannot be asked for.
    "middlewares/rate_limit/test_team_limits.py": {"_lines", "_timetable"},
    "middlewares/rate_limit/test_throttle_queue.py": {"_timer", "_timetable"},
    "middlewares/stores/keys/test_directory.py": {"_flights", "_grants", "_known", "_unknown"},
    "middlewares/test_dns.py": {"_answers"},
    # The moment between two steps, which is over before a caller sees it; time that is not waited.
    "edge/test_generation.py": {"_services"},
    "edge/upstreams/claude_cli/test_upstream.py": {
        *("_SPARE_TTL", "_expire", "_expiry", "_last_take", "_spare"),
        *("_max_processes", "_wake_next"),
    },
    "edge/upstreams/http1/talk.py": {"_connections", "_on_timer"},
    "edge/upstreams/http1/test_connection_reuse.py": {"_idle"},
    "edge/upstreams/http1/test_limits.py": {"_writable"},
    "middlewares/stores/health/test_breakers.py": {"_targets"},
    # A process that dies, a disk that is full.
    "middlewares/stores/counters/test_base.py": {"_accounts", "_holds", "_leases", "_places"},
    "middlewares/stores/counters/test_redis_workers.py": {"_listen", "_tasks"},
    "middlewares/stores/ledger/full_disk.py": {"_map", "_room"},
    # Internals of others: their tests are there to say when those change.
    "edge/server/test_granian_server.py": {
        *("_args", "_granian", "_init_shared_socket", "_parent", "_signals"),
        *("_spawn_asgi_lifespan_worker", "_spawn_workers"),
    },
    "middlewares/test_prometheus_internals.py": {"_accumulate_metrics"},
    "middlewares/test_shared.py": {"_is_protocol"},
}
"""What tests use of the inside of others, since nothing else shows what they test. It only shrinks:
a new row needs a reason that no public name could serve."""


def private_names(tree: ast.AST) -> Iterator[str]:
    """Names with an underscore that a module takes from others, also by text, as mocks do."""
    for node in ast.walk(tree):
        names: list[str] = []
        match node:
            case (
                ast.Attribute(value=ast.Name(id="self" | "cls"))
                | ast.Attribute(value=ast.Name(id="os"), attr="_exit")
            ):
                pass
            case ast.Attribute(attr=attr):
                names = [attr]
            case ast.ImportFrom(module=module, names=aliases):
                names = [*(module or "").split("."), *(alias.name for alias in aliases)]
            case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called), args=given) if (
                called in ("getattr", "setattr", "delattr", "patch")
            ):
                texts = [each.value for each in given if isinstance(each, ast.Constant)]
                names = [text.rpartition(".")[2] for text in texts if isinstance(text, str)]
        yield from (name for name in names if re.match(r"_[^_]", name))


def test_tests_use_what_is_public() -> None:
    used = {
        str(module.path.relative_to(ROOT / "tests")): names
        for module in TESTS
        if (names := set(private_names(module.tree)))
    }
    assert used == PRIVATE
