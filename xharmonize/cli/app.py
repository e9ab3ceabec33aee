"""The ``xharmonize`` command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

import xharmonize
from xharmonize.cli import console
from xharmonize.cli.demo import demo, simulate
from xharmonize.cli.fill import fill
from xharmonize.cli.fit import fit
from xharmonize.cli.harmonize import harmonize
from xharmonize.cli.info import info, models
from xharmonize.cli.judge import plot, report, score
from xharmonize.cli.recipe import init, plan, run
from xharmonize.cli.series import composite, phenology, smooth, table
from xharmonize.cli.sharpen import sharpen
from xharmonize.cli.train import train
from xharmonize.errors import XHarmonizeError

app = typer.Typer(
    name="xharmonize",
    help="Sentinel-2 and Landsat as one dense, comparable reflectance series.",
    epilog=f"{console.EVERYWHERE} {console.EXIT_CODES}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS = (
    run,
    plan,
    init,
    harmonize,
    sharpen,
    fill,
    fit,
    train,
    composite,
    smooth,
    phenology,
    table,
    info,
    score,
    plot,
    report,
    simulate,
    demo,
)
for command in COMMANDS:
    app.command(
        cls=console.Command,
        epilog=console.EXIT_CODES if command in (harmonize, sharpen, fit, fill) else None,
    )(command)
app.add_typer(models, name="models")


def _print_version(value: bool) -> None:
    if value:
        console.say(xharmonize.__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version)
    ] = False,
) -> None:
    """Handle options given before a command."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with one of `console.EXIT_CODES`."""
    given = console.begin(sys.argv[1:] if arguments is None else arguments)
    code: object = console.FAILED
    try:
        # Commands draw bars of their own.
        with console.plain_warnings(), xharmonize.set_options(progress=False):
            app(args=given)
    except SystemExit as ended:
        code = ended.code
        if ended.code == console.INTERRUPTED:
            console.complain(
                "interrupted", "what was being written is incomplete; run the command again", "red"
            )
        raise
    except KeyboardInterrupt:  # before typer takes it
        code = console.INTERRUPTED
        console.complain("interrupted", "nothing had begun", "red")
        sys.exit(code)
    except (XHarmonizeError, OSError) as error:
        console.complain("error", error, "red")
        sys.exit(console.FAILED)
    finally:
        console.end(code)


if __name__ == "__main__":
    main()
