"""The tokenizer of a folder: read, or made once from the vocabulary that is there instead."""

import base64
import io
from pathlib import Path

import pytest
import sentencepiece
from tokenizers import Tokenizer

from models.errors import MemberError
from models.files import read_json, write_json
from models.language.backbones import find_backbone
from models.language.presets import PRESETS
from models.language.sources.tokenizer import read_tokenizer, with_tokenizer
from models.language.tiny import write_tiny
from tests.models.language.sources.cache import empty_cache, put_in_cache
from tests.tiny import tiny_products

TEXTS = [*tiny_products().field("title")]


@pytest.fixture
def folder(tmp_path):
    return write_tiny(tmp_path / "folder", "bert", TEXTS)


def with_vocabulary(folder: Path) -> Path:
    """`folder` with a vocabulary in place of its tokenizer."""
    vocabulary = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    (folder / "tokenizer.json").unlink()
    by_id = sorted(vocabulary, key=vocabulary.__getitem__)
    (folder / "vocab.txt").write_text("\n".join(by_id) + "\n", encoding="utf-8")
    return folder


def with_sentences(folder: Path) -> bytes:
    """A vocabulary of sentencepiece in place of the tokenizer of `folder`, and its content."""
    (folder / "tokenizer.json").unlink()
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 5),
        model_writer=written,
        vocab_size=120,
        hard_vocab_limit=False,
        pad_id=0,
        bos_id=1,
        eos_id=2,
        unk_id=3,
        pad_piece="[PAD]",
        bos_piece="[CLS]",
        eos_piece="[SEP]",
        unk_piece="[UNK]",
        minloglevel=2,
    )
    (folder / "spm.model").write_bytes(written.getvalue())
    return written.getvalue()


class TestMaking:
    def test_a_vocabulary_is_converted_beside_the_folder_and_not_in_it(self, folder, tmp_path):
        before = Tokenizer.from_file(str(folder / "tokenizer.json"))
        with_vocabulary(folder)
        kept = {path.name for path in folder.iterdir()}
        found = []
        for _ in range(2):  # the second time over what the first left
            found.append(find_backbone(str(folder), tmp_path / "scratch"))
            assert {path.name for path in folder.iterdir()} == kept
            assert found[-1].folder.is_relative_to(tmp_path / "scratch")
            after, _ = read_tokenizer(found[-1].folder)
            for text in TEXTS:
                assert after.encode(text, "case").ids == before.encode(text, "case").ids
        assert found[0] == found[1]

    def test_what_is_read_of_the_folder_is_linked_and_nothing_else(self, folder, tmp_path):
        with_vocabulary(folder)
        (folder / "1_Pooling").mkdir()
        write_json(folder / "1_Pooling" / "config.json", {"pooling_mode": "mean"})
        for file in ("module.py", "pytorch_model.bin", "README.md"):
            (folder / file).write_text("")
        found = find_backbone(str(folder), tmp_path / "scratch")
        assert found.preset.pooling == "mean"
        files = {p.relative_to(found.folder).as_posix() for p in found.folder.rglob("*.*")}
        assert files == {
            "config.json",
            "model.safetensors",
            "vocab.txt",
            "tokenizer.json",
            "1_Pooling/config.json",
        }

    def test_two_folders_of_one_name_do_not_meet(self, tmp_path):
        found = []
        for at, texts in enumerate((TEXTS, ["quokka marsupials"] * 5)):
            # As the last two parts of a path often are.
            folder = write_tiny(tmp_path / str(at) / "owner" / "model", "bert", texts, seed=at)
            found.append(find_backbone(str(with_vocabulary(folder)), tmp_path / "scratch"))
        assert found[0].folder != found[1].folder
        kept = [read_tokenizer(backbone.folder)[0].get_vocab() for backbone in found]
        assert kept[0] != kept[1]
        weights = [(backbone.folder / "model.safetensors").read_bytes() for backbone in found]
        assert weights[0] != weights[1]

    def test_a_file_that_went_from_the_folder_is_no_longer_linked(self, folder, tmp_path):
        with_vocabulary(folder)
        write_json(folder / "encoder.json", {"format": 2, "pooling": "mean", "preset": None})
        first = find_backbone(str(folder), tmp_path / "scratch")
        (folder / "encoder.json").unlink()
        second = find_backbone(str(folder), tmp_path / "scratch")
        assert (first.preset.pooling, second.preset.pooling) == ("mean", "cls")
        assert first.sha256 != second.sha256

    def test_one_of_sentencepiece_cuts_as_that_does(self, tmp_path):
        folder = write_tiny(tmp_path / "folder", "deberta-v2", TEXTS)
        oracle = sentencepiece.SentencePieceProcessor(model_proto=with_sentences(folder))
        path = folder / "config.json"
        write_json(path, {**read_json(path), "vocab_size": oracle.get_piece_size()})
        tokenizer, _ = read_tokenizer(find_backbone(str(folder), tmp_path / "scratch").folder)
        for text in TEXTS:
            assert tokenizer.encode(text, add_special_tokens=False).ids == oracle.encode(text)

    @pytest.mark.parametrize(
        ("architecture", "found"),
        [("bert", "has 5 tokens for a model of"), ("deberta-v2", "no tokenizer could be made")],
    )
    def test_one_that_is_broken_is_refused(self, tmp_path, architecture, found):
        folder = write_tiny(tmp_path / "folder", architecture, TEXTS)
        (folder / "tokenizer.json").unlink()
        (folder / "spm.model").write_bytes(b"\x00\x01")
        with pytest.raises(MemberError, match=rf"{found}.*expected tokenizer.json, or a whole spm"):
            find_backbone(str(folder), tmp_path / "scratch")
        assert not list((tmp_path / "scratch").iterdir())


