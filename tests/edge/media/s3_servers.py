"""Real S3 services for the tests: SeaweedFS, which checks keys, and moto's server."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.waiting import DEADLINE

ACCESS_KEY = "access-canary"
SECRET_KEY = "secret-canary-58d1"
BUCKET = "penstock-test"


class S3Server:
    """A process that speaks S3, with one bucket. `options` are those of `Objects`."""

    def __init__(self, command: list[str], folder: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / "s3.log"
        with self.log.open("wb") as file:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, "AWS_EC2_METADATA_DISABLED": "true"},
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self.client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(retries={"max_attempts": 0}, connect_timeout=5, read_timeout=30),
        )
        self._make_bucket()

    @property
    def options(self) -> Mapping[str, str]:
        """The options of a client."""
        return {
            "endpoint": self.url,
            "region": "us-east-1",
            "access_key_id": ACCESS_KEY,
            "secret_access_key": SECRET_KEY,
        }

    def _make_bucket(self) -> None:
        end = time.monotonic() + DEADLINE
        while True:
            assert self._process.poll() is None, self.log.read_text()[-2000:]
            try:
                self.client.create_bucket(Bucket=BUCKET)
                self.client.put_object(Bucket=BUCKET, Key="ready", Body=b"x")
                self.client.delete_object(Bucket=BUCKET, Key="ready")
                return
            except (BotoCoreError, ClientError) as error:
                if "BucketAlready" in str(error):
                    pass
                assert time.monotonic() < end, f"{error}\n{self.log.read_text()[-2000:]}"
                time.sleep(0.2)

    def keys(self, prefix: str) -> set[str]:
        """The keys below a prefix."""
        found: set[str] = set()
        pages = self.client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=BUCKET, Prefix=prefix):
            found |= {one["Key"] for one in page.get("Contents", ())}
        return found

    def freeze(self) -> None:
        """Answer nothing, and keep all connections open."""
        os.killpg(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.killpg(self._process.pid, signal.SIGCONT)

    def stop(self) -> None:
        self.client.close()
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def free_port() -> int:
    """A port that was free a moment ago, and whose port of gRPC is a valid one."""
    while True:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port: int = listener.getsockname()[1]
        if port < 50_000:
            return port


def seaweed(folder: Path) -> S3Server:
    """A SeaweedFS of its own."""
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}))
    port = free_port()
    options = {
        "dir": folder,
        "ip": "127.0.0.1",
        "master.port": free_port(),
        "master.port.grpc": free_port(),
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": 64,
        "volume.port": free_port(),
        "volume.port.grpc": free_port(),
        "volume.max": 20,
        "filer.port": free_port(),
        "filer.port.grpc": free_port(),
        "s3.port": port,
        "s3.port.grpc": free_port(),
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.config": config,
    }
    words = [f"-{name}={value}" for name, value in options.items()]
    return S3Server([_script("weed"), "server", "-s3", *words], folder, port)


def moto(folder: Path) -> S3Server:
    """A server of moto, which takes any key."""
    port = free_port()
    return S3Server([_script("moto_server"), "-H", "127.0.0.1", "-p", str(port)], folder, port)


def _script(name: str) -> str:
    return str(Path(sys.executable).with_name(name))
