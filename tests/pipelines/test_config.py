from dataclasses import replace
from pathlib import Path

import pytest

from models.errors import ConfigError, MissingDataError
from models.lexical.weighing.options import LexicalOptions
from models.registry import make_member
from pipelines.adapting.config import ENVIRONMENT_PREFIX as ADAPTING
from pipelines.adapting.config import AdaptConfig
from pipelines.config import MemberConfig, TrainConfig, load_config, read_config, resolved

CONFIGS = Path(__file__).parents[2] / "pipelines" / "configs"


def config(tmp_path, text, overrides=(), environment=()):
    path = tmp_path / "train.toml"
    path.write_text(text)
    return load_config(path, overrides, dict(environment))


def test_without_a_file_the_defaults_stand():
    assert load_config(None, [], {}) == TrainConfig()


def test_a_flag_beats_the_environment_beats_the_file_beats_the_default(tmp_path):
    env = {"ESCI_TRAIN__SEED": "2", "ESCI_TRAIN__VALIDATION": "0.2", "OTHER": "9"}
    found = config(tmp_path, "seed = 1\nvalidation = 0.1", ["seed=3"], env)
    assert (found.seed, found.validation) == (3, 0.2)
    assert config(tmp_path, "seed = 1").seed == 1


def test_a_member_option_is_settable_by_flag_and_environment(tmp_path):
    text = '[[members]]\nname = "a"\nkind = "lexical"'
    found = config(
        tmp_path,
        text,
        ["members.0.options.words=[1, 2]"],
        {"ESCI_TRAIN__MEMBERS__0__OPTIONS__STYLE": "plain"},
    )
    assert found.members == [MemberConfig("a", "lexical", {"words": [1, 2], "style": "plain"})]


def test_a_flag_reaches_into_the_defaults():
    found = load_config(None, ["members.0.options.knots=3"], {})
    assert found.members == [MemberConfig("lexical", "lexical", {"knots": 3})]


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("sede = 1", [], "sede: unknown key; known keys: seed, validation, members"),
        ('seed = "many"', [], "seed: .*integer"),
        ("seed = ", [], "is not TOML"),
        ("", ["seed"], "expected KEY=VALUE"),
        ("seed = 1", ["seed.x=1"], "goes through 'seed', which holds the value 1"),
        ('[[members]]\nname="a"\nkind="lexical"', ["members.1.name=b"], "a list of 1 stands"),
        ('[[members]]\nname="a"\nkind="deep"', [], "kind 'deep'; known: lexical"),
        ('[[members]]\nname="a"', [], "members.0.kind: missing"),
        ("members = []", [], "at least one"),
        ('[[members]]\nname="../../evil"\nkind="lexical"', [], "letters, digits"),
        ('[[members]]\nname="a:b"\nkind="lexical"', [], "letters, digits"),
        ("seed = 100000000000000000000", [], "found seed 1000|seed: "),
        ("seed = -1", [], "found seed -1; expected 0 to"),
        ("validation = 1.0", [], "found validation 1"),
        ('[[members]]\nname="a"\nkind="lexical"\n' * 2, [], "each once"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_reason(tmp_path, text, overrides, message):
    with pytest.raises(ConfigError, match=message):
        config(tmp_path, text, overrides)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(MissingDataError, match=r"none\.toml is no file"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(MissingDataError, match="is no file"):
        load_config(tmp_path)


TRAINING = [path for path in sorted(CONFIGS.glob("*.toml")) if path.stem != "adapt"]


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.stem)
def test_every_configuration_we_ship_can_be_meant(path):
    found = resolved(load_config(path, [], {}))
    for member in found.members:
        assert make_member(member.kind, member.name, member.options)
        if "seed" in member.options:
            assert member.options["seed"] == found.seed


def test_the_configuration_of_an_adaptation_can_be_meant():
    path = CONFIGS / "adapt.toml"
    assert read_config(AdaptConfig, ADAPTING, path, [], {}).text.max_tokens == 96


def test_a_seed_of_the_run_is_that_of_members_that_name_none():
    members = [MemberConfig("a", "lexical"), MemberConfig("b", "lexical", {"seed": 3})]
    found = resolved(TrainConfig(seed=11, members=members))
    assert [member.options["seed"] for member in found.members] == [11, 3]
    assert resolved(found) == found
    with pytest.raises(ConfigError, match="known options of kind 'lexical'"):
        resolved(TrainConfig(members=[MemberConfig("a", "lexical", {"sede": 1})]))


def test_the_small_configuration_says_what_the_defaults_are():
    found = load_config(CONFIGS / "small.toml", [], {})
    (member,) = found.members
    assert found == replace(TrainConfig(), members=found.members)
    assert make_member("lexical", "lexical", member.options).options == LexicalOptions()
