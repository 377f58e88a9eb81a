"""Pre-trains a backbone on unlabelled text and writes it as a folder that members can start from.

    <out>/
      config.json, model.safetensors, tokenizer.json, …   a plain Hugging Face folder
      encoder.json    how its states are pooled
      adapted.json    what it was made from and how, what it measured before and after
      curve.svg       how it learned

It is there as a whole or not at all; until then a checkpoint lies in the work folder beside it.

Of the processes of a launch the first does all of this, and the others train with it.
"""

import json
import shutil
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Self

from tokenizers import AddedToken, Tokenizer

from models.errors import missing_module
from models.files import atomic_file, atomic_folder, file_sha256, scratch_folder, write_json
from models.language.backbones import Backbone, find_backbone
from models.language.networks.encoder import Encoder
from models.language.reading.reader import TOKENIZER_FILE, Reader
from models.needs import require_modules
from models.text import FIELD_MARKERS
from models.training.curve import Curve
from models.training.identity import deciding_options
from models.training.loop import train, training_device
from models.typed import STRICT, parse, plain
from models.workbench import Workbench
from pipelines.adapting.config import AdaptConfig
from pipelines.adapting.tasks import (
    contrastive_task,
    masked_task,
    open_for,
    resolved_for,
    with_head_rate,
)
from pipelines.adapting.texts import UnlabelledTexts, gather_texts
from pipelines.console import Watch, unwatched
from pipelines.dataset.read import fingerprint
from pipelines.training.target import check_target, files_below, holds_what_it_lists
from pipelines.training.team import ALONE, Team
from pipelines.training.threads import choose_threads, threads_limited
from pipelines.training.versions import library_versions
from pipelines.training.work import open_work

ADAPTED_FILE: Final = "adapted.json"
CURVE_FILE: Final = "curve.svg"
FORMAT: Final = 1
_PART: Final = "adapting"
# What a tokenizer has besides tokenizer.json, and which a change of its tokens leaves true.
_OF_TOKENIZER: Final = ("tokenizer_config.json",)


@dataclass(frozen=True)
class Adapted:
    """What an adapted backbone says of itself."""

    __pydantic_config__ = STRICT

    format: int
    config: AdaptConfig  # as resolved against the backbone's preset
    backbone: dict[str, str]  # what it was made from: name, architecture, SHA-256
    data_fingerprint: str
    query_log_sha256: str | None
    versions: dict[str, str]
    threads: int  # of each process
    texts: dict[str, int]  # that taught, and that measured
    head: str | None  # of masked-language modelling: "the backbone's" or "new"
    before: dict[str, float]  # on the held-out texts
    after: dict[str, float]
    curve: dict[str, Any]
    files: list[str]  # all that was written besides this one: what else lies there is not ours
    processes: int = 1  # that trained together: a step takes a batch for each


def adapt(
    data: Path,
    out: Path,
    config: AdaptConfig,
    queries: Path | None = None,
    watch: Watch = unwatched,
    *,
    threads: int | None = None,
    force: bool = False,
    team: Team = ALONE,
) -> Adapted:
    """Adapt the backbone that `config` names to the texts of the dataset folder `data`.

    `queries` is a log to learn from besides; `watch` shows the training. Interrupted and called
    again, it goes on from its last checkpoint. The others of the `team` call `help_adapt`.
    """
    check_target(out, data, _is_adapted, "an adapted backbone", force=force)
    try:  # before the catalogue is read
        require_modules(config.needs().modules)
    except ModuleNotFoundError as error:
        raise missing_module(error, "training") from error
    with open_work(out) as work, threads_limited(using := choose_threads(threads)):
        check_target(out, data, _is_adapted, "an adapted backbone", force=force)
        team.tell(
            {
                "data": str(data.resolve()),
                "queries": str(queries.resolve()) if queries else None,
                "config": plain(config),
                "work": str(work.folder),
            }
        )
        made = _Prepared.of(data, queries, config, work.folder)
        backbone, texts, task, identity = made.backbone, made.texts, made.task, made.identity
        device = training_device()
        task.module.to(device)
        before = task.evaluate(device)
        with watch(f"adapting {backbone.name}") as report:
            bench = Workbench(work.bench(_PART, {**identity, "processes": team.count}), report)
            team.tell(str(bench.folder))
            curve = made.train(bench)
        after = task.evaluate(device)
        with atomic_folder(out) as scratch:
            _write(scratch, curve, made.encoder.cpu(), backbone, made.tokenizer)
            adapted = Adapted(
                format=FORMAT,
                config=made.config,
                backbone=identity["backbone"],
                data_fingerprint=identity["data_fingerprint"],
                query_log_sha256=identity["query_log_sha256"],
                versions=identity["versions"],
                threads=using,
                texts={
                    "products": len(texts.products),
                    "queries": len(texts.queries),
                    "measured products": len(texts.measured_products),
                    "measured queries": len(texts.measured_queries),
                },
                head=made.head,
                before=dict(before),
                after=dict(after),
                curve=curve.plain(),
                files=files_below(scratch),
                processes=team.count,
            )
            write_json(scratch / ADAPTED_FILE, plain(adapted))
    return adapted


