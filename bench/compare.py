"""Measure this gateway beside others on one machine: `make bench`.

    python -m bench.compare [--quick] [--only penstock,nginx] [--rounds 3] [--rows bodies,gaps]
    python -m bench.compare --merge results/A.json results/B.json
    python bench/compare.py --attach PID URL [--header 'authorization: Bearer …'] [--model NAME]

The subject has one core, the load and the simulator that answers have the other. See README.md.
"""

import argparse
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

if not __package__:  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from . import machine, measure, processes, report
from .client import Target
from .environments import ENVIRONMENTS, Unavailable
from .figures import Result, Run, added
from .measure import LOAD_CORE, SUBJECT_CORE, Failed, Plan
from .merging import merged, tables
from .peers import PEERS
from .rounds import Prepared, round_of
from .subjects import (
    CHAT,
    ENVOY,
    LARGE_ROWS,
    LIMITING,
    NGINX,
    PASSING,
    PENSTOCK,
    ROWS,
    SMALL_ROWS,
    TRANSLATING,
    Ready,
    Subject,
    Workspace,
    earlier,
)

RESULTS = Path(__file__).resolve().parent / "results"
_SIMULATOR = "edge.upstreams.simulator"
_PROVIDER = "bench.provider"


def free_port() -> int:
    """A free TCP port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def upstream(module: str, folder: Path) -> Iterator[str]:
    """Run an upstream on the load core; its base URL."""
    port = free_port()
    log = folder / f"{module}.log"
    command = [sys.executable, "-m", module, "--port", str(port)]
    began = time.perf_counter()
    process = processes.start(command, core=LOAD_CORE, log=log)
    try:
        url = f"http://127.0.0.1:{port}"
        measure.answers(process, Target(url + CHAT, "sim-1"), log, began)
        yield url
    finally:
        processes.stop(process)


def simulator(folder: Path) -> AbstractContextManager[str]:
    """Run the simulator on the load core; its base URL."""
    return upstream(_SIMULATOR, folder)


def prepare(subject: Subject, url: str, work: Path, name: str = "") -> tuple[Ready, Path]:
    """Install and configure a subject, and the folder it lives in: of its name in `work`, or of
    another. Raises Unavailable."""
    folder = work / (name or subject.name)
    folder.mkdir()
    workspace = Workspace(folder, free_port(), free_port(), url)
    return subject.prepare(workspace), folder


def compare(
    subjects: Sequence[Subject], plan: Plan, rounds: int, work: Path, options: argparse.Namespace
) -> Run:
    """Measure all subjects in turns. What fails is named in the result, never left out."""
    found, dirty = machine.commit()
    run = Run(
        date=datetime.now(UTC).date().isoformat(),
        commit=found,
        dirty=dirty,
        machine=machine.describe(),
        plan=msgspec.to_builtins(plan),
        command=" ".join(["python -m bench.compare", *sys.argv[1:]]),
        starts=machine.starts(),
        direct=[],
        subjects={s.name: Result(s.what, s.product or s.name, s.way) for s in subjects},
    )
    rows: frozenset[str] = options.rows
    with simulator(work) as small, upstream(_PROVIDER, work) as large:
        prepared = [_prepared(subject, small, large, rows, run, work) for subject in subjects]
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            turn = number % len(subjects)
            ready = [*prepared[turn:], *prepared[:turn]]
            late = number >= options.peer_rounds
            one_round(run, ready, plan, rows, small, without_peers=late)
    return run


def _prepared(
    subject: Subject, small: str, large: str, rows: frozenset[str], run: Run, work: Path
) -> Prepared:
    say(f"preparing {subject.name}")
    prepared, result = Prepared(subject), run.subjects[subject.name]
    wanted = rows & subject.rows
    try:
        if wanted & SMALL_ROWS:
            prepared.small = prepare(subject, small, work)
        if wanted & LARGE_ROWS:
            prepared.large = prepare(subject, large, work, f"{subject.name}-large")
    except Unavailable as error:
        if subject is NGINX:
            raise
        result.failed.append(str(error))
    either = prepared.small or prepared.large
    if either:
        ready = either[0]
        result.version, result.note = ready.version, ready.note
        result.command, result.files = list(ready.command), dict(ready.files)
    return prepared


def one_round(
    run: Run,
    subjects: Sequence[Prepared],
    plan: Plan,
    rows: frozenset[str],
    upstream_url: str,
    *,
    without_peers: bool,
) -> None:
    """The direct way, then each subject; the figures go into `run`."""
    straight = Target(upstream_url + CHAT, "sim-1")
    direct: dict[str, Any] = {}
    if rows & SMALL_ROWS:
        direct = {**measure.plain(straight, plan, None), **measure.first_tokens(straight, plan)}
    run.direct.append(direct)
    for prepared in subjects:
        name = prepared.subject.name
        result = run.subjects[name]
        if prepared.subject.peer and without_peers:
            result.rounds.append({})
            continue
        figures, failures = round_of(prepared, plan, rows)
        if "first_ms" in figures:
            figures["added_ms"] = added(figures["first_ms"], direct["first_ms"])
        result.rounds.append(figures)
        for failure in failures:
            if failure not in result.failed:
                result.failed.append(failure)
            say(f"  {name}: {failure}")
        say(f"  {report.summary(name, figures)}")


def attach(pid: int, target: Target, plan: Plan, work: Path) -> None:
    """Print CPU per plain request and per event of nginx and of a process that is running."""
    with simulator(work) as url:
        ready, folder = prepare(NGINX, url, work)
        with measure.running(NGINX, ready, folder) as yardstick:
            base = _cpu("nginx", yardstick.target, plan, yardstick.pid)
    processes.pin(pid, SUBJECT_CORE)
    figures = _cpu(f"pid {pid}", target, plan, pid)
    ratios = [figure / yard for figure, yard in zip(figures, base, strict=True)]
    say("ratio: {:.2f} per request, {:.2f} paced, {:.2f} per event".format(*ratios))


def _cpu(name: str, target: Target, plan: Plan, pid: int) -> tuple[float, float, float]:
    figures = {**measure.plain(target, plan, pid), **measure.streamed(target, plan, pid)}
    say(
        f"{name:<12} {figures['saturated_us']:>6.1f} µs/request {figures['paced_us']:>7.1f} "
        f"µs/request at {figures['paced_rps']:.0f}/s {figures['event_us']:>6.1f} µs/event; "
        f"at most {figures['saturated_rps']:.0f}/s, its core {figures['saturated_busy']:.0%} busy"
    )
    return figures["saturated_us"], figures["paced_us"], figures["event_us"]


def say(line: str) -> None:
    """Print one line at once."""
    print(line, flush=True)


def save(run: Run, work: Path, results: Path, options: argparse.Namespace) -> None:
    """Write the run as JSON and Markdown, and the Markdown as latest.md too."""
    stem = f"{run.date}-{run.commit}"
    given = [*options.read, *(options.merge or ())]
    hide = {
        str(ENVIRONMENTS): "ENVS",
        str(work): "WORK",
        **({str(options.than.resolve()): "BEFORE"} if options.than else {}),
        **{f"{file.parent}/": "" for file in given if file.parent != Path()},
        str(Path(sys.executable).parent): ".venv/bin",
        str(Path(__file__).parent): "bench",
    }
    text = report.render(run, hide)
    data = msgspec.json.format(msgspec.json.encode(run), indent=1).decode()
    for path, shown in hide.items():
        data = data.replace(path, shown)
    results.mkdir(exist_ok=True)
    (results / f"{stem}.json").write_text(data + "\n")
    (results / f"{stem}.md").write_text(text)
    (results / "latest.md").write_text(text)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one round, short windows, not saved")
    parser.add_argument("--rounds", type=int, default=0, help="default 3, with --quick 1")
    parser.add_argument("--only", metavar="NAMES", help="of these subjects; not saved")
    parser.add_argument(
        "--rows", type=_rows, default=ROWS, help="groups: " + ",".join(sorted(ROWS))
    )
    parser.add_argument("--peer-rounds", type=int, default=1, help="rounds with peers, default 1")
    parser.add_argument("--than", type=Path, help="also measure this checkout's large bodies")
    parser.add_argument("--read", type=Path, nargs="+", default=[], help="tables of other benches")
    parser.add_argument("--merge", type=Path, nargs="+", help="write runs of a commit as one")
    parser.add_argument("--save", action="store_true", help="save also with --quick and --only")
    parser.add_argument("--attach", nargs=2, metavar=("PID", "URL"), help="measure this process")
    parser.add_argument("--header", action="append", default=[], metavar="'NAME: VALUE'")
    parser.add_argument("--model", default="sim-1", help="with --attach: the model to ask for")
    options = parser.parse_args(arguments)
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        parser.error("this needs Linux and two cores")
    processes.allow_many_files()
    plan = Plan.quick() if options.quick else Plan()
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        work = Path(folder)
        try:
            if options.attach:
                pid, url = options.attach
                pairs = (header.partition(":") for header in options.header)
                headers = {name.strip(): value.strip() for name, _, value in pairs}
                url = url if CHAT in url else url.rstrip("/") + CHAT
                attach(int(pid), Target(url, options.model, headers), plan, work)
                return
            if options.merge:
                run = merged(
                    [msgspec.json.decode(file.read_bytes(), type=Run) for file in options.merge]
                )
            else:
                tables(options.read, machine.commit()[0])  # an error is better known now
                subjects = chosen(options.only, options.than)
                rounds = options.rounds or (1 if options.quick else 3)
                run = compare(subjects, plan, rounds, work, options)
            run.tables += tables(options.read, run.commit)
        except (Failed, Unavailable, KeyError, ValueError, OSError) as error:
            parser.exit(1, f"error: {error}\n")
        print(report.render(run).partition("## Commands")[0])
        part = options.quick or options.only or options.rows != ROWS
        if options.save or options.merge or not part:
            save(run, work, RESULTS, options)
            say(f"saved as bench/results/{run.date}-{run.commit}.md")


def _rows(names: str) -> frozenset[str]:
    """Groups of figures by name. Raises ArgumentTypeError for an unknown one."""
    found = frozenset(name.strip() for name in names.split(","))
    if not found <= ROWS:
        unknown = ", ".join(sorted(found - ROWS))
        raise argparse.ArgumentTypeError(f"unknown {unknown}; one of {', '.join(sorted(ROWS))}")
    return found


def chosen(only: str | None, than: Path | None = None) -> list[Subject]:
    """The subjects to measure: some by name, or the usual ones and with PEERS=all the peers too.

    than: another checkout to measure beside them. Raises KeyError for an unknown name.
    """
    before = earlier(than.resolve()) if than else ()
    usual = (PENSTOCK, *TRANSLATING, *PASSING, *LIMITING, NGINX, ENVOY, *before)
    every = {subject.name: subject for subject in (*usual, *PEERS)}
    if only:
        return [every[name.strip()] for name in only.split(",")]
    return list(every.values()) if os.environ.get("PEERS") == "all" else list(usual)


if __name__ == "__main__":
    main()
