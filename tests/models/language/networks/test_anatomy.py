"""Any transformer that reads text is taken apart and put together again, or says why it is not."""

from functools import cache
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModel

from models.errors import ConfigError, MemberError
from models.language.networks.anatomy import Anatomy
from models.language.networks.encoder import Encoder
from models.language.networks.layers import watched
from models.language.networks.loading import quiet
from models.language.presets import LoraOptions
from models.language.reading.sequences import Sequences
from models.language.training.activations import EncodedTexts
from models.training.options import TrainingOptions

LAYERS, WORDS, POSITIONS = 3, 100, 40
SIZES = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "max_position_embeddings": POSITIONS,
    "initializer_range": 0.1,  # so that layers and tokens tell
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
FEW_HEADS = {"num_key_value_heads": 1, "head_dim": 16}
# None of these has a preset, and no line of ours names them but "gemma" and its like as decoders.
ENCODERS = {
    "distilbert": {},
    "electra": {"embedding_size": 16},
    "mpnet": {"pad_token_id": 1},
    "roberta": {"pad_token_id": 1},
    "nomic_bert": {},
    "eurobert": {"num_key_value_heads": 1},
    # Its layers share weights, but for this configuration.
    "albert": {"embedding_size": 16, "num_hidden_groups": LAYERS},
}
DECODERS = {
    "gemma": FEW_HEADS,
    "gemma2": FEW_HEADS | {"sliding_window": 4},
    "gemma3_text": FEW_HEADS | {"sliding_window": 4},
    "mistral": FEW_HEADS | {"sliding_window": 4},
    "qwen3": FEW_HEADS,
    "gpt2": {},
}
every = pytest.mark.parametrize("architecture", [*ENCODERS, *DECODERS])


@cache
def written(architecture: str, **more: object) -> nn.Module:
    """A random model, always the same; nobody may change it."""
    extra = {**ENCODERS, **DECODERS}.get(architecture, {})
    config = AutoConfig.for_model(architecture, **{**SIZES, **extra, **more})
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(4)
        return without_pooler(AutoModel.from_config(config)).eval()


def without_pooler(model: nn.Module) -> nn.Module:
    """`model` as it is loaded."""
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model


