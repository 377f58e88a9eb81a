"""Pre-trains a backbone on unlabelled text and writes it as a folder that members can start from.

    <out>/
      config.json, model.safetensors, tokenizer.json, …   a plain Hugging Face folder
      encoder.json    how its states are pooled
      adapted.json    what it was made from and how, what it measured before and after
      curve.svg       how it learned

It is there as a whole or not at all; until then a checkpoint lies in the work folder beside it.
"""

import json
import shutil
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from tokenizers import AddedToken, Tokenizer

from models.files import atomic_file, atomic_folder, file_sha256, write_json
from models.language.backbones import Backbone, find_backbone
from models.language.networks.encoder import Encoder
from models.language.reading.reader import TOKENIZER_FILE, Reader
from models.language.training.curve import Curve
from models.language.training.loop import train, training_device
from models.text import FIELD_MARKERS
from models.typed import STRICT, plain
from models.workbench import Workbench
from pipelines.adapting.config import AdaptConfig
from pipelines.adapting.tasks import (
    contrastive_task,
    masked_task,
    open_for,
    resolved_for,
    with_head_rate,
)
from pipelines.adapting.texts import gather_texts
from pipelines.console import Watch, unwatched
from pipelines.dataset.read import fingerprint
from pipelines.training.target import check_target, files_below, holds_what_it_lists
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
    threads: int
    texts: dict[str, int]  # that taught, and that measured
    head: str | None  # of masked-language modelling: "the backbone's" or "new"
    before: dict[str, float]  # on the held-out texts
    after: dict[str, float]
    curve: dict[str, Any]
    files: list[str]  # all that was written besides this one: what else lies there is not ours


def adapt(
    data: Path,
    out: Path,
    config: AdaptConfig,
    queries: Path | None = None,
    watch: Watch = unwatched,
    *,
    threads: int | None = None,
    force: bool = False,
) -> Adapted:
    """Adapt the backbone that `config` names to the texts of the dataset folder `data`.

    `queries` is a log to learn from besides; `watch` shows the training. Interrupted and called
    again, it goes on from its last checkpoint.
    """
    check_target(out, data, _is_adapted, "an adapted backbone", force=force)
    with open_work(out) as work, threads_limited(using := choose_threads(threads)):
        check_target(out, data, _is_adapted, "an adapted backbone", force=force)
        texts = gather_texts(data, queries, config)
        backbone = find_backbone(
            config.backbone,
            work.folder / "backbone",
            texts=texts.all_texts(),
            seed=config.seed,
            allow_download=config.allow_download,
        )
        config = resolved_for(config, backbone)
        made_from = {
            "name": backbone.name,
            "architecture": backbone.preset.architecture,
            "sha256": backbone.sha256,
        }
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
        identity: dict[str, Any] = {
            "config": plain(config),
            "backbone": made_from,
            "data_fingerprint": fingerprint(data),
            "query_log_sha256": file_sha256(queries) if queries else None,
            "versions": library_versions(),
        }
        device = training_device()
        task.module.to(device)
        before = task.evaluate(device)
        with watch(f"adapting {backbone.name}") as report:
            bench = Workbench(work.bench(_PART, identity), report)
            digest = sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
            curve = train(task, config.training, config.seed, bench, digest)
        after = task.evaluate(device)
        with atomic_folder(out) as scratch:
            _write(scratch, curve, encoder.cpu(), backbone, tokenizer)
            adapted = Adapted(
                format=FORMAT,
                config=config,
                backbone=made_from,
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
                head=head,
                before=dict(before),
                after=dict(after),
                curve=curve.plain(),
                files=files_below(scratch),
            )
            write_json(scratch / ADAPTED_FILE, plain(adapted))
    return adapted


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
