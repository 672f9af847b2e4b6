"""Values that cannot work are refused, each with a sentence that says what to do."""

import json
from functools import cache
from typing import Any

import pytest

from tests.helm.chart import CHART, Refused, rendered
from tests.helm.values_file import values_of

Values = dict[str, Any]
VALUES = values_of((CHART / "values.yaml").read_text())


def refusal(name: str, values: Values) -> str:
    """What Helm says. Values that have several faults are rendered once."""
    return _refusal(name, json.dumps(values))


@cache
def _refusal(name: str, values: str) -> str:
    with pytest.raises(Refused) as caught:
        rendered(name, json.loads(values))
    return str(caught.value)


def with_upstream(**upstream: Any) -> Values:
    far = {"name": "far", "dialect": "openai", "base_url": "https://api.example.com/v1"}
    return {"config": {"upstreams": [{**far, **upstream}]}}


LITERAL = with_upstream(
    api_key="sk-literal",
    headers={"x-team": "a", "Authorization": "Bearer literal"},
    proxy="http://user:secret@proxy.example.com:3128",
)
WEB = {"name": "web", "containerPort": 8080}


SENTENCES: list[tuple[str, Values, str]] = [
    (
        "minimal",
        {"replicas": 2},
        "replicas: 2 pods need one database: set config.store.sql to a PostgreSQL, by a variable "
        'such as "env:PENSTOCK_SQL", or replicas to 1',
    ),
    (
        "minimal",
        {"replicas": 2},
        "replicas: 2 pods would each allow the whole of every limit and budget: set "
        'config.store.counters to a Redis, by a variable such as "env:PENSTOCK_COUNTERS", or '
        "replicas to 1",
    ),
    (
        "minimal",
        {"autoscaling": {"enabled": True}},
        "autoscaling: several pods need one database",
    ),
    (
        "minimal",
        {"keda": {"enabled": True, "prometheus": {"serverAddress": "http://p"}}},
        "keda: several pods would each allow the whole of every limit and budget",
    ),
    (
        "minimal",
        {"config": {"server": {"workers": 4}}},
        "config.server.workers: 4 workers would each allow the whole of every limit and budget: "
        "set config.store.counters to a Redis, or workers to 1",
    ),
    (
        "minimal",
        {"terminationGracePeriodSeconds": 30},
        "terminationGracePeriodSeconds: 30 would kill requests that may still run; expected at "
        "least 2130, the sum of config.server.drain, config.server.drain_delay and drain.extra",
    ),
    (
        "minimal",
        {"config": {"server": {"host": "127.0.0.1"}}},
        "config.server.host: 127.0.0.1 is reached from inside the pod only; expected",
    ),
    ("minimal", {"config": {"server": {"port": 0}}}, "config.server.port: 0 takes a free port"),
    (
        "minimal",
        {"config": {"store": {"sql": "sqlite:///var/penstock.db"}}},
        "config.store.sql: sqlite:///var/penstock.db is relative to /etc/penstock, which is "
        "read-only; expected a path below /var/lib/penstock, such as "
        '"sqlite:////var/lib/penstock/penstock.db"',
    ),
    (
        "minimal",
        {"config": {"store": {"journal": "var/journal", "objects": "file:objects"}}},
        "config.store.journal: var/journal is relative to /etc/penstock",
    ),
    (
        "minimal",
        {"config": {"store": {"journal": "var/journal", "objects": "file:objects"}}},
        "config.store.objects: file:objects is relative to /etc/penstock",
    ),
    (
        "minimal",
        {"ingress": {"enabled": True, "hosts": [{"host": "a.example.com"}]}},
        "ingress.enabled: all clients would have the address of the proxy, and share its limits; "
        "set config.server.trusted_proxies to the network of the controller's pods, such as "
        '["10.0.0.0/8"], or acceptUntrustedProxy to true',
    ),
    (
        "minimal",
        {"httpRoute": {"enabled": True}},
        "httpRoute.enabled: all clients would have the address of the proxy",
    ),
    ("minimal", {"httpRoute": {"enabled": True}}, "httpRoute.parentRefs: expected at least one"),
    ("minimal", {"ingress": {"enabled": True}}, "ingress.hosts: expected at least one"),
    (
        "ha",
        {"keda": {"enabled": True}},
        "autoscaling.enabled: KEDA makes an autoscaler of its own",
    ),
    ("ha", {"keda": {"enabled": True}}, "keda.triggers: expected keda.prometheus.serverAddress"),
    (
        "ha",
        {"autoscaling": {"min": 20}},
        "autoscaling.min: 20 is more than autoscaling.max, which is 12",
    ),
    (
        "ha",
        {"autoscaling": {"cpu": None, "streams": None}},
        "autoscaling.cpu: expected a figure for cpu or streams",
    ),
    (
        "ha",
        {"persistence": {"existingClaim": "mine"}},
        "persistence.existingClaim: a StatefulSet makes a claim for each pod",
    ),
    (
        "full",
        {"metrics": {"serviceMonitor": {"enabled": True}}},
        "metrics.serviceMonitor.enabled: Prometheus would count every pod twice",
    ),
    (
        "full",
        {"secrets": {"create": False}},
        "secrets.env: has values that no Secret carries, since secrets.create is false; name a "
        "Secret of yours in secrets.existingSecret",
    ),
    (
        "full",
        {"secrets": {"create": False}},
        "secrets.files: has values that no Secret carries, since secrets.create is false; name a "
        "Secret of yours in secrets.existingFiles",
    ),
    (
        "bundled",
        {"redis": {"password": ""}},
        "redis.password: is missing, and the chart invents none; set it, or redis.existingSecret",
    ),
    (
        "bundled",
        {"postgresql": {"password": ""}},
        "postgresql.password: is missing, and the chart invents none",
    ),
    (
        "bundled",
        {"config": {"store": {"counters": "redis://redis.example.com"}}},
        "redis.bundled: the bundled store would replace config.store.counters; leave that out",
    ),
    (
        "full",
        {"config": {"auth": {"admin_token": "6a1f0c6f3b8e4d5c9a7b"}}},
        "config.auth.admin_token: anyone who may read ConfigMaps could read it; put it into "
        'secrets.env, and name it here as "env:NAME"',
    ),
    (
        "full",
        {"config": {"store": {"sql": "postgresql://penstock:secret@db/penstock"}}},
        "config.store.sql: has a password, which anyone who may read ConfigMaps could read",
    ),
    (
        "full",
        {"config": {"store": {"objects_secret_key": "s3cr3t"}}},
        "config.store.objects_secret_key: anyone who may read ConfigMaps could read it",
    ),
    (
        "minimal",
        LITERAL,
        "config.upstreams[0].api_key: anyone who may read ConfigMaps could read it",
    ),
    (
        "minimal",
        LITERAL,
        "config.upstreams[0].headers.Authorization: anyone who may read ConfigMaps could read it",
    ),
    ("minimal", LITERAL, "config.upstreams[0].proxy: has a password"),
    (
        "minimal",
        {"config": {"auth": {"admin_token": "env:ADMIN_TOKEN"}}},
        "config: names the environment variable ADMIN_TOKEN, which nothing sets; add it to "
        "secrets.env or extraEnv, or name the Secret that has it in secrets.existingSecret",
    ),
    (
        "full",
        {"extraEnv": [{"name": "PENSTOCK_CONFIG", "value": "/etc/mine.json"}]},
        "extraEnv: the variable PENSTOCK_CONFIG is set twice; leave one out",
    ),
    (
        "full",
        {"extraVolumes": [{"name": "tmp", "emptyDir": {}}]},
        "extraVolumes: the name tmp stands twice in a pod; choose another",
    ),
    (
        "full",
        {"extraVolumeMounts": [{"name": "certificates", "mountPath": "/tmp"}]},
        "extraVolumeMounts: /tmp is mounted twice; choose another path",
    ),
    (
        "full",
        {"extraContainers": [{"name": "penstock", "image": "a"}]},
        "extraContainers: the name penstock stands twice in a pod; choose another",
    ),
    (
        "full",
        {
            "extraContainers": [
                {"name": "a", "image": "a", "ports": [{"name": "web", "containerPort": 8080}]}
            ]
        },
        "extraContainers: a: the port web stands twice in a pod; choose another",
    ),
    (
        "minimal",
        with_upstream(api_key="file:/run/secrets/penstock/far-key"),
        "config: names the file /run/secrets/penstock/far-key, which nothing brings; add far-key "
        "to secrets.files, or name the Secret that has it in secrets.existingFiles",
    ),
    (
        "minimal",
        {"fullnameOverride": "Foo_Bar"},
        "fullnameOverride: the name Foo_Bar would be refused by Kubernetes; expected lowercase "
        "letters, digits and -, with a letter first",
    ),
    (
        "minimal",
        {"fullnameOverride": "1st"},
        "fullnameOverride: the name 1st would be refused by Kubernetes",
    ),
    (
        "minimal",
        {"nameOverride": "a b", "fullnameOverride": "a"},
        "nameOverride: a b is no value of a label",
    ),
    (
        "ha",
        {"serviceAccount": {"name": "penstock-migration"}},
        "serviceAccount.name: penstock-migration is the account of the migration; choose another",
    ),
    (
        "minimal",
        {"config": {"store": {"sql": "postgresql://db/p?user=a&password=b"}}},
        "config.store.sql: has a password, which anyone who may read ConfigMaps could read",
    ),
]


