"""`esci convert`: a backbone's pickled weights as safetensors."""

from pathlib import Path
from typing import Annotated

import typer

from models.errors import ConfigError
from models.language.sources.pickled import convert_pickled
from pipelines.console import note, out, print_json


def convert(
    folder: Annotated[
        Path, typer.Argument(help="A Hugging Face folder whose weights are pytorch_model*.bin.")
    ],
    to: Annotated[Path, typer.Option("--out", help="The backbone folder to write.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Write a backbone's pickled weights as safetensors, which alone are opened in training.

    Some models of the field (DeBERTa-v3, BigBird, InfoXLM) may be had with pickled weights only,
    and a pickle can run code when it is loaded. This reads tensors and refuses anything else:

    esci convert downloads/deberta-v3-base --out backbones/deberta-v3-base

    Then name the new folder in a configuration, with the preset's options where you want them:

    backbone = "backbones/deberta-v3-base"
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ConfigError(f"{to} is there already; name another folder")
    files = convert_pickled(folder, to)
    if json:
        print_json({"out": str(to), "files": files})
        return
    for file in files:
        note(f"{to / file}")
    out.print(f'converted into {to}; use it as backbone = "{to}"', highlight=False)
