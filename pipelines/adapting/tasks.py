"""From texts to what the training loop is given."""

from dataclasses import replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import nn

from models.errors import ConfigError, DataError
from models.language.backbones import Backbone
from models.language.networks.encoder import Encoder, open_encoder
from models.language.presets import LoraOptions
from models.language.pretraining.contrastive import ContrastiveTask, Views
from models.language.pretraining.head import ARCHITECTURES, MaskedHead
from models.language.pretraining.masked import MaskedModel, MaskedTask
from models.language.pretraining.masking import Vocabulary
from models.language.pretraining.reading import (
    read_products_alone,
    read_queries_alone,
    reader_of_fields,
)
from models.language.reading.reader import Reader
from models.language.reading.sequences import Sequences, stacked
from models.pairs import Products
from models.texts import Texts
from pipelines.adapting.config import AdaptConfig
from pipelines.adapting.texts import UnlabelledTexts

_TITLE: Final = "title"
# A new head starts from nothing, where a backbone is only to be bent.
_NEW_HEAD_RATE: Final = 1e-3


def resolved_for(config: AdaptConfig, backbone: Backbone) -> AdaptConfig:
    """`config` with what was left open taken from the backbone's preset."""
    if config.objective == "mlm" and backbone.preset.architecture not in ARCHITECTURES:
        raise ConfigError(
            f"objective mlm with backbone {backbone.name!r}: no head that fills masks is known for "
            f"a {backbone.preset.architecture}; expected the objective contrastive, or a backbone "
            f"of {', '.join(sorted(ARCHITECTURES))}"
        )
    rate = config.training.learning_rate or backbone.preset.learning_rate
    lora = backbone.preset.lora if config.lora is None else config.lora
    return replace(
        config,
        lora=LoraOptions() if lora is True else lora,
        training=replace(config.training, learning_rate=rate),
    )


def with_head_rate(config: AdaptConfig, *, is_new: bool) -> AdaptConfig:
    """`config` with the rate of a head that is new, where none was set."""
    if not is_new or config.training.head_learning_rate is not None:
        return config
    training = replace(config.training, head_learning_rate=_NEW_HEAD_RATE)
    return replace(config, training=training)


def open_for(config: AdaptConfig, backbone: Backbone) -> tuple[Encoder, Reader]:
    """The encoder to adapt, as far as it is to be trained, and the reader of its texts."""
    lora = config.lora if isinstance(config.lora, LoraOptions) else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)  # of adapters
        encoder, reader = open_encoder(
            backbone, config.text, lora=lora, checkpointing=config.training.checkpointing
        )
    if (trained := config.training.trained_layers) is not None:
        encoder.train_top(trained)
    return encoder, reader


def masked_task(
    config: AdaptConfig,
    backbone: Backbone,
    encoder: Encoder,
    reader: Reader,
    tokenizer: Tokenizer,
    texts: UnlabelledTexts,
) -> tuple[MaskedTask, bool]:
    """The task of guessing words, and whether its head came with the backbone."""
    rows = len(encoder.word_embeddings)
    vocabulary = Vocabulary.of(tokenizer, rows)
    examples = _texts_alone(reader, texts.products, texts.queries)
    measured = _texts_alone(reader, texts.measured_products, texts.measured_queries)
    if not len(examples):
        raise DataError("no text has a token to guess; expected titles or queries that are read")
    head = MaskedHead.of_folder(encoder, backbone.folder)
    came = head is not None
    if head is None:
        counts = torch.from_numpy(np.bincount(examples.ids, minlength=rows)).float()
        head = MaskedHead.new(encoder, counts)
    task = MaskedTask(
        MaskedModel(encoder, head).eval(),
        examples,
        measured,
        vocabulary=vocabulary,
        pad_id=reader.layout.pad_id,
        batch_size=config.training.batch_size,
        options=config.masking,
    )
    return task, came


def contrastive_task(
    config: AdaptConfig,
    encoder: Encoder,
    reader: Reader,
    tokenizer: Tokenizer,
    texts: UnlabelledTexts,
) -> ContrastiveTask:
    """The task of bringing two views of a product together."""
    by_fields = config.contrast.views == "fields"
    examples = _views(reader, tokenizer, texts.products, texts.queries, by_fields=by_fields)
    if not any(isinstance(module, nn.Dropout) and module.p > 0 for module in encoder.modules()):
        # A text and itself would be the same vector, and teach nothing.
        differ = np.flatnonzero(examples.first_codes != examples.second_codes)
        examples = examples.take(differ)
    if len(examples) < 2:
        raise DataError(
            f"found {len(examples)} texts with two views; expected products with a title and other "
            "fields, or a backbone with dropout, under which one text has two"
        )
    return ContrastiveTask(
        encoder,
        examples,
        _views(reader, tokenizer, texts.measured_products, Texts.empty(0), by_fields=True),
        pad_id=reader.layout.pad_id,
        batch_size=config.training.batch_size,
        options=config.contrast,
    )


def _texts_alone(reader: Reader, products: Products, queries: Texts) -> Sequences:
    """Every product and every query as a text of its own, those without a token left out."""
    both = stacked([read_products_alone(reader, products), read_queries_alone(reader, queries)])
    return both.take(np.flatnonzero(_tells(both, reader)))


def _views(
    reader: Reader, tokenizer: Tokenizer, products: Products, queries: Texts, *, by_fields: bool
) -> Views:
    """Two views of every product and query; both are the whole where there are no two."""
    whole = stacked([read_products_alone(reader, products), read_queries_alone(reader, queries)])
    first = second = whole
    if by_fields:
        others = {name for name, _ in reader.layout.options.fields} - {_TITLE}
        parts = [
            read_products_alone(reader_of_fields(tokenizer, reader.layout, names), products)
            for names in ({_TITLE}, others)
        ]
        has_both = _tells(parts[0], reader) & _tells(parts[1], reader)
        chosen = np.arange(len(whole))
        chosen[: len(products)] += np.where(has_both, len(whole), 0)
        first, second = (stacked([whole, part]).take(chosen) for part in parts)
    told = np.flatnonzero(_tells(first, reader))
    return Views.of(first.take(told), second.take(told))


def _tells(texts: Sequences, reader: Reader) -> NDArray[np.bool_]:
    """Whether each text has any token besides those that stand around it."""
    around = len(reader.layout.before) + len(reader.layout.after_alone)
    return texts.lengths() > around
