"""JSON Schema (draft-07) of the chart's values: closed, with the schema of the configuration in it.

A value's type is that of its default. Where the default does not say it (null, an empty list or
map), or says too little, it stands in `SHAPES`.
"""

from typing import Any

from edge.config.schema import schema as config_schema
from tests.helm.values_file import Value

Schema = dict[str, Any]

_ANY: Schema = {"type": "object"}
_STRINGS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
_OBJECTS: Schema = {"type": "array", "items": _ANY}
_TEXTS: Schema = {"type": "array", "items": {"type": "string"}}
_QUANTITY: Schema = {"type": ["string", "number"], "pattern": r"^[0-9]+([.][0-9]+)?[A-Za-z]{0,2}$"}
_PASSWORD: Schema = {"type": "string", "pattern": "^$|^[A-Za-z0-9._~-]{8,}$"}
_ROUTE_TIME: Schema = {
    "type": ["string", "null"],
    "pattern": "^([0-9]{1,5}(h|m|s|ms)){1,4}$",
}


def _closed(properties: Schema, *required: str) -> Schema:
    found: Schema = {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    return {**found, "required": list(required)} if required else found


def _list(properties: Schema, *required: str) -> Schema:
    return {"type": "array", "items": _closed(properties, *required)}


def _whole(least: int, most: int | None = None, *, nullable: bool = False) -> Schema:
    found: Schema = {"type": ["integer", "null"] if nullable else "integer", "minimum": least}
    return found if most is None else {**found, "maximum": most}


_TEXT: Schema = {"type": "string"}
_PROBE = _closed(
    {
        "initialDelaySeconds": _whole(0),
        "periodSeconds": _whole(1),
        "timeoutSeconds": _whole(1),
        "failureThreshold": _whole(1),
        "successThreshold": _whole(1),
        "terminationGracePeriodSeconds": _whole(1),
    }
)
_AMOUNTS: Schema = {"type": "object", "additionalProperties": _QUANTITY}
_RESOURCES = _closed({"requests": _AMOUNTS, "limits": _AMOUNTS, "claims": _OBJECTS})

SHAPES: dict[str, Schema] = {
    "config": {"$ref": "#/$defs/Configuration"},
    "secrets.env": {**_STRINGS, "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}},
    "secrets.files": {**_STRINGS, "propertyNames": {"pattern": "^[A-Za-z0-9._-]+$"}},
    "extraEnv": _list({"name": _TEXT, "value": _TEXT, "valueFrom": _ANY}, "name"),
    "extraEnvFrom": _list({"configMapRef": _ANY, "secretRef": _ANY, "prefix": _TEXT}),
    "image.digest": {"type": "string", "pattern": "^$|^sha256:[0-9a-f]{64}$"},
    "image.pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "imagePullSecrets": _list({"name": _TEXT}, "name"),
    "replicas": _whole(0, nullable=True),
    "workload.annotations": _STRINGS,
    "workload.kind": {"enum": ["Deployment", "StatefulSet"]},
    "terminationGracePeriodSeconds": _whole(0, nullable=True),
    "probes.startup": _PROBE,
    "probes.readiness": _PROBE,
    "probes.liveness": _PROBE,
    "lifecycle": _closed({"preStop": _ANY, "postStart": _ANY, "stopSignal": _TEXT}),
    "resources": _RESOURCES,
    "persistence.size": _QUANTITY,
    "persistence.accessModes": _TEXTS,
    "persistence.annotations": _STRINGS,
    "tmp.sizeLimit": _QUANTITY,
    "tmp.medium": {"enum": ["", "Memory"]},
    "migration.mode": {"enum": ["job", "init", "none"]},
    "migration.timeout": _whole(1),
    "migration.podLabels": _STRINGS,
    "migration.podAnnotations": _STRINGS,
    "migration.resources": _RESOURCES,
    "commonLabels": _STRINGS,
    "podLabels": _STRINGS,
    "podAnnotations": _STRINGS,
    "podSecurityContext": _ANY,
    "securityContext": _ANY,
    "serviceAccount.annotations": _STRINGS,
    "nodeSelector": _STRINGS,
    "tolerations": _OBJECTS,
    "affinity": _closed({"nodeAffinity": _ANY, "podAffinity": _ANY, "podAntiAffinity": _ANY}),
    "topologySpreadConstraints": {"type": ["array", "null"], "items": _ANY},
    "extraVolumes": _OBJECTS,
    "extraVolumeMounts": _OBJECTS,
    "extraContainers": _OBJECTS,
    "extraObjects": {"type": "array", "items": {"type": ["object", "string"]}},
    "service.type": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    "service.port": _whole(1, 65535),
    "service.nodePort": _whole(1, 65535, nullable=True),
    "service.externalTrafficPolicy": {"enum": ["", "Local", "Cluster"]},
    "service.loadBalancerSourceRanges": _TEXTS,
    "service.annotations": _STRINGS,
    "ingress.annotations": _STRINGS,
    "ingress.hosts": _list(
        {
            "host": _TEXT,
            "paths": _list(
                {
                    "path": _TEXT,
                    "pathType": {"enum": ["Prefix", "Exact", "ImplementationSpecific"]},
                },
                "path",
            ),
        },
        "host",
    ),
    "ingress.tls": _list({"secretName": _TEXT, "hosts": _TEXTS}),
    "httpRoute.parentRefs": _list(
        {
            "group": _TEXT,
            "kind": _TEXT,
            "name": _TEXT,
            "namespace": _TEXT,
            "sectionName": _TEXT,
            "port": _whole(1, 65535),
        },
        "name",
    ),
    "httpRoute.hostnames": _TEXTS,
    "httpRoute.annotations": _STRINGS,
    "httpRoute.timeouts": {
        **_closed({"request": _ROUTE_TIME, "backendRequest": _ROUTE_TIME}),
        "type": ["object", "null"],
    },
    "httpRoute.filters": _OBJECTS,
    "networkPolicy.from": _OBJECTS,
    "networkPolicy.monitoring": _OBJECTS,
    "networkPolicy.stores": _OBJECTS,
    "networkPolicy.extraEgress": _OBJECTS,
    "autoscaling.min": _whole(1),
    "autoscaling.max": _whole(1),
    "autoscaling.cpu": _whole(1, nullable=True),
    "autoscaling.streams": _whole(1, nullable=True),
    "autoscaling.behavior": _ANY,
    "keda.min": _whole(1),
    "keda.max": _whole(1),
    "keda.pollingInterval": _whole(1),
    "keda.prometheus.streams": _whole(1),
    "keda.triggers": _OBJECTS,
    "keda.behavior": _ANY,
    "pdb.maxUnavailable": {"type": ["integer", "string"], "minimum": 1, "pattern": "^[0-9]+%$"},
    "metrics.podMonitor.labels": _STRINGS,
    "metrics.podMonitor.relabelings": _OBJECTS,
    "metrics.podMonitor.metricRelabelings": _OBJECTS,
    "metrics.serviceMonitor.labels": _STRINGS,
    "metrics.serviceMonitor.relabelings": _OBJECTS,
    "metrics.serviceMonitor.metricRelabelings": _OBJECTS,
    "metrics.rules.labels": _STRINGS,
    "metrics.dashboard.labels": _STRINGS,
    "metrics.dashboard.annotations": _STRINGS,
    "tracing.endpoint": {"type": "string", "pattern": "^$|^https?://[^ ?#@]+$"},
    "tracing.ratio": {"type": "number", "minimum": 0, "maximum": 1},
    "redis.password": _PASSWORD,
    "redis.resources": _RESOURCES,
    "postgresql.password": _PASSWORD,
    "postgresql.size": _QUANTITY,
    "postgresql.resources": _RESOURCES,
}
"""What a default does not say about its value, by name."""

MAY_BE_NULL = {
    *("autoscaling.behavior", "autoscaling.cpu", "keda.behavior", "httpRoute.timeouts"),
    *("resources", "migration.resources", "redis.resources", "postgresql.resources"),
    *("lifecycle", "nodeSelector", "affinity"),
}
"""Values with a default that null takes away. Helm leaves a null out, so a key is then missing."""

OF_PARENTS: Schema = {
    "global": {"type": "object", "description": "Values of a chart that has this one in it."},
    "enabled": {"type": "boolean", "description": "Condition of a chart that has this one in it."},
}
"""Keys that Helm, or a condition of a parent chart, puts beside the values of a dependency."""


def values_schema(values: list[Value]) -> Schema:
    """The schema. Raises ValueError for a value whose type is not known."""
    configuration = config_schema()
    definitions = {
        "Configuration": {
            key: part for key, part in configuration.items() if key not in ("$schema", "$defs")
        },
        **configuration["$defs"],
    }
    top: Schema = _closed({})
    tables: dict[tuple[str, ...], Schema] = {(): top}
    for value in values:
        if value.path[0] == "config" and value.name != "config":
            continue
        one = _described(value)
        tables[value.path[:-1]]["properties"][value.path[-1]] = one
        tables[value.path] = one
        null = value.default is None or isinstance(value.default, list)
        if not null and value.name not in MAY_BE_NULL:
            tables[value.path[:-1]].setdefault("required", []).append(value.path[-1])
    top["properties"].update(OF_PARENTS)
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the Penstock chart",
        **top,
        "$defs": dict(sorted(definitions.items())),
    }


def _described(value: Value) -> Schema:
    shape = SHAPES.get(value.name)
    if shape is None:
        shape = _closed({}) if not value.leaf else _scalar(value)
    if "$ref" in shape or not value.description:
        return shape  # draft-07 reads nothing beside a reference
    return {**shape, "description": value.description}


def _scalar(value: Value) -> Schema:
    match value.default:
        case bool():
            return {"type": "boolean"}
        case int():
            return {"type": "integer", "minimum": 0}
        case str():
            return {"type": "string"}
    raise ValueError(f"{value.name}: say its type in SHAPES")
