"""The command: a table from verb to the function that runs it, loaded when it is called.

The only file that knows both ends. `esci --help` must answer at once, so nothing here imports a
verb's module before that verb is asked for.
"""

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import typer

from models.errors import EsciError, missing_module


class Verb(NamedTuple):
    """Where a verb lives and what `esci --help` says of it."""

    function: str  # module:function
    help: str


Verbs = Mapping[str, "Verb | Verbs"]

VERBS: Final[Verbs] = {
    "run": Verb("esci:run", "Serve; train on the demo catalogue first if nothing is trained."),
    "data": {
        "demo": Verb("pipelines.commands.data.demo:demo", "Generate the demo catalogue."),
        "import": Verb(
            "pipelines.commands.data.import_:import_", "Import CSV or JSONL by column mapping."
        ),
        "validate": Verb(
            "pipelines.commands.data.validate:validate",
            "Find and locate every trouble in a dataset.",
        ),
        "stats": Verb("pipelines.commands.data.stats:stats", "Show what a dataset holds."),
        "split": Verb("pipelines.commands.data.split:split", "Assign folds by query text."),
        "fetch": Verb("pipelines.commands.data.fetch:fetch", "Download the official ESCI files."),
    },
    "train": Verb(
        "pipelines.commands.train:train",
        "Train members into a run folder, and publish a release if asked.",
    ),
    "adapt": Verb(
        "pipelines.commands.adapt:adapt", "Pre-train a language backbone on a catalogue's texts."
    ),
    "convert": Verb(
        "pipelines.commands.convert:convert", "Write a backbone's pickled weights as safetensors."
    ),
    "precompute": Verb(
        "pipelines.commands.precompute:precompute",
        "Store the vectors of a catalogue's products for a bi-encoder.",
    ),
    "serve": Verb("service.command:serve", "Serve a release over REST."),
    "evaluate": Verb("pipelines.commands.evaluate:evaluate", "Judge predictions against labels."),
    "consistency": Verb(
        "pipelines.commands.consistency:consistency",
        "Tell whether one threshold on a bi-encoder's similarity serves all queries alike.",
    ),
    "doctor": Verb("pipelines.commands.doctor:doctor", "Say what this machine has and lacks."),
}
GROUP_HELP: Final = {"data": "Read, make, check and look at dataset folders."}


def _load(verb: Verb) -> Callable[..., Any]:
    module, _, name = verb.function.partition(":")
    function: Callable[..., Any] = getattr(import_module(module), name)
    return function


def _unloaded() -> None:
    """Stand in the help of a group for a verb that was not asked for."""


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"esci {version('esci-ensemble')}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Options before any verb."""


def build(arguments: Sequence[str], verbs: Verbs = VERBS, text: str | None = None) -> typer.Typer:
    """The command line for these arguments: the verb they name is loaded, the others listed."""
    app = typer.Typer(
        help=text
        or "Tell whether a product is an Exact, Substitute, Complement or Irrelevant answer.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    app.callback()(_options if verbs is VERBS else _unloaded)
    asked = next((word for word in arguments if word in verbs), None)
    rest = arguments[arguments.index(asked) + 1 :] if asked else []
    for name, entry in verbs.items():
        if isinstance(entry, Verb):
            app.command(name, help=entry.help if name != asked else None)(
                _load(entry) if name == asked else _unloaded
            )
        else:
            app.add_typer(build(rest if name == asked else [], entry, GROUP_HELP[name]), name=name)
    return app


def run(
    release: Annotated[
        Path | None,
        typer.Option(help="A release folder or a registry, instead of the registry at home."),
    ] = None,
    once: Annotated[
        bool,
        typer.Option("--once", help="Classify one pair over HTTP on a free port, and stop."),
    ] = False,
    port: Annotated[int | None, typer.Option(help="8000 without it; 0 takes a free one.")] = None,
    json: Annotated[
        bool, typer.Option("--json", help="With --once: the answer as one JSON document.")
    ] = False,
) -> None:
    """Serve a release; if nothing is trained yet, train one on the demo catalogue first.

    Everything lies in [bold].esci[/], or where ESCI_HOME says. Runs until interrupted.

    Example: [bold]esci run --port 8080[/]
    """
    from models.home import home
    from models.release_registry import ReleaseRegistry
    from pipelines.first_request import print_first_answer, show_first_request
    from service import Settings, check_port, find_release, running, serve

    settings = Settings.from_environment(release=release, port=0 if once else port)
    at_home = settings.release.resolve() == home().resolve()
    if at_home and ReleaseRegistry(home()).champion() is None:
        # Only who trains needs what training needs: the serving install has no pyarrow.
        from pipelines.first_release import train_first_release

        check_port(settings)
        train_first_release(home())
    folder = find_release(settings.release)
    if once:
        with running(settings) as address:
            (print_first_answer if json else show_first_request)(address, folder)
    else:
        serve(settings, lambda address: show_first_request(address, folder))


def main() -> None:
    """Run the command line; what a user can mend is said in a line, without a traceback."""
    # So that a polite end runs every `finally`, and leaves nothing half made.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        build(sys.argv[1:])()
    except (EsciError, OSError, ModuleNotFoundError) as error:
        from pipelines.console import ERRORS, print_error

        print_error(_in_words(error))
        sys.exit(ERRORS)


def _in_words(error: EsciError | OSError | ModuleNotFoundError) -> EsciError:
    if isinstance(error, ModuleNotFoundError):
        if (error.name or "").partition(".")[0] in {"models", "pipelines", "service"}:
            raise error  # ours, so a bug
        return missing_module(error, "training")
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return EsciError(
            f"{where}{error.strerror or error}; check the path, its rights and the room"
        )
    return error


if __name__ == "__main__":
    main()
