"""A backbone with its pooling: token ids in, one vector per text out, whole or by halves."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from torch import Tensor, nn

from models.errors import ConfigError, EsciError, MemberError, ReleaseError
from models.files import write_json
from models.language.backbones import Backbone
from models.language.limits import (
    refuse_joined,
    refuse_keeping,
    refuse_layers,
    refuse_long,
    refuse_unseeing,
    refuse_whole,
)
from models.language.networks.anatomy import Anatomy
from models.language.networks.loading import load_transformer, quiet
from models.language.networks.markers import add_markers
from models.language.networks.pooling import pooled, pooled_width
from models.language.presets import LoraOptions, PairPooling, Preset
from models.language.reading.reader import Reader, TextOptions, layout_of
from models.language.sources.folder import ENCODER_FILE
from models.language.sources.saved import ENCODER_FORMAT, SavedEncoder, read_saved_encoder
from models.language.sources.tokenizer import read_tokenizer
from models.training.task import ParameterGroup
from models.typed import plain


class Encoder(nn.Module):
    """A transformer and how its states become one vector per text.

    `ids`, `mask` and `segments` are (texts, length), padded on the right. A text's vector does not
    depend on the padding or on the texts beside it. Frozen layers stay in evaluation mode, so that
    what they answer can be stored.
    """

    def __init__(self, backbone: Any, pooling: PairPooling, preset: Preset | None = None) -> None:
        super().__init__()
        self.backbone = backbone  # the transformer of the library, without a head
        self.pooling: PairPooling = pooling
        self.preset = preset  # kept with what is saved, which may be trained further
        self._anatomy = Anatomy(backbone)
        self._adapted = False
        self._frozen: int | None = None  # layers, None when not even the embeddings are

    @property
    def state_width(self) -> int:
        """Numbers in a token's state."""
        return int(self.backbone.config.hidden_size)

    @property
    def width(self) -> int:
        """Numbers in a text's vector."""
        return pooled_width(self.state_width, self.pooling)

    @property
    def n_layers(self) -> int:
        """Layers of the backbone; 1 where it cannot be cut between them."""
        return len(self._anatomy.layers())

    @property
    def takes_segments(self) -> bool:
        """Whether it matters which of two joined texts a token belongs to."""
        return self.embeds_segments or self.pooling == "compared"

    @property
    def embeds_segments(self) -> bool:
        """Whether the backbone itself is told which of two joined texts a token belongs to."""
        return self._anatomy.takes_segments

    @property
    def reads_forward(self) -> bool:
        """Whether a token sees only those before it."""
        return self._anatomy.reads_forward

    @property
    def most_tokens(self) -> int | None:
        """The longest text that the backbone has positions for; None where there is no limit."""
        return self._anatomy.most_tokens()

    @property
    def word_embeddings(self) -> nn.Parameter:
        """The table of token vectors, (vocabulary, width)."""
        table: nn.Parameter = self.backbone.get_input_embeddings().weight
        return table

    def forward(self, ids: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
        """One vector per text, (texts, width)."""
        return pooled(self.states(ids, mask, segments), mask, segments, self.pooling)

    def states(self, ids: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
        """The states of all tokens, (texts, length, width); those of padding mean nothing."""
        return self._anatomy.states(ids, mask, segments)

    def lower(self, layers: int, ids: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
        """The states that enter layer `layers`, lowest first; with 0 those that embeddings give."""
        self._check(layers)
        self._refuse_whole()
        return self._anatomy.lower(layers, ids, mask, segments)

    def upper(self, layers: int, states: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
        """What `forward` answers, from the `states` that `lower(layers, …)` gave."""
        self._check(layers)
        self._refuse_whole()
        top = self._anatomy.upper(layers, states, mask)
        return pooled(top, mask, segments, self.pooling)

    def freeze_below(self, layers: int) -> None:
        """Take the embeddings and the lowest `layers` layers out of training; with all, the rest.

        What was frozen before stays so.
        """
        self._check(layers)
        if layers < self.n_layers:
            self._refuse_whole()
        self._frozen = max(layers, self._frozen or 0)
        for module in self._frozen_modules():
            module.requires_grad_(False)
        self.train(self.training)

    def train_top(self, layers: int) -> int:
        """Freeze all but the top `layers` layers, and return how many that leaves frozen."""
        if layers:
            self._refuse_whole()
        refuse_layers(layers, self.n_layers)
        frozen = self.n_layers - layers
        self.freeze_below(frozen)
        return frozen

    def train(self, mode: bool = True) -> Self:
        """Training mode or not; frozen layers stay in evaluation mode."""
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        return self

    def adapt(self, options: LoraOptions) -> None:
        """Put a low-rank adapter beside every linear layer and freeze all else.

        Adapters begin by changing nothing. They are drawn from torch's generator.
        """
        # Seconds to import, for the few who need it.
        from models.language.networks.adapters import add_adapters

        add_adapters(self.backbone, self._anatomy.layers(), options)
        self._adapted = True

    def groups(self) -> list[ParameterGroup]:
        """What takes gradients, by depth: 1 the top layer … `n_layers` + 1 the embeddings."""
        layers = list(self._anatomy.layers())
        parts = [[*self._anatomy.crown(), layers[-1]], *([layer] for layer in layers[-2::-1])]
        parts.append(self._anatomy.base())
        groups = []
        for depth, modules in enumerate(parts, start=1):
            trained = [
                parameter
                for module in modules
                for parameter in module.parameters()
                if parameter.requires_grad
            ]
            if trained:
                groups.append(ParameterGroup(depth, trained))
        return groups

    def merged(self) -> "Encoder":
        """An encoder that answers the same without adapters; itself where there are none."""
        if not self._adapted:
            return self
        from models.language.networks.adapters import fold_adapters

        copy = deepcopy(self)
        fold_adapters(copy.backbone)
        copy._adapted = False
        return copy

    def save(self, folder: Path) -> None:
        """Write config.json, safetensors and encoder.json; adapters are merged first."""
        folder.mkdir(parents=True, exist_ok=True)
        with quiet():
            self.merged().backbone.save_pretrained(folder)
        for weights in folder.glob("*.safetensors"):  # written for their owner alone
            weights.chmod(0o644)
        saved = SavedEncoder(ENCODER_FORMAT, self.pooling, self.preset)
        write_json(folder / ENCODER_FILE, plain(saved))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The encoder saved in `folder`, in evaluation mode."""
        try:
            saved = read_saved_encoder(folder)
            transformer = load_transformer(folder)
        except EsciError as error:
            raise ReleaseError(
                f"{folder} holds no whole encoder: {error}; restore the folder, or train it again"
            ) from error
        return cls(transformer, saved.pooling, saved.preset).eval()

    def _check(self, layers: int) -> None:
        if not 0 <= layers <= self.n_layers:
            raise ConfigError(
                f"{layers} layers of a backbone that has {self.n_layers}; expected 0 to "
                f"{self.n_layers}"
            )

    def _refuse_whole(self) -> None:
        refuse_whole(self.backbone.config.model_type, self._anatomy.whole)

    def _frozen_modules(self) -> list[nn.Module]:
        if self._frozen is None:
            return []
        if self._frozen == self.n_layers:
            return [self.backbone]
        return [*self._anatomy.base(), *self._anatomy.layers()[: self._frozen]]


def open_encoder(
    backbone: Backbone,
    text: TextOptions,
    *,
    pooling: PairPooling | None = None,
    lora: LoraOptions | None = None,
    checkpointing: bool = False,
) -> tuple[Encoder, Reader]:
    """The encoder and the reader of `backbone`, with tokens for field markers where they are asked.

    A marker that is new begins as the mean of the words that name its field. Adapters are drawn
    from torch's generator. Backbones whose preset goes without markers get none. Where the two
    texts of a pair are compared, the reader tells them apart for a backbone that does not.
    """
    transformer = load_transformer(backbone.folder)
    encoder = Encoder(transformer, pooling or backbone.preset.pooling, backbone.preset)
    refuse_long(backbone.name, text.max_tokens, encoder.most_tokens, backbone.preset)
    refuse_unseeing(backbone.name, encoder.pooling, reads_forward=encoder.reads_forward)
    if checkpointing:
        can = bool(transformer.supports_gradient_checkpointing)
        refuse_keeping(backbone.name, transformer.config.model_type, can_recompute=can)
    text = replace(text, markers=text.markers and backbone.preset.markers)
    tokenizer, end = read_tokenizer(backbone.folder)
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values())
    if largest >= len(encoder.word_embeddings):
        raise MemberError(
            f"backbone {backbone.name!r} has {len(encoder.word_embeddings)} token vectors and a "
            f"tokenizer with ids up to {largest}; expected the tokenizer that it was trained with"
        )
    fields = [name for name, _ in text.fields]
    markers = add_markers(tokenizer, transformer, fields) if text.markers else {}
    layout = layout_of(tokenizer, text, markers)
    if end is not None:
        # Decoders come without tokens that part two texts, or one to read the whole text from;
        # and a text of no tokens at all has no states to pool.
        layout = replace(
            layout,
            between=layout.between or [end],
            after=layout.after or [end],
            after_alone=layout.after_alone or [end],
        )
    if encoder.pooling == "compared" and layout.second_segment != 1:
        # As of RoBERTa's descendants and ModernBERT: all of a pair would count as its first text.
        refuse_joined(backbone.name, embeds_segments=encoder.embeds_segments)
        layout = replace(layout, second_segment=1)
    if lora is not None:
        encoder.adapt(lora)
    if checkpointing:
        transformer.activation_checkpointing_enable({"use_reentrant": False})
        # That made embeddings take gradients even where they are frozen, which only the reentrant
        # kind needs, and which would send gradients through all frozen layers.
        transformer.disable_input_require_grads()
    return encoder, Reader(tokenizer, layout)
