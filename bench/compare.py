"""Measure this gateway beside others on one machine: `make bench`.

    python -m bench.compare [--quick] [--only penstock,nginx] [--rounds 3]
    python bench/compare.py --attach PID URL [--header 'authorization: Bearer …'] [--model NAME]

The subject has one core, the load and the simulator that answers have the other. See README.md.
"""

import argparse
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

if not __package__:  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from . import machine, measure, processes, report
from .client import Target
from .environments import ENVIRONMENTS, Unavailable
from .figures import Result, Run, added
from .measure import LOAD_CORE, SUBJECT_CORE, Failed, Plan
from .peers import PEERS
from .subjects import CHAT, ENVOY, LIMITING, NGINX, PENSTOCK, TRANSLATING, Ready, Subject, Workspace

RESULTS = Path(__file__).resolve().parent / "results"


def free_port() -> int:
    """A free TCP port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def simulator(folder: Path) -> Iterator[str]:
    """Run the upstream on the load core; its base URL."""
    port = free_port()
    log = folder / "simulator.log"
    command = [sys.executable, "-m", "edge.upstreams.simulator", "--port", str(port)]
    began = time.perf_counter()
    process = processes.start(command, core=LOAD_CORE, log=log)
    try:
        url = f"http://127.0.0.1:{port}"
        measure.answers(process, Target(url + CHAT, "sim-1"), log, began)
        yield url
    finally:
        processes.stop(process)


def prepare(subject: Subject, upstream: str, work: Path) -> tuple[Ready, Path]:
    """Install and configure a subject, and the folder it lives in. Raises Unavailable."""
    folder = work / subject.name
    folder.mkdir()
    workspace = Workspace(folder, free_port(), free_port(), upstream)
    return subject.prepare(workspace), folder


def compare(subjects: Sequence[Subject], plan: Plan, rounds: int, work: Path) -> Run:
    """Measure all subjects in turns. What fails is named in the result, never left out."""
    found, dirty = machine.commit()
    run = Run(
        date=datetime.now(UTC).date().isoformat(),
        commit=found,
        dirty=dirty,
        machine=machine.describe(),
        plan=msgspec.to_builtins(plan),
        command=" ".join(["python -m bench.compare", *sys.argv[1:]]),
        import_ms=machine.import_ms("middlewares"),
        direct=[],
        subjects={subject.name: Result(subject.what) for subject in subjects},
    )
    with simulator(work) as upstream:
        prepared: dict[str, tuple[Ready, Path]] = {}
        for subject in subjects:
            say(f"preparing {subject.name}")
            result = run.subjects[subject.name]
            try:
                prepared[subject.name] = prepare(subject, upstream, work)
            except Unavailable as error:
                if subject is NGINX:
                    raise
                result.failed.append(str(error))
                continue
            ready, _ = prepared[subject.name]
            result.version, result.note = ready.version, ready.note
            result.command, result.files = list(ready.command), dict(ready.files)
        for number in range(rounds):
            say(f"round {number + 1} of {rounds}")
            turn = number % len(subjects)
            one_round(run, [*subjects[turn:], *subjects[:turn]], prepared, plan, upstream)
    return run


def one_round(
    run: Run,
    subjects: Sequence[Subject],
    prepared: Mapping[str, tuple[Ready, Path]],
    plan: Plan,
    upstream: str,
) -> None:
    """The direct way, then each subject; the figures go into `run`."""
    straight = Target(upstream + CHAT, "sim-1")
    direct = {**measure.plain(straight, plan, None), **measure.first_tokens(straight, plan)}
    run.direct.append(direct)
    for subject in subjects:
        result = run.subjects[subject.name]
        if subject.name not in prepared:
            result.rounds.append({})
            continue
        ready, folder = prepared[subject.name]
        try:
            figures, failures = measure.round_of(subject, ready, plan, folder)
        except Failed as error:
            figures, failures = {}, [str(error)]
        if "first_ms" in figures:
            figures["added_ms"] = added(figures["first_ms"], direct["first_ms"])
        result.rounds.append(figures)
        for failure in failures:
            if failure not in result.failed:
                result.failed.append(failure)
            say(f"  {subject.name}: {failure}")
        say(f"  {report.summary(subject.name, figures)}")


def attach(pid: int, target: Target, plan: Plan, work: Path) -> None:
    """Print CPU per plain request and per event of nginx and of a process that is running."""
    with simulator(work) as upstream:
        ready, folder = prepare(NGINX, upstream, work)
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


def save(run: Run, work: Path, results: Path) -> None:
    """Write the run as JSON and Markdown, and the Markdown as latest.md too."""
    stem = f"{run.date}-{run.commit}"
    environments = str(ENVIRONMENTS)
    hide = {
        environments: "ENVS",
        str(work): "WORK",
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
            subjects = chosen(options.only)
            run = compare(subjects, plan, options.rounds or (1 if options.quick else 3), work)
        except (Failed, Unavailable, KeyError) as error:
            parser.exit(1, f"error: {error}\n")
        print(report.render(run).partition("## Commands")[0])
        if options.save or not (options.quick or options.only):
            save(run, work, RESULTS)
            say(f"saved as bench/results/{run.date}-{run.commit}.md")


def chosen(only: str | None) -> list[Subject]:
    """The subjects to measure: some by name, or the usual ones and with PEERS=all the peers too.

    Raises KeyError for an unknown name.
    """
    usual = (PENSTOCK, *TRANSLATING, *LIMITING, NGINX, ENVOY)
    every = {subject.name: subject for subject in (*usual, *PEERS)}
    if only:
        return [every[name.strip()] for name in only.split(",")]
    return list(every.values()) if os.environ.get("PEERS") == "all" else list(usual)


if __name__ == "__main__":
    main()