class TestNeeds:
    @pytest.fixture
    def missing(self, monkeypatch):
        """Nothing is installed."""
        monkeypatch.setattr("models.language.sources.tokenizer.find_spec", lambda _: None)

    @pytest.mark.usefixtures("missing")
    def test_sentencepiece_is_named_where_it_is_missing(self, tmp_path):
        folder = write_tiny(tmp_path / "folder", "deberta-v2", TEXTS)
        with_sentences(folder)
        said = r"spm\.model alone, and the module sentencepiece.*expected tokenizer\.json.*training"
        with pytest.raises(MemberError, match=said):
            find_backbone(str(folder), tmp_path / "scratch")

    @pytest.mark.usefixtures("missing")
    def test_tiktoken_is_named_where_it_is_missing(self, folder, tmp_path):
        (folder / "tokenizer.json").unlink()
        lines = [f"{base64.b64encode(bytes([at])).decode()} {at}\n" for at in range(256)]
        (folder / "tokenizer.model").write_text("".join(lines))
        with pytest.raises(MemberError, match=r"module tiktoken.*pip install tiktoken"):
            find_backbone(str(folder), tmp_path / "scratch")

    @pytest.mark.usefixtures("missing")
    def test_a_list_of_words_takes_neither(self, folder, tmp_path):
        assert with_tokenizer("any", with_vocabulary(folder), tmp_path / "scratch") != folder

    def test_a_preset_knows_what_its_tokenizer_is_made_from(self, folder, tmp_path, monkeypatch):
        cache = empty_cache(tmp_path, monkeypatch)
        with_vocabulary(folder)
        assert PRESETS["xlm-roberta-base"].tokenizer == "sentencepiece"
        put_in_cache(cache, PRESETS["xlm-roberta-base"].hub, folder)
        with pytest.raises(MemberError, match=r"lacks tokenizer\.json \(or spm\.model or"):
            find_backbone("xlm-roberta-base", tmp_path / "scratch")
        assert PRESETS["ms-marco-minilm-l6"].tokenizer == "wordpiece"
        put_in_cache(cache, PRESETS["ms-marco-minilm-l6"].hub, folder)
        assert find_backbone("ms-marco-minilm-l6", tmp_path / "scratch")


class TestReading:
    def test_a_broken_one_is_refused(self, folder):
        (folder / "tokenizer.json").write_text("{}")
        with pytest.raises(MemberError, match=r"tokenizer\.json is no tokenizer"):
            read_tokenizer(folder)

    def test_padding_is_the_models_own(self, folder):
        tokenizer, end = read_tokenizer(folder)
        assert tokenizer.padding is not None
        assert tokenizer.padding["pad_id"] == tokenizer.token_to_id("[PAD]")
        assert end is None

    @pytest.mark.parametrize("ends", [1, [1, 2]])
    def test_without_padding_what_ends_a_text_serves(self, tmp_path, ends):
        folder = write_tiny(tmp_path, "llama", TEXTS)
        path = folder / "config.json"
        write_json(path, {**read_json(path), "pad_token_id": None, "eos_token_id": ends})
        without = Tokenizer.from_file(str(folder / "tokenizer.json"))
        without.no_padding()
        without.save(str(folder / "tokenizer.json"))
        tokenizer, end = read_tokenizer(folder)
        assert end == 1
        assert tokenizer.padding is not None
        assert tokenizer.padding["pad_id"] == 1

    @pytest.mark.parametrize("none", [-1, [], [-1], "[PAD]", [[1]]])
    def test_an_id_that_is_none_is_passed_over(self, folder, none):
        path = folder / "config.json"
        write_json(path, {**read_json(path), "pad_token_id": none, "eos_token_id": none})
        write_json(folder / "tokenizer_config.json", {"pad_token": "[MASK]"})
        tokenizer, end = read_tokenizer(folder)
        assert tokenizer.padding is not None
        assert tokenizer.padding["pad_id"] == tokenizer.token_to_id("[MASK]")
        assert end is None

    @pytest.mark.parametrize("token", ["[MASK]", {"content": "[MASK]", "special": True}])
    def test_its_configuration_names_padding_where_the_models_does_not(self, folder, token):
        path = folder / "config.json"
        write_json(path, {**read_json(path), "pad_token_id": None})
        write_json(folder / "tokenizer_config.json", {"pad_token": token})
        tokenizer, _ = read_tokenizer(folder)
        assert tokenizer.padding is not None
        assert tokenizer.padding["pad_token"] == "[MASK]"  # noqa: S105 — a token of text
