"""Small random networks to export, and texts to ask them."""

import atexit
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from models.language.reading.sequences import Sequences
from models.language.serving import network
from models.language.serving.export import export_form
from models.language.serving.manifest import FormReport
from models.language.serving.network import as_exported
from models.language.serving.options import ServingOptions

PAD, VOCABULARY, WIDTH = 0, 120, 64
QUERY_ROWS = np.arange(200, dtype=np.int32) // 4  # of the texts that judge an export

# No time is measured, so that exports take none; the limits suit a random network, whose logits
# are larger and whose labels lie closer together than those of a trained one.
OPTIONS = ServingOptions(measure_seconds=0, largest_difference=2.0, flip_rate=0.05)


class Classifier(nn.Module):
    """A BERT that reads the first token, with four logits."""

    def __init__(self, takes_segments: bool = True) -> None:
        super().__init__()
        config = BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=128,
            max_position_embeddings=128,
            initializer_range=0.15,
        )
        self.bert = BertModel(config, add_pooling_layer=False)
        self.head = nn.Linear(WIDTH, 4)
        nn.init.normal_(self.head.weight)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.bias, std=0.2)  # else forgetting one would change nothing
        self.takes_segments = takes_segments

    def forward(self, ids: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
        given = {"token_type_ids": segments} if self.takes_segments else {}
        states = self.bert(input_ids=ids, attention_mask=mask, **given).last_hidden_state
        return self.pooled(states, mask)

    def pooled(self, states: Tensor, mask: Tensor) -> Tensor:
        del mask
        return self.head(states[:, 0])


class Mean(Classifier):
    """The same over the mean of all tokens."""

    def pooled(self, states: Tensor, mask: Tensor) -> Tensor:
        weights = mask.unsqueeze(-1).float()
        return self.head((states * weights).sum(1) / weights.sum(1))


def classifier(
    kind: type[Classifier] = Classifier, *, seed: int = 0, **options: bool
) -> Classifier:
    """A network of `kind`, always the same for a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(**options).eval()


def texts(count: int, *, seed: int = 0, longest: int = 60) -> Sequences:
    """Texts of many lengths, whose second half is of the other segment."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(2, longest + 1, size=count)
    found = Sequences.of([generator.integers(1, VOCABULARY, size=n).tolist() for n in lengths])
    places = np.concatenate([np.arange(n) >= n // 2 for n in lengths]) if count else []
    return Sequences(found.ids, np.asarray(places, np.uint8), found.starts)


def export(
    module: nn.Module,
    folder: Path,
    *,
    options: ServingOptions = OPTIONS,
    takes_segments: bool = True,
    rows_are_logits: bool = False,
) -> FormReport:
    """`module` exported, with texts of its own to be judged on."""
    held_out = texts(200, seed=1)
    return export_form(
        module,
        folder,
        sample=texts(100, seed=2),
        pad_id=PAD,
        takes_segments=takes_segments,
        options=options,
        answers=lambda run: run(held_out),
        query_rows=QUERY_ROWS,
        rows_are_logits=rows_are_logits,
    )


@cache
def plainly(kind: type[Classifier]) -> onnx.ModelProto:
    """What torch exports of `classifier(kind)`, made once, for torch needs seconds for it."""
    return as_exported(classifier(kind), texts(4), takes_segments=True)


@cache
def exported(kind: type[Classifier] = Classifier) -> Path:
    """A folder with the export of `classifier(kind)`, made once."""
    folder = Path(mkdtemp(prefix="form-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(network, "as_exported", lambda *_: plainly(kind))
        export(classifier(kind), folder)
    return folder


def answers(module: nn.Module, asked: Sequences) -> NDArray[np.float32]:
    """What torch says, each text by itself."""
    rows = []
    with torch.inference_mode():
        for text in range(len(asked)):
            one = asked.take(np.array([text]))
            ids = torch.from_numpy(one.ids.astype(np.int64))[None]
            segments = torch.from_numpy(one.segments.astype(np.int64))[None]
            rows.append(module(ids, torch.ones_like(ids), segments).numpy()[0])
    return np.array(rows, np.float32)
