"""Reload in the parent: a changed file is published whole, or refused with every fault."""

import logging
import os
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from edge.config.load import SettingsError, load, parse
from edge.config.snapshot import ConfigSnapshot, SharedConfig, digest_of
from edge.runtime.status import Reloaded
from edge.server.reload import Reloader, Source, not_reloadable

GOOD = """
[[upstreams]]
name = "sim"
dialect = "simulator"
[[models]]
id = "{model}"
targets = ["sim/m"]
"""


class Parent:
    """A reloader over a file, and its results. The clock is fixed."""

    def __init__(self, file: Path, **server: Any) -> None:
        self.file = file
        self.shared_config = SharedConfig()
        self.results: list[Reloaded] = []
        source = Source(file, server)
        settings = source.load()
        self.shared_config.publish(ConfigSnapshot.of(settings, digest=source.loaded.digest))
        self.reloader = Reloader(
            source,
            self.shared_config,
            running=settings,
            on_result=self.results.append,
            clock=lambda: 5.0,
        )

    def write(self, text: str) -> None:
        self.file.write_text(text)

    def reload(self) -> Reloaded:
        return self.reloader.reload()

    @property
    def model(self) -> str:
        """The model that workers should serve."""
        return self.shared_config.read().settings.models[0].id


@pytest.fixture
def parent(tmp_path: Path) -> Parent:
    file = tmp_path / "penstock.toml"
    file.write_text(GOOD.format(model="one"))
    return Parent(file)


def test_reload_valid_file_is_published(parent: Parent) -> None:
    parent.write(GOOD.format(model="two"))
    done = parent.reload()
    assert done == Reloaded("applied", digest_of(parent.file.read_bytes()), 5.0)
    assert (parent.model, parent.shared_config.serial) == ("two", 2)
    assert parent.shared_config.read().digest == done.digest
    assert parent.results == [done]