def help_adapt(team: Team, threads: int | None = None) -> None:
    """Take part in the training of `adapt`, which the first process has called."""
    with threads_limited(choose_threads(threads)):
        if (asked := team.hear()) is None:
            return
        queries = Path(asked["queries"]) if asked["queries"] else None
        with scratch_folder(Path(asked["work"]), "backbone") as scratch:
            config = parse(AdaptConfig, asked["config"])
            made = _Prepared.of(Path(asked["data"]), queries, config, scratch)
            made.train(Workbench(Path(team.hear())))
        team.hear()  # that there is nothing more to do


@dataclass(frozen=True, eq=False)
class _Prepared:
    """What is to be trained, on what."""

    config: AdaptConfig  # resolved
    texts: UnlabelledTexts
    backbone: Backbone
    encoder: Encoder
    tokenizer: Tokenizer
    task: Any
    head: str | None
    identity: dict[str, Any]  # all that decides the result

    @classmethod
    def of(cls, data: Path, queries: Path | None, config: AdaptConfig, work: Path) -> Self:
        """What `config` asks for; what has to be written for the backbone goes below `work`."""
        texts = gather_texts(data, queries, config)
        backbone = find_backbone(
            config.backbone,
            work / "backbone",
            texts=texts.all_texts(),
            seed=config.seed,
            allow_download=config.allow_download,
        )
        config = resolved_for(config, backbone)
        encoder, reader = open_for(config, backbone)
        tokenizer = _tokenizer(backbone, reader)
        task: Any
        if config.objective == "mlm":
            task, came = masked_task(config, backbone, encoder, reader, tokenizer, texts)
            head = "the backbone's" if came else "new"
            config = with_head_rate(config, is_new=not came)
        else:
            task = contrastive_task(config, encoder, reader, tokenizer, texts)
            head = None
        identity = {
            "config": deciding_options(plain(config)),
            "backbone": {
                "name": backbone.name,
                "architecture": backbone.preset.architecture,
                "sha256": backbone.sha256,
            },
            "data_fingerprint": fingerprint(data),
            "query_log_sha256": file_sha256(queries) if queries else None,
            "versions": library_versions(),
        }
        return cls(config, texts, backbone, encoder, tokenizer, task, head, identity)

    def train(self, bench: Workbench) -> Curve:
        """Train, or go on from what is on the bench; all processes of a launch together."""
        digest = sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()
        return train(self.task, self.config.training, self.config.seed, bench, digest)


def _tokenizer(backbone: Backbone, reader: Reader) -> Tokenizer:
    """The backbone's own tokenizer, with the markers that were added for `reader` at their ids."""
    tokenizer: Tokenizer = Tokenizer.from_file(str(backbone.folder / TOKENIZER_FILE))
    by_id = sorted(reader.layout.markers.items(), key=lambda item: item[1])
    tokenizer.add_special_tokens(
        [
            AddedToken(FIELD_MARKERS[name], special=True, normalized=False)
            for name, _ in by_id
            if tokenizer.token_to_id(FIELD_MARKERS[name]) is None
        ]
    )
    return tokenizer


def _write(
    folder: Path,
    curve: Curve,
    encoder: Encoder,
    backbone: Backbone,
    tokenizer: Tokenizer,
) -> None:
    encoder.save(folder)
    with atomic_file(folder / TOKENIZER_FILE) as scratch:
        scratch.write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
    for name in _OF_TOKENIZER:
        if (backbone.folder / name).is_file():
            shutil.copyfile(backbone.folder / name, folder / name)
    curve.draw(folder / CURVE_FILE)


def _is_adapted(folder: Path) -> bool:
    """Whether `folder` holds an adapted backbone and nothing that a person would miss."""
    return holds_what_it_lists(folder, ADAPTED_FILE)