@pytest.mark.parametrize(("name", "values", "sentence"), SENTENCES)
def test_values_that_do_not_fit_are_refused(name: str, values: Values, sentence: str) -> None:
    assert sentence in refusal(name, values)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"config": {"servr": {}}}, "config: Additional property servr is not allowed"),
        ({"config": {"server": {"prot": 1}}}, "config.server: Additional property prot"),
        ({"replica": 2}, "(root): Additional property replica is not allowed"),
        ({"service": {"prot": 1}}, "service: Additional property prot is not allowed"),
        ({"config": None}, "(root): config is required"),
        ({"service": {"port": None}}, "service: port is required"),
        ({"replicas": "two"}, "replicas: Invalid type. Expected: [integer,null], given: string"),
        ({"config": {"server": {"port": "8080"}}}, "config.server.port: Invalid type"),
        ({"workload": {"kind": "DaemonSet"}}, "workload.kind"),
        ({"image": {"digest": "latest"}}, "image.digest: Does not match pattern"),
        ({"httpRoute": {"timeouts": {"request": "10 s"}}}, "httpRoute.timeouts.request: Does not"),
        ({"secrets": {"env": {"A-B": "c"}}}, "secrets.env"),
        ({"redis": {"password": "a/b"}}, "redis.password: Does not match pattern"),
        ({"keda": {"min": 0}}, "keda.min: Must be greater than or equal to 1"),
        ({"resources": {"limit": {}}}, "resources: Additional property limit is not allowed"),
    ],
    ids=str,
)
def test_values_of_another_shape_are_refused(values: Values, said: str) -> None:
    assert said in refusal("minimal", values)


