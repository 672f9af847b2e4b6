"""`penstock monitoring`: alert rules for Prometheus and a dashboard for Grafana."""

from typing import Annotated

import typer

from .terminal import Json, print_json


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    group = typer.Typer(
        help="Alert rules for Prometheus and a dashboard for Grafana.", no_args_is_help=True
    )
    group.command()(rules)
    group.command()(dashboard)
    app.add_typer(group, name="monitoring")


def rules(
    runbook: Annotated[
        str | None,
        typer.Option(
            "--runbook", metavar="URL", help="Where your copy of docs/runbook.md is published."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Print the alert rules, a file for `rule_files` of Prometheus, as YAML or JSON."""
    from edge.observability.monitoring.rules import RUNBOOK, rules_document
    from edge.observability.monitoring.yaml_text import yaml_text

    document = rules_document(runbook or RUNBOOK)
    if json:
        print_json(document)
    else:
        typer.echo(yaml_text(document), nl=False)


def dashboard() -> None:
    """Print the dashboard, JSON that Grafana imports."""
    from edge.observability.monitoring.dashboard import dashboard_document

    print_json(dashboard_document())
