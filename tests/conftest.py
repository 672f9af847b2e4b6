"""What holds for the whole run."""

import asyncio
import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import certifi
import pytest
from hypothesis import HealthCheck, is_hypothesis_test, settings

from tests.middlewares.stores.postgres_server import Postgres

from .simulated import SimulatedLoop

# Tests start processes by the hundred: each would compile every module again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# How quickly an example runs, or is made, says something about the machine only.
settings.register_profile(
    "quick",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
    max_examples=30,
)
settings.register_profile(
    "full", settings.get_profile("quick"), derandomize=False, max_examples=300
)

_skipped: list[str] = []
_figures: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-skips", action="store_true", help="fail the run when a test or a module was skipped"
    )
    parser.addoption(
        "--full",
        action="store_true",
        help="proofs of limits and money at their full size, with figures: see `make proofs`",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Examples are the same in every run but for the proofs, which look for new ones."""
    settings.load_profile("full" if config.getoption("--full") else "quick")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests marked `simulated_time` have no sockets and no threads: only timers pass."""
    if item.get_closest_marker("simulated_time") is not None:
        return {"simulated": SimulatedLoop}
    return {"asyncio": asyncio.new_event_loop}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked `full` are further settings of a proof that every run has in another. At full
    size only they are run, those that ask for the fixture `full` or tell figures, and those that
    make up examples."""

    def marked(item: pytest.Item) -> bool:
        return item.get_closest_marker("full") is not None

    if config.getoption("--full"):
        left = [one for one in items if not marked(one) and not has_a_size(one)]
    else:
        left = [one for one in items if marked(one)]
    if left:
        config.hook.pytest_deselected(items=left)
        out = set(left)
        items[:] = [item for item in items if item not in out]
    items.sort(key=takes_no_process)


def takes_no_process(item: pytest.Item) -> bool:
    """Long files are run first, so that short ones keep all workers busy until the end. Which are
    long is seen by their folder: those whose tests are about processes."""
    folder = item.path.relative_to(Path(__file__).parent).parts[0]
    return folder not in ("browser", "clients", "e2e", "helm", "profiles")


def has_a_size(item: pytest.Item) -> bool:
    if not isinstance(item, pytest.Function):
        return False
    return is_hypothesis_test(item.obj) or not {"full", "figures"}.isdisjoint(item.fixturenames)


def pytest_collection_finish(session: pytest.Session) -> None:
    """What was made so far stays: the collector need not look at it each time."""
    gc.collect()
    gc.freeze()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "teardown":  # with all that was measured, in whichever process
        _figures.extend(str(line) for name, line in report.user_properties if name == "figure")
    if report.skipped and not hasattr(report, "wasxfail"):
        _skipped.append(report.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        _skipped.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _skipped and session.config.getoption("--no-skips"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if _figures:
        terminalreporter.write_sep("=", "figures")
        for line in _figures:
            terminalreporter.write_line(line)
    if _skipped and config.getoption("--no-skips"):
        terminalreporter.write_sep("=", "skipped, and --no-skips was given", red=True)
        for nodeid in _skipped:
            terminalreporter.write_line(nodeid)


@pytest.fixture(scope="session", autouse=True)
def one_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """HTTPX knows one authority of the web: to load them all takes 20 ms for each client that a
    test makes, and no test asks a server of the web."""
    end = "-----END CERTIFICATE-----\n"
    file = tmp_path_factory.mktemp("authority") / "one.pem"
    file.write_text(Path(certifi.where()).read_text().partition(end)[0] + end)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certifi, "where", lambda: str(file))
        yield


@pytest.fixture(autouse=True)
def _own_umask() -> Iterator[None]:
    """Each test has the umask of the run: the command line sets it for its process."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server of this run's own; it starts when first asked for."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # short: a socket's path has 107 bytes at most
    server = Postgres(folder)
    yield server
    server.close()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """Whether this run is at full size (`--full`)."""
    return bool(request.config.getoption("--full"))