def test_untrusted_proxy_can_be_accepted() -> None:
    values = {
        "ingress": {"enabled": True, "hosts": [{"host": "a.b"}]},
        "acceptUntrustedProxy": True,
    }
    assert rendered("minimal", values).one("Ingress")


def test_large_configuration_is_refused() -> None:
    """A ConfigMap holds 1 MiB, and the object of a release that has it, too."""
    said = refusal("minimal", with_upstream(headers={"x-note": "a" * 930_000}))
    assert "config: is larger than 900 KiB, and a ConfigMap holds 1 MiB" in said


def test_every_fault_is_named_at_once() -> None:
    said = refusal("minimal", {"replicas": 2, "config": {"server": {"port": 0}}})
    assert len([line for line in said.splitlines() if ": " in line and "Error" not in line]) == 3


def test_parent_chart_may_have_this_one() -> None:
    """Helm puts `global`, and conditions their `enabled`, among the values of a dependency."""
    assert rendered("minimal", {"global": {"a": 1}, "enabled": True}).all


def test_null_leaves_a_value_out_or_is_refused_by_a_sentence(full: bool) -> None:
    """No template stumbles over what is not there. In small over every tenth value."""
    for value in VALUES if full else VALUES[::10]:
        changed: Any = None
        for part in reversed(value.path):
            changed = {part: changed}
        try:
            rendered("full", changed)
        except Refused as refused:
            said = str(refused)
            assert "is required" in said or "penstock/templates/checks.yaml:3:4" in said, said
