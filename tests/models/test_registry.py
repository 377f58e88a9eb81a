"""Kinds by name, and what is said where a kind's libraries or options are not there."""

import sys

import pytest

from models.errors import ConfigError, MemberError, UnknownMemberKindError
from models.language.metric.options import MetricOptions
from models.language.presets import LoraOptions
from models.members.bi_encoder import BiEncoderOptions
from models.members.cross_encoder import CrossEncoderOptions
from models.needs import Needs
from models.registry import (
    EXTRAS,
    KINDS,
    MODULES,
    SHARED,
    check_fittable,
    make_member,
    member_class,
    named_extra,
)
from models.training.options import ClassificationOptions


@pytest.fixture
def kind_of(monkeypatch, tmp_path):
    """Registers the kind "made", whose module has the given source."""

    def register(source: str) -> None:
        (tmp_path / "made_kind.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setitem(KINDS, "made", "made_kind:Made")

    yield register
    sys.modules.pop("made_kind", None)


def test_a_kind_whose_library_is_missing_names_the_extra(kind_of):
    kind_of("import a_library_nobody_has.part")
    with pytest.raises(
        UnknownMemberKindError, match=r"(?s)'made'.*'a_library_nobody_has'.*\[serving\]"
    ):
        member_class("made")


def test_the_extra_named_is_the_kind_s_own(kind_of, monkeypatch):
    kind_of("import a_library_nobody_has")
    monkeypatch.setitem(EXTRAS, "made", "special")
    with pytest.raises(MemberError, match=r"pip install .*\[special\]"):
        member_class("made")


def test_a_missing_module_of_ours_is_a_bug_and_stays_one(kind_of):
    kind_of("import models.no_such_module")
    with pytest.raises(ModuleNotFoundError, match=r"models\.no_such_module"):
        member_class("made")


def test_a_function_may_need_more_than_its_module_does():
    @named_extra("lexical", "be fitted")
    def fit(times: int) -> int:
        if times:
            import a_library_nobody_has  # noqa: F401
        return times

    assert fit(0) == 0
    for _ in range(2):  # the decorator serves every call
        with pytest.raises(UnknownMemberKindError, match=r"to be fitted.*\[training\]"):
            fit(1)


def test_other_errors_pass_unchanged():
    with pytest.raises(ValueError, match="mine"), named_extra("lexical"):
        raise ValueError("mine")


@pytest.mark.parametrize(
    ("kind", "options", "module"),
    [
        ("cross_encoder", CrossEncoderOptions(backbone="tiny", lora=True), "peft"),
        ("bi_encoder", BiEncoderOptions(backbone="tiny", lora=LoraOptions()), "peft"),
        (
            "bi_encoder",
            BiEncoderOptions(backbone="tiny", metric=MetricOptions(loss="contrastive")),
            "pytorch_metric_learning",
        ),
        (
            "cross_encoder",
            CrossEncoderOptions(
                backbone="tiny", classification=ClassificationOptions(distil=2, teacher="lexical")
            ),
            "scipy",
        ),
    ],
)
def test_a_module_that_only_options_ask_for_is_missed_before_a_fit(
    kind, options, module, monkeypatch
):
    check_fittable(kind, options)
    monkeypatch.setitem(sys.modules, module, None)
    check_fittable(kind, type(options)(backbone="tiny"))  # others have no use for it
    with pytest.raises(UnknownMemberKindError, match=rf"'{module}' to be fitted.*\[training\]"):
        check_fittable(kind, options)


def test_what_options_need_is_asked_of_them_once_the_modules_of_their_kind_are_there(monkeypatch):
    class Options:
        def needs(self):
            raise AssertionError

    assert check_fittable("lexical", object()) == Needs()
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(UnknownMemberKindError, match="'scipy'"):
        check_fittable("lexical", Options())


@pytest.mark.parametrize("kind", sorted({*EXTRAS, *MODULES, *SHARED}))
def test_extras_are_of_kinds_there_are(kind):
    assert kind in KINDS


def test_options_that_a_kind_does_not_know_are_refused_with_the_known():
    with pytest.raises(ConfigError, match=r"(?s)'mine'.*known options.*cross_penalties"):
        make_member("lexical", "mine", {"penaltys": [1.0]})
