"""A real Prometheus that scrapes gateways each second."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.monitoring_programs import program

from .program import DEADLINE, until

JOB = "penstock"


class Prometheus:
    """A Prometheus of this test's own, in `folder`. It is ready when this returns.

    ports: of gateways on this machine. rules: an alert rules document that it loads.
    """

    def __init__(
        self, folder: Path, ports: Sequence[int], rules: Mapping[str, Any] | None = None
    ) -> None:
        self._log = folder / "prometheus.log"
        targets = [f"127.0.0.1:{port}" for port in ports]
        labels = {"namespace": "llm"}
        scrape = {
            "job_name": JOB,
            "static_configs": [{"targets": targets, "labels": labels}],
        }
        document: dict[str, Any] = {
            "global": {
                "scrape_interval": "1s",
                "scrape_timeout": "1s",
                "evaluation_interval": "1s",
            },
            "scrape_configs": [scrape],
        }
        if rules is not None:
            (folder / "rules.json").write_text(json.dumps(rules))
            document["rule_files"] = ["rules.json"]
        (folder / "prometheus.json").write_text(json.dumps(document))
        options = [
            f"--config.file={folder / 'prometheus.json'}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--web.listen-address=127.0.0.1:0",
            "--enable-feature=exemplar-storage",
        ]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [program("prometheus"), *options], stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._client = httpx.Client(
                base_url=f"http://127.0.0.1:{until(self._port, what='its port')}",
                trust_env=False,
                timeout=DEADLINE,
            )
            until(self._ready, what="Prometheus to be ready")
        except BaseException:
            self.stop()
            raise

    def _port(self) -> int | None:
        assert self.process.poll() is None, self._log.read_text()
        for connection in psutil.Process(self.process.pid).net_connections("tcp4"):
            if connection.status == psutil.CONN_LISTEN:
                port: int = connection.laddr.port
                return port
        return None

    def _ready(self) -> bool:
        return self._client.get("/-/ready").status_code == 200

    def stop(self) -> None:
        """End it."""
        if hasattr(self, "_client"):
            self._client.close()
        self.process.terminate()
        try:
            self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its HTTP API."""
        answer = self._client.get(f"/api/v1/{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query now; of a number none."""
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found

    def all_up(self, count: int) -> bool:
        """Whether so many targets were scraped."""
        return len(self.query("up == 1")) == count

    def rules(self) -> list[dict[str, Any]]:
        """The rules that it has loaded, with their health and their alerts."""
        return [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        return {
            alert["labels"]["alertname"]
            for alert in self.ask("alerts")["alerts"]
            if alert["state"] == "firing"
        }
