"""The command ``caffebn``: one verb a module, loaded when it is asked for."""

from __future__ import annotations

import os
import warnings
from importlib import import_module
from typing import Any

import click

import caffebn
from caffebn.cli import show
from caffebn.errors import CaffebnError, CaffebnWarning, did_you_mean

__all__ = ["main"]

VERBS = {
    "bn-stats": "Compute the statistics of BatchNorm layers anew, over data.",
    "classify": "Say what is in pictures.",
    "compare": "Run two nets and find the first layer that differs, and why.",
    "convert-bn": "Tell and convert dialects of batch normalisation.",
    "data": "Make databases of data sets and pictures, and mean files.",
    "device": "Show what caffebn runs on here.",
    "draw": "Draw a net as a graph.",
    "expand": "Write a net with blocks as plain Caffe prototxt.",
    "export": "Write a net for other programs: ONNX, PyTorch, arrays.",
    "features": "Write blobs of a net, run on its data, to a file.",
    "fold": "Fold BatchNorm and Scale layers into their neighbours.",
    "import-weights": "Make a .caffemodel of a PyTorch state_dict or of arrays.",
    "info": "Show the layers of a net, their sizes and the state of each BatchNorm.",
    "layers": "Show the layer types and their options.",
    "lint": "Find mistakes with BatchNorm in nets, weights and solvers.",
    "plot": "Plot trainings, statistics, weights and activations.",
    "test": "Score a net on the data of its test phase.",
    "time": "Time each layer of a net.",
    "train": "Train a net.",
    "upgrade": "Rewrite a net or a solver of an old form to the present one.",
}
"""The verbs and their lines in the list of ``caffebn --help``; a verb is the object `command` of the module
of its name (with ``_`` for ``-``)."""


JUDGES = ("compare", "fold", "lint")
"""Verbs whose exit code 1 is a judgement; when they cannot come to one they end with 2, as `diff` does."""


class Failure(click.ClickException):
    """An error of caffebn or of the system (a full disk), shown as one clean message with exit code 1, or 2."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance

    def show(self, file: Any = None) -> None:
        """Print the message on standard error."""
        show.error(self.message)


class Verbs(click.Group):
    """The group of verbs; imports a verb's module only to run it or to show its help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Give the names of all verbs."""
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Load the module of the verb `name`."""
        if name not in VERBS:
            return None
        return import_module(f"caffebn.cli.{name.replace('-', '_')}").command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb that the command line names; an unknown one gets the nearest known named."""
        if args[0] not in VERBS and not args[0].startswith("-"):
            ctx.fail(f'there is no verb "{args[0]}"{did_you_mean(args[0], VERBS)}')
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of verbs without loading them."""
        with formatter.section("Verbs"):
            formatter.write_dl(sorted(VERBS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; show warnings and errors of caffebn as messages."""
        with warnings.catch_warnings():
            warnings.simplefilter("always", CaffebnWarning)
            python_shows = warnings.showwarning

            def showwarning(message: Any, category: type[Warning], *rest: Any, **more: Any) -> None:
                if issubclass(category, CaffebnWarning):
                    show.warning(str(message))
                else:
                    python_shows(message, category, *rest, **more)

            warnings.showwarning = showwarning
            try:
                return super().invoke(ctx)
            except (CaffebnError, OSError) as e:
                # a reader that has seen enough closes the pipe; click ends quietly then
                if os.environ.get("CAFFEBN_DEBUG") == "1" or isinstance(e, BrokenPipeError):
                    raise
                raise Failure(str(e), 2 if ctx.invoked_subcommand in JUDGES else 1) from e


@click.group(
    cls=Verbs, subcommand_metavar="VERB ...", context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(caffebn.__version__, prog_name="caffebn", message="%(prog)s %(version)s")
def main() -> None:
    """Run, time, check and port Caffe networks.

    CAFFEBN_DEBUG=1 in the environment shows the Python traceback of an error.
    """
