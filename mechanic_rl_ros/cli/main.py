"""The command ``mechanic-rl``."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated

import typer

from mechanic_rl_ros import __version__
from mechanic_rl_ros.cli.collect import collect
from mechanic_rl_ros.cli.console import explain, fail
from mechanic_rl_ros.cli.distil import distil
from mechanic_rl_ros.cli.doctor import doctor
from mechanic_rl_ros.cli.evaluate import evaluate
from mechanic_rl_ros.cli.finetune import finetune
from mechanic_rl_ros.cli.import_policy import import_policy
from mechanic_rl_ros.cli.pretrain import pretrain
from mechanic_rl_ros.cli.report import report
from mechanic_rl_ros.cli.study import study
from mechanic_rl_ros.cli.view import view

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich", context_settings={"help_option_names": ["-h", "--help"]})


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails. May stand anywhere.")] = False,
) -> None:
    """Online finetuning of diffusion policies on a robot, without choosing a learning rate.

    \b
    From nothing to a tuned policy:
        mechanic-rl doctor
        mechanic-rl collect --task lift --output data/lift
        mechanic-rl pretrain --demonstrations data/lift --output data/lift-base
        mechanic-rl finetune --task lift --checkpoint data/lift-base
        mechanic-rl evaluate runs/TIME/checkpoint
        mechanic-rl report runs/TIME
    """


for _command in (collect, pretrain, import_policy, finetune, distil, evaluate, report, view, study, doctor):
    app.command("import" if _command is import_policy else None)(_command)


def main() -> None:
    """Runs the command line. Whatever goes wrong becomes one line on stderr and an exit status that is not 0; ``--debug`` shows the traceback as well."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    if debug:
        os.environ["MECHANIC_DEBUG"] = "1"  # for the nodes
    try:
        status = app(args=[argument for argument in arguments if argument != "--debug"], prog_name="mechanic-rl", standalone_mode=False)
    except KeyboardInterrupt:
        status = 130
    except Exception as error:
        if debug:
            traceback.print_exc()
        text, status = explain(error)
        fail(text)
    sys.exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    main()
