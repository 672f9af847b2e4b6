"""The README: its configuration serves its curl line, and its tables match code and results."""

import re
import subprocess
from pathlib import Path

import pytest

from edge.endpoints import ENDPOINTS
from tests.e2e.program import DEADLINE, Program, command, environment

from .pages import ROOT, block, curl, page, table

README = page("README.md")


def test_ten_lines_of_configuration_serve_the_curl_line(tmp_path: Path) -> None:
    """As written, but for the provider's address, the port, and where the commands come from."""
    simulator = Program("simulate", "--port", "0", folder=tmp_path)
    try:
        toml = block(README, "toml", "[[upstreams]]")
        assert len(toml.splitlines()) == 10
        folder = tmp_path / "gateway"
        folder.mkdir()
        written = toml.replace("https://api.anthropic.com", simulator.url)
        (folder / "penstock.toml").write_text(written)
        exports, check, create, serve = block(README, "sh", "penstock serve").splitlines()
        assert serve.split() == ["penstock", "serve"]
        env = environment(dict(pair.split("=") for pair in exports.removeprefix("export ").split()))
        assert env["PENSTOCK_CONFIG"] == "penstock.toml"
        said = ""
        for line in (check, create):
            _, *arguments = line.partition(" #")[0].split()
            done = subprocess.run(
                command(*arguments),
                cwd=folder,
                env=env,
                capture_output=True,
                text=True,
                timeout=DEADLINE,
            )
            assert done.returncode == 0, done.stderr
            said += done.stdout
        key = re.search(r"sk-penstock-live-\w+", said)
        assert key, said
        gateway = Program("serve", "--port", "0", folder=tmp_path, env=env, cwd=folder)
        try:
            script = block(README, "sh", "curl -N")
            (answer,) = curl(script, gateway.url, key[0])
        finally:
            gateway.stop()
    finally:
        simulator.stop()
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-model-used"] == "smart"
    assert answer.text.rstrip().endswith("data: [DONE]")


def test_media_lines_work_with_the_demo(tmp_path: Path) -> None:
    """Bash runs them as written, but for the port."""
    demo = Program("demo", "--port", "0", folder=tmp_path)
    try:
        key = re.search(r"sk-penstock-live-\w+", demo.stdout)
        assert key, demo.stdout
        script = block(README, "sh", "/v1/images/generations")
        done = subprocess.run(
            ["bash", "-ec", script.replace("http://127.0.0.1:8080", demo.url)],
            cwd=tmp_path,
            env=environment({"PENSTOCK_API_KEY": key[0], "NO_PROXY": "*"}),
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
    finally:
        demo.stop()
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stdout
    assert f"{demo.url}/v1/links/file-" in done.stdout
    assert (tmp_path / "talk.mp3").read_bytes()[:3] == b"ID3"
    assert "00:00:01" in done.stdout and "The gate is open." in done.stdout
    assert '"filename":"talk.mp3"' in done.stdout
    assert '"poll_url"' in done.stdout


def test_endpoints_table_has_every_path_of_the_router() -> None:
    shown = [
        path for row in table(README, "Endpoints") for path in re.findall(r"`([^`]+)`", row[0])
    ]
    assert sorted(shown) == sorted(row.path.replace("*", "{id}") for row in ENDPOINTS)


@pytest.mark.parametrize("row", table(README, "Benchmark"), ids=lambda row: row[0].strip("*"))
def test_benchmark_figures_are_those_of_the_results(row: list[str]) -> None:
    """Each figure of a row stands in one column of one of the linked results."""
    results = "".join(
        (ROOT / name).read_text() for name in re.findall(r"\((bench/results/[^)]+)\)", README)
    )
    columns = [
        [cell.strip().partition(" (")[0] for cell in column]
        for part in results.split("# Comparison of ")[1:]
        for column in zip(*(line.strip("|").split("|") for line in _first_table(part)), strict=True)
    ]
    plain, event, memory = row[1:]
    wanted = {plain, "-" if event == "not measured" else event}
    if memory != "not measured":
        size = int(memory.removesuffix(" KiB"))
        columns = [
            column for column in columns if any(round(each) == size for each in _numbers(column))
        ]
    assert any(wanted <= set(column) for column in columns), (
        f"{row[0]}: no column of the results has these figures"
    )


def _first_table(text: str) -> list[str]:
    lines = text.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("|"))
    end = next(n for n in range(start, len(lines)) if not lines[n].startswith("|"))
    return lines[start:end]


def _numbers(column: list[str]) -> list[float]:
    return [float(cell) for cell in column if re.fullmatch(r"\d+\.\d+", cell)]
