"""`penstock check`: the configuration, and all that it names."""

from typing import TYPE_CHECKING, Annotated

import typer

from edge.cli.terminal import Config, Json, load, print_json

if TYPE_CHECKING:
    from .finding import Finding


def add_to(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(check)


def check(
    config: Config,
    json: Json = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Use no network: check this machine only.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 for warnings too.")] = False,
    only: Annotated[
        str, typer.Option(metavar="GROUP", help="Check one group: config, stores, upstreams ...")
    ] = "",
    probe: Annotated[
        bool, typer.Option("--probe", help="Call each target once, which costs money.")
    ] = False,
) -> None:
    """Check the configuration and all that it names; exit 0 when there is no error."""
    from edge.config.load import SettingsError

    from . import report
    from .groups import GROUPS
    from .run import findings_of
    from .subject import Subject

    if only and only not in GROUPS:
        raise typer.BadParameter(f"expected one of {', '.join(GROUPS)}", param_hint="--only")
    try:
        settings = load(config)
    except SettingsError as error:
        if not json:
            raise
        print_json(report.of_faults(error.faults, config))
        raise typer.Exit(2) from None
    found = findings_of(Subject(settings, config, billable=probe), only=only, offline=offline)
    status = _status(found, strict=strict)
    if json:
        print_json(report.document(found, config, status))
    else:
        report.print_findings(found)
    raise typer.Exit(status)


def _status(found: "list[Finding]", *, strict: bool) -> int:
    bad = ("error", "warning") if strict else ("error",)
    return 1 if any(finding.state in bad for finding in found) else 0
