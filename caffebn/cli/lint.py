"""``caffebn lint``: mistakes with BatchNorm in nets, weights and solvers."""

from __future__ import annotations

import click

from caffebn.bn.lint import SEVERITIES, Finding, Report, lint
from caffebn.cli import nets as files
from caffebn.cli import show
from caffebn.errors import some

__all__ = ["command"]

_MOST_PLACES = 3


@click.command("lint")
@click.argument("nets", metavar="NET...", nargs=-1, type=files.File)
@files.weights
@click.option("--solver", "-s", type=files.File, help="A solver; the net that it trains is looked at, too.")
@click.option(
    "--fix", is_flag=True, help="Repair in the files what is safe to repair; nothing else in them changes."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(nets: tuple[str, ...], weights: str | None, solver: str | None, fix: bool, as_json: bool) -> None:
    """Look for mistakes with BatchNorm in each NET, for training or for use, and in weights and solver.

    The table says which statistics each BatchNorm uses in each phase: those of the batch, or the stored ones.
    Each finding has a code, a place, why it matters and what to write.  Exit code 0: nothing but notes; 1: errors
    or warnings.
    """
    if not nets and solver is None:
        raise click.UsageError("give a NET, or a --solver that names one")
    report = lint(nets, weights, solver)
    done: list[str] = []
    if fix:
        done = report.fix()
        report = lint(nets, weights, solver)
    if as_json:
        show.as_json(report.as_dict() | ({"fixed": done} if fix else {}))
    else:
        _show(report)
        for change in done:
            click.echo(f"fixed: {change}")
    if not report.clean:
        raise SystemExit(1)


def _show(report: Report) -> None:
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, row in report.table.items():
        groups.setdefault(tuple(row), []).append(name)
    if groups:
        show.table(
            ["BatchNorm", *report.views],
            [[some(names, 1, quote=""), *(cell or "-" for cell in row)] for row, names in groups.items()],
        )
    # one paragraph for each mistake, however many layers have it
    mistakes: dict[tuple[str, str, str, str], list[Finding]] = {}
    for f in report.findings:
        mistakes.setdefault((f.severity, f.code, f.why, f.write), []).append(f)
    for (severity, code, why, write), found in mistakes.items():
        click.secho(f"{severity} {code}", fg={"error": "red", "warning": "yellow"}.get(severity), bold=True)
        for f in found[:_MOST_PLACES]:
            click.echo(f"  {f.where}: {f.layer + ': ' if f.layer else ''}{f.what}")
        if len(found) > _MOST_PLACES:
            click.echo(f"  ... and {len(found) - _MOST_PLACES} more layers")
        click.echo(f"  why: {why}\n  write: {write}")
    counts = [(sum(f.severity == s for f in report.findings), s) for s in SEVERITIES]
    words = ", ".join(f"{n} {s}{'s' * (n != 1)}" for n, s in counts if n)
    fixable = sum(f.fixable for f in report.findings)
    click.echo(f"{words or 'nothing found'}" + (f"; --fix repairs {fixable}" if fixable else ""))
