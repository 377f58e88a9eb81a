"""Which tokens are hidden: the shares, whole words, and never what is no word."""

import pytest
import torch
from tokenizers import Tokenizer

from models.errors import ConfigError, MemberError
from models.language.pretraining.masking import Vocabulary, choose, corrupted
from models.language.pretraining.options import ContrastOptions, MaskingOptions
from models.language.tiny import write_tiny

TEXTS = ["hydraulic garden hose reel with a brass nozzle", "niño zapatillas", "mug"] * 3
ENCODERS = ("bert", "deberta-v2", "xlm-roberta", "big_bird", "modernbert")


@pytest.fixture(scope="module", params=ENCODERS)
def tokenizer(request, tmp_path_factory):
    folder = write_tiny(tmp_path_factory.mktemp(request.param), request.param, TEXTS)
    found = Tokenizer.from_file(str(folder / "tokenizer.json"))
    found.no_truncation()
    return found


def batch(tokenizer, texts):
    found = tokenizer.encode_batch(texts)  # padded
    ids = torch.tensor([encoding.ids for encoding in found])
    return ids, torch.tensor([encoding.attention_mask for encoding in found]), found


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_special_tokens_and_padding_are_never_guessed_and_every_text_has_something(tokenizer):
    vocabulary = Vocabulary.of(tokenizer, tokenizer.get_vocab_size() + 7)
    ids, mask, found = batch(tokenizer, TEXTS)
    special = torch.tensor([encoding.special_tokens_mask for encoding in found]).bool()
    for seed in range(20):
        chosen = choose(ids, mask, vocabulary, MaskingOptions(), seeded(seed))
        assert not (chosen & (special | (mask == 0))).any()
        assert chosen.any(dim=1).all()


def test_a_text_of_special_tokens_alone_has_nothing_to_guess(tokenizer):
    vocabulary = Vocabulary.of(tokenizer, tokenizer.get_vocab_size())
    ids, mask, _ = batch(tokenizer, ["", "mug"])
    chosen = choose(ids, mask, vocabulary, MaskingOptions(), seeded())
    assert chosen.any(dim=1).tolist() == [False, True]


def test_whole_words_are_chosen_or_none_of_their_pieces(tokenizer):
    vocabulary = Vocabulary.of(tokenizer, tokenizer.get_vocab_size())
    text = "zyxwv garden qqq hose brass unhydraulic mug"
    ids, mask, (encoding,) = batch(tokenizer, [text])
    # The word of each piece, by how many spaces end before the piece does.
    words = {}
    for at, (_, end) in enumerate(encoding.offsets):
        if not encoding.special_tokens_mask[at]:
            words.setdefault(
                text[: max(end, 1)].rstrip().count(" ") + (text[end - 1] == " "), set()
            ).add(at)
    assert len(words) == 7
    assert any(len(places) > 1 for places in words.values())
    seen = set()
    for seed in range(200):
        chosen = choose(ids, mask, vocabulary, MaskingOptions(share=0.3), seeded(seed))[0]
        for word, places in words.items():
            flags = {bool(chosen[at]) for at in places}
            assert len(flags) == 1, (word, [encoding.tokens[at] for at in places])
            seen |= {word} if flags == {True} else set()
    assert seen == set(words)
    apart = choose(ids, mask, vocabulary, MaskingOptions(share=0.3, whole_words=False), seeded(1))[
        0
    ]
    halves = [len({bool(apart[at]) for at in places}) for places in words.values()]
    assert 2 in halves


@pytest.fixture(scope="module")
def long_batch(tmp_path_factory):
    folder = write_tiny(tmp_path_factory.mktemp("bert"), "bert", TEXTS)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    vocabulary = Vocabulary.of(tokenizer, tokenizer.get_vocab_size() + 50)
    ordinary = torch.nonzero(~vocabulary.is_special).squeeze(1)
    ids = ordinary[torch.randint(len(ordinary), (400, 200), generator=seeded())]
    return ids, torch.ones_like(ids), vocabulary


@pytest.mark.parametrize("whole_words", [True, False])
@pytest.mark.parametrize("share", [0.15, 0.4])
def test_the_share_of_guessed_tokens_is_the_one_asked_for(long_batch, whole_words, share):
    ids, mask, vocabulary = long_batch
    options = MaskingOptions(share=share, whole_words=whole_words)
    chosen = choose(ids, mask, vocabulary, options, seeded())
    assert chosen.float().mean().item() == pytest.approx(share, abs=0.01)


def test_of_the_guessed_tokens_eight_in_ten_are_masked_and_one_replaced(long_batch):
    ids, mask, vocabulary = long_batch
    chosen = choose(ids, mask, vocabulary, MaskingOptions(), seeded())
    shown = corrupted(ids, chosen, vocabulary, MaskingOptions(), seeded(1))
    assert torch.equal(shown[~chosen], ids[~chosen])
    masked = (shown == vocabulary.mask_id)[chosen].float().mean().item()
    kept = (shown == ids)[chosen].float().mean().item()
    assert masked == pytest.approx(0.8, abs=0.02)
    assert kept == pytest.approx(0.1, abs=0.02)
    replaced = shown[chosen & (shown != ids) & (shown != vocabulary.mask_id)]
    assert not vocabulary.is_special[replaced].any()
    assert len(replaced.unique()) > 100


def test_other_draws_choose_other_tokens(long_batch):
    ids, mask, vocabulary = long_batch
    torch.manual_seed(3)
    first = choose(ids, mask, vocabulary, MaskingOptions())
    assert not torch.equal(first, choose(ids, mask, vocabulary, MaskingOptions()))
    torch.manual_seed(3)
    assert torch.equal(first, choose(ids, mask, vocabulary, MaskingOptions()))


def test_a_tokenizer_without_a_mask_is_refused(tmp_path):
    folder = write_tiny(tmp_path, "qwen2", TEXTS)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    with pytest.raises(MemberError, match="no token to mask with"):
        Vocabulary.of(tokenizer, 1000)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MaskingOptions(share=0), "share 0"),
        (lambda: MaskingOptions(masked=0.95, replaced=0.1), "at most 1"),
        (lambda: MaskingOptions(replaced=-0.1), "at most 1"),
        (lambda: ContrastOptions(temperature=0), "temperature 0"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