def model_of(architecture: str, **more: object) -> nn.Module:
    """The same model for whoever wants to change it."""
    model = written(architecture, **more)
    with torch.random.fork_rng(devices=[]), quiet():
        other = without_pooler(AutoModel.from_config(model.config))
    other.load_state_dict(model.state_dict())
    return other.eval()


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Texts of four lengths, each in two segments."""
    generator = torch.Generator().manual_seed(6)
    ids = torch.randint(3, WORDS, (4, 12), generator=generator)
    lengths = torch.tensor([12, 7, 3, 1])
    mask = (torch.arange(12) < lengths[:, None]).long()
    return ids, mask, (torch.arange(12) >= 5).long().expand(4, 12)


def gap(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).detach().abs().max())


@every
class TestEveryArchitecture:
    @torch.no_grad()
    def test_halves_make_the_whole_at_every_layer(self, architecture):
        encoder = Encoder(written(architecture), "mean")
        ids, mask, segments = batch()
        whole = encoder(ids, mask, segments)
        assert encoder.n_layers == LAYERS
        for layers in range(LAYERS + 1):
            states = encoder.lower(layers, ids, mask, segments)
            assert gap(encoder.upper(layers, states, mask, segments), whole) < 1e-5

    @torch.no_grad()
    def test_the_states_between_are_those_that_the_library_gives(self, architecture):
        model = written(architecture)
        encoder = Encoder(model, "mean")
        ids, mask, segments = batch()
        given = {"token_type_ids": segments} if encoder.takes_segments else {}
        answer = model(input_ids=ids, attention_mask=mask, output_hidden_states=True, **given)
        there = mask.bool()
        for layers in range(LAYERS):
            states = encoder.lower(layers, ids, mask, segments)
            assert gap(states[there], answer.hidden_states[layers][there]) < 1e-5
            above = encoder.lower(layers + 1, ids, mask, segments)
            assert gap(states[there], above[there]) > 0.01
        states = encoder.states(ids, mask, segments)
        assert gap(states[there], answer.last_hidden_state[there]) == 0

    def test_gradients_of_the_upper_half_are_those_of_the_whole(self, architecture):
        encoder = Encoder(model_of(architecture), "mean").eval()
        ids, mask, segments = batch()
        encoder.freeze_below(1)
        top = [parameter for group in encoder.groups() for parameter in group.parameters]
        whole = torch.autograd.grad(encoder(ids, mask, segments).square().sum(), top)
        states = encoder.lower(1, ids, mask, segments)
        assert not states.requires_grad
        upper = torch.autograd.grad(encoder.upper(1, states, mask, segments).square().sum(), top)
        for one, other in zip(whole, upper, strict=True):
            assert gap(one, other) < 1e-4 * max(1.0, float(one.abs().max()))

    def test_every_parameter_has_one_depth(self, architecture):
        encoder = Encoder(model_of(architecture), "mean")
        groups = encoder.groups()
        assert [group.depth for group in groups] == list(range(1, LAYERS + 2))
        inside = [id(p) for group in groups for p in group.parameters]
        assert len(inside) == len(set(inside))
        assert set(inside) == {id(p) for p in encoder.parameters()}
        assert id(encoder.word_embeddings) in {id(p) for p in groups[-1].parameters}

    @torch.no_grad()
    def test_a_text_alone_has_the_vector_it_has_among_others(self, architecture):
        encoder = Encoder(written(architecture), "mean")
        given = batch()
        together = encoder(*given)
        for row, length in enumerate(given[1].sum(dim=1).tolist()):
            alone = encoder(*(part[row : row + 1, :length] for part in given))
            assert gap(alone[0], together[row]) < 1e-5

    @torch.no_grad()
    def test_which_way_it_reads_is_seen(self, architecture):
        assert Anatomy(written(architecture)).reads_forward == (architecture in DECODERS)

    @torch.no_grad()
    def test_a_text_may_be_as_long_as_the_positions_reach(self, architecture):
        anatomy = Anatomy(written(architecture))
        behind_padding = architecture in ("roberta", "mpnet")
        most = anatomy.most_tokens()
        assert most == POSITIONS - (2 if behind_padding else 0)
        ids = torch.full((1, most), 9)
        assert anatomy.states(ids, torch.ones_like(ids), torch.zeros_like(ids)).isfinite().all()
        if behind_padding:
            ids = torch.full((1, most + 1), 9)
            with pytest.raises((IndexError, RuntimeError)):
                anatomy.states(ids, torch.ones_like(ids), torch.zeros_like(ids))

    def test_looking_at_it_changes_nothing(self, architecture):
        model = model_of(architecture)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        kept = [dict(vars(module)) for module in model.modules()]
        torch.manual_seed(3)
        expected = torch.rand(2)
        torch.manual_seed(3)
        Anatomy(model.train())
        assert torch.equal(torch.rand(2), expected)
        assert not any(module.training for module in model.modules())
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        for module, were in zip(model.modules(), kept, strict=True):
            assert vars(module).keys() == were.keys()
            assert not module._forward_pre_hooks

    def test_every_linear_layer_of_every_layer_may_have_an_adapter(self, architecture):
        encoder = Encoder(model_of(architecture), "mean")
        linear = [
            module
            for layer in encoder._anatomy.layers()
            for module in layer.modules()
            if isinstance(module, nn.Linear)
        ]
        if not linear:  # its layers are of another kind
            with pytest.raises(ConfigError, match=rf"'{architecture}', whose layers hold no"):
                encoder.adapt(LoraOptions(rank=2))
            return
        encoder.adapt(LoraOptions(rank=2))
        names = [name for name, p in encoder.named_parameters() if p.requires_grad]
        assert len(names) == 2 * len(linear)
        assert encoder.n_layers == LAYERS


def test_segments_are_taken_where_there_are_several():
    taken = {name for name in ENCODERS if Anatomy(written(name)).takes_segments}
    assert taken == {"electra", "roberta", "nomic_bert", "albert"}
    assert not Anatomy(written("roberta", type_vocab_size=1)).takes_segments


def test_a_model_without_a_limit_has_none():
    sizes = {"n_layer": LAYERS, "n_head": 2}
    config = AutoConfig.for_model("bloom", vocab_size=WORDS, hidden_size=32, **sizes)
    assert Anatomy(AutoModel.from_config(config)).most_tokens() is None


class TestWhole:
    """Models that cannot be cut between layers."""

    def shared(self) -> Encoder:
        return Encoder(model_of("albert", num_hidden_groups=1), "mean").eval()

    @torch.no_grad()
    def test_it_is_usable(self):
        encoder = self.shared()
        ids, mask, segments = batch()
        expected = encoder.backbone(
            input_ids=ids, attention_mask=mask, token_type_ids=segments
        ).last_hidden_state
        assert torch.equal(encoder.states(ids, mask, segments), expected)
        assert encoder.n_layers == 1
        (group,) = encoder.groups()
        assert len(group.parameters) == len(list(encoder.parameters()))

    def test_cutting_it_is_refused(self):
        encoder = self.shared()
        ids, mask, segments = batch()
        for ask in (
            lambda: encoder.lower(0, ids, mask, segments),
            lambda: encoder.upper(1, torch.zeros(4, 12, 32), mask, segments),
            lambda: encoder.freeze_below(0),
            lambda: encoder.train_top(1),
            lambda: encoder.train_top(2),
        ):
            with pytest.raises(ConfigError, match=r"'albert' cannot be cut.*share weights.*train"):
                ask()

    # They answer well, but their layers with something else than one state per token.
    @pytest.mark.parametrize(
        ("architecture", "more"), [("squeezebert", {"embedding_size": 32}), ("openai-gpt", {})]
    )
    @torch.no_grad()
    def test_one_whose_layers_cannot_be_watched_is_usable_too(self, architecture, more):
        config = AutoConfig.for_model(architecture, **SIZES, **more)
        with torch.random.fork_rng(devices=[]), quiet():
            torch.manual_seed(4)
            encoder = Encoder(AutoModel.from_config(config), "mean")
        ids, mask, segments = batch()
        assert encoder.n_layers == 1
        assert encoder(ids, mask, segments).isfinite().all()
        with pytest.raises(ConfigError, match=r"cannot be cut.*could not be watched \(TypeError"):
            encoder.train_top(1)

    def texts(self, encoder: Encoder, trained: int | None, megabytes: int = 1) -> EncodedTexts:
        options = TrainingOptions(
            trained_layers=trained, cache_precision="fp32", cache_megabytes=megabytes
        )
        return EncodedTexts.prepare(encoder, Sequences.of([[5, 6, 7], [8]]), 0, options)

    @pytest.mark.parametrize("trained", [1, 2, 7])
    def test_training_some_of_its_layers_is_refused(self, trained):
        with pytest.raises(ConfigError, match=r"cannot be cut.*trained_layers 0"):
            self.texts(self.shared(), trained)

    def test_all_or_nothing_of_it_may_be_trained(self):
        rows = torch.arange(2).numpy()
        frozen = self.shared()
        vectors = self.texts(frozen, 0).vectors(rows, torch.device("cpu"))
        assert not vectors.requires_grad
        assert not frozen.groups()
        free = self.texts(self.shared(), None).vectors(rows, torch.device("cpu"))
        assert free.requires_grad
        assert gap(free, vectors) < 1e-6

    @pytest.mark.parametrize("lack", ["megabytes", "disk"])
    def test_none_of_it_may_be_trained_where_nothing_can_be_kept(self, monkeypatch, lack):
        rows = torch.arange(2).numpy()
        expected = self.texts(self.shared(), 0).vectors(rows, torch.device("cpu"))

        def full(*_):
            raise OSError(28, "No space left on device")

        if lack == "disk":
            monkeypatch.setattr("os.posix_fallocate", full)
        encoder = self.shared()
        texts = self.texts(encoder, 0, megabytes=1 if lack == "disk" else 0)
        assert "computed at every step" in texts.note
        encoder.train()  # no dropout there either
        found = texts.vectors(rows, torch.device("cpu"))
        assert not found.requires_grad
        assert gap(found, expected) < 1e-6

    def test_it_may_have_adapters(self):
        encoder = self.shared()
        encoder.adapt(LoraOptions(rank=2))
        trained = [name for name, p in encoder.named_parameters() if p.requires_grad]
        assert trained
        assert all("lora_" in name for name in trained)
        merged = encoder.merged()
        with torch.no_grad():
            assert gap(merged(*batch()), encoder(*batch())) < 1e-6


class Toy(nn.Module):
    """Three layers that each add something, with one thing or another that stands in the way."""

    def __init__(self, fault: str = "") -> None:
        super().__init__()
        self.fault = fault
        # It has kinds of segments, and does not take them.
        self.config = SimpleNamespace(
            model_type="toy", num_hidden_layers=LAYERS, hidden_size=8, type_vocab_size=2
        )
        self.words = nn.Embedding(WORDS, 8)
        self.more = nn.Embedding(WORDS, 8)
        self.layers = nn.ModuleList([ToyLayer() for _ in range(LAYERS)])
        if fault == "own weights":
            self.scale = nn.Parameter(torch.ones(8))

    def get_input_embeddings(self) -> nn.Module:
        return self.words

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        states = self.words(input_ids)
        beside = torch.zeros_like(states)
        if self.fault == "from the tokens":
            beside = self.more(input_ids)
        order = reversed(self.layers) if self.fault == "out of turn" else self.layers
        for at, layer in enumerate(order):
            if self.fault == "from the states":
                mask = attention_mask[..., None]  # without which padding would tell
                beside = (states * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
            states = layer(states, beside, at if self.fault == "a number" else None)
            if self.fault == "between":
                states = states * 1.5
        return SimpleNamespace(last_hidden_state=states)


class ToyLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(
        self, states: torch.Tensor, beside: torch.Tensor, number: int | None
    ) -> torch.Tensor:
        return states + self.linear(states + beside) * (1 if number is None else number)


class TestFaults:
    @pytest.mark.parametrize("fault", ["", "a number"])
    @torch.no_grad()
    def test_without_one_it_can_be_cut(self, fault):
        anatomy = Anatomy(Toy(fault))
        assert anatomy.whole == ""
        ids, mask, segments = batch()
        states = anatomy.lower(2, ids, mask, segments)
        assert gap(anatomy.upper(2, states, mask), anatomy.states(ids, mask, segments)) == 0

    @pytest.mark.parametrize(
        ("fault", "said"),
        [
            ("from the tokens", "does not follow from the mask"),
            ("from the states", "does not follow from the mask"),
            ("between", "comes between its layers 0 and 1"),
            ("out of turn", r"called its 3 layers as \[2, 1, 0\]"),
            ("own weights", "belong to none of its parts"),
        ],
    )
    def test_with_one_it_cannot(self, fault, said):
        toy = Toy(fault)
        anatomy = Anatomy(toy)
        assert anatomy.layers() == [toy]
        with pytest.raises(MemberError, match=said):
            anatomy.lower(1, *batch())

    @pytest.mark.parametrize("architecture", ["fnet", "convbert"])
    def test_a_model_whose_padding_tells_is_refused(self, architecture):
        with pytest.raises(MemberError, match=rf"'{architecture}'.*depends on the padding"):
            Anatomy(written(architecture))

    @pytest.mark.parametrize("architecture", ["t5", "vit"])
    def test_a_model_that_does_not_read_text_alone_is_refused(self, architecture):
        sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "d_model": 32}
        config = AutoConfig.for_model(architecture, **sizes)
        with quiet():
            model = AutoModel.from_config(config)
        with pytest.raises(MemberError, match=rf"'{architecture}' does not answer.*reads text"):
            Anatomy(model)


class TestWatching:
    def test_layers_are_as_before_when_it_ends(self):
        toy = Toy()
        toy.layers[1].forward = own = toy.layers[1].forward  # as libraries do that wrap a layer
        with pytest.raises(ValueError, match="stop"), watched(list(toy.layers)):
            raise ValueError("stop")
        assert "forward" not in vars(toy.layers[0])
        assert toy.layers[1].forward is own

    @torch.no_grad()
    def test_everything_that_passes_is_seen(self):
        toy = Toy("a number")
        ids, mask, _ = batch()
        expected = toy(input_ids=ids, attention_mask=mask).last_hidden_state
        with watched(list(toy.layers)) as passage:
            found = toy(input_ids=ids, attention_mask=mask).last_hidden_state
        assert torch.equal(found, expected)
        assert passage.layers == [0, 1, 2]
        assert [beside.positional[1] for beside in passage.beside] == [0, 1, 2]
        assert torch.equal(passage.entered[0], toy.words(ids))
        assert passage.entered[2] is passage.left[1]
        assert passage.left[2] is found

    @torch.no_grad()
    def test_layers_that_are_not_run_answer_what_they_are_told(self):
        toy = Toy()
        ids, mask, _ = batch()
        with watched(list(toy.layers), lambda at, states: states + at) as passage:
            found = toy(input_ids=ids, attention_mask=mask).last_hidden_state
        assert torch.equal(found, toy.words(ids) + 1 + 2)
        assert len(passage.entered) == LAYERS