def test_reload_without_memory_for_a_thread_is_applied(
    parent: Parent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that cannot start keeps a lock of `concurrent.futures`, and a fork waits for it."""

    def start(_thread: Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Thread, "start", start)
    secure = '[[upstreams]]\nname = "far"\ndialect = "openai"\nbase_url = "https://far.test/v1"\n'
    parent.write(GOOD.format(model="two") + secure)
    assert parent.reload().result == "applied"


def test_reload_file_with_faults_is_refused_with_the_sentences_of_check(
    parent: Parent, caplog: pytest.LogCaptureFixture
) -> None:
    parent.write(GOOD.format(model="two") + 'color = 1\nplans = ["x"]\n')
    with pytest.raises(SettingsError) as checked:
        load(parent.file)
    done = parent.reload()
    assert (done.result, done.valid, done.reasons) == ("refused", False, checked.value.faults)
    assert (parent.model, parent.shared_config.serial) == ("one", 1)
    (line,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert all(reason in line.getMessage() for reason in done.reasons)


@pytest.mark.parametrize("text", ["", "a = [", "\x00", 'x = """', "[[" * 2000])
def test_reload_any_text_leaves_the_parent_running(parent: Parent, text: str) -> None:
    """An empty file is refused too: it may be one that could not be written to its end."""
    parent.write(text)
    done = parent.reload()
    assert done.result == "refused"
    assert parent.model == "one"
    parent.reloader.due()


ONE = '{"upstreams": [{"name": "up", "dialect": "simulator"}]}'


@pytest.mark.parametrize("spoil", ["nested", "binary", "gone"])
def test_reload_any_file_leaves_the_parent_running(tmp_path: Path, spoil: str) -> None:
    file = tmp_path / "penstock.json"
    file.write_text(ONE)
    parent = Parent(file)
    if spoil == "gone":
        file.unlink()
    elif spoil == "binary":
        file.write_bytes(bytes(range(256)))
    else:
        file.write_text("[" * 100_000)
    assert not parent.reloader.due()
    assert parent.reloader.due()
    assert parent.reload().result == "refused"
    file.write_text(ONE)
    assert parent.reload().result == "unchanged"


def test_reload_command_line_replaces_the_file(tmp_path: Path) -> None:
    file = tmp_path / "penstock.toml"
    file.write_text("[server]\nport = 1\n" + GOOD.format(model="one"))
    parent = Parent(file, port=2)
    file.write_text("[server]\nport = 3\n" + GOOD.format(model="two"))
    assert parent.reload().result == "applied"
    assert parent.shared_config.read().settings.server.port == 2


def test_due_when_a_change_is_complete(parent: Parent) -> None:
    due = parent.reloader.due
    assert [due(), due()] == [False, False]
    parent.write(GOOD.format(model="t"))
    assert not due()
    parent.write(GOOD.format(model="two"))
    assert not due()
    assert due()
    assert parent.reload().result == "applied"
    assert not due()


def test_due_refused_file_only_after_a_change(parent: Parent) -> None:
    parent.write("a = [")
    assert [parent.reloader.due(), parent.reloader.due()] == [False, True]
    assert parent.reload().result == "refused"
    assert [parent.reloader.due(), parent.reloader.due()] == [False, False]
    parent.write(GOOD.format(model="one"))
    assert [parent.reloader.due(), parent.reloader.due()] == [False, True]
    assert parent.reload() == Reloaded("unchanged", digest_of(parent.file.read_bytes()), 5.0)
    assert parent.shared_config.serial == 1


def test_due_when_a_referred_file_changes(tmp_path: Path) -> None:
    file, secret = tmp_path / "penstock.toml", tmp_path / "key"
    secret.write_text("first")
    named = GOOD.replace('"simulator"', '"openai"\nbase_url = "http://up/v1"\napi_key = "file:key"')
    file.write_text(named.format(model="one"))
    parent = Parent(file)
    secret.write_text("second")
    assert [parent.reloader.due(), parent.reloader.due()] == [False, True]
    done = parent.reload()
    assert (done.result, done.digest) == ("applied", digest_of(file.read_bytes()))
    key = parent.shared_config.read().settings.upstreams[0].api_key
    assert key is not None
    assert key.reveal() == "second"
    secret.unlink()
    assert parent.reload().reasons == (
        "upstreams[0].api_key: file key cannot be read: No such file or directory",
    )


def test_due_pipe_is_read_once(tmp_path: Path) -> None:
    """As in `--config <(make-it)`."""
    text = GOOD.format(model="one").encode()
    there, here = os.pipe()
    os.write(here, text)
    os.close(here)
    parent = Parent(Path(f"/dev/fd/{there}"))
    assert parent.model == "one"
    assert [parent.reloader.due(), parent.reloader.due()] == [False, False]
    assert parent.reload() == Reloaded("unchanged", "", 5.0)
    os.close(there)


@pytest.mark.parametrize("what", ["pipe", "device", "sparse"])
@pytest.mark.parametrize("which", ["penstock.toml", "key"])
def test_reload_endless_file_is_not_read(tmp_path: Path, which: str, what: str) -> None:
    """The parent would wait forever, or take all memory."""
    (tmp_path / "key").write_text("k")
    file = tmp_path / "penstock.toml"
    named = GOOD.replace('"simulator"', '"openai"\nbase_url = "http://up/v1"\napi_key = "file:key"')
    file.write_text(named.format(model="one"))
    parent = Parent(file)
    place = tmp_path / which
    place.unlink()
    if what == "pipe":
        os.mkfifo(place)
    elif what == "device":
        place.symlink_to("/dev/zero")
    else:
        with place.open("wb") as sparse:
            sparse.truncate(1 << 40)
    assert [parent.reloader.due(), parent.reloader.due()] == [False, True]
    assert parent.reload().reasons == (f"{place}: is not a file, or too large",)


def test_reload_invalid_certificate_is_refused(tmp_path: Path) -> None:
    file, ca = tmp_path / "penstock.toml", tmp_path / "ca.pem"
    ca.write_text("no certificate")
    file.write_text(GOOD.format(model="one"))
    parent = Parent(file)
    secret = 'proxy = "http://u:canary@p:1"\ntransport = "httpx"\n'
    named = f'"openai"\nbase_url = "https://up/v1"\nca = "ca.pem"\n{secret}'
    file.write_text(GOOD.replace('"simulator"', named).format(model="two"))
    (reason,) = parent.reload().reasons
    assert reason.startswith("upstreams[0]: cannot be built: ")
    assert "canary" not in reason
    assert parent.model == "one"


@pytest.mark.parametrize(
    ("change", "keys"),
    [
        ({"server": {"port": 1, "workers": 1}}, ["server.port"]),
        ({"server": {"drain": "1s", "http2": True}}, ["server.drain", "server.http2"]),
        ({"store": {"sql": "postgresql://u:canary@h/d"}}, ["store.sql"]),
        ({"auth": {"mode": "none"}}, ["auth.mode"]),
        ({"limits": {"throttle_max_wait": "1s"}}, ["limits.throttle_max_wait"]),
        ({"log": {"format": "console", "requests": False}}, ["log.format"]),
        ({"server": {"ping_interval": "1s"}, "brand": "Acme", "limits": {"address": "1/s"}}, []),
    ],
)
def test_not_reloadable_names_settings_without_values(
    change: dict[str, Any], keys: list[str]
) -> None:
    said = not_reloadable(parse({}), parse(change))
    assert said == [f"{key}: cannot be changed by a reload; restart Penstock" for key in keys]
