import json

import pytest

from models.errors import DataError
from models.training.curve import Curve, Point

CURVE = Curve(
    points=(
        Point(1, 0.5, 1.4),
        Point(2, 1.0, 1.2, {"macro_f1": 0.2, "log_loss": 1.3, "score": 0.2}),
        Point(4, 2.0, None, {"macro_f1": 0.4, "log_loss": 1.1, "score": 0.4}),
        Point(6, 3.0, 0.9, {"macro_f1": 0.3, "log_loss": 1.2, "score": 0.3}),
    ),
    best_step=4,
    notes=("the lower layers were computed at every step",),
)


def test_a_curve_comes_back_from_json():
    assert Curve.of_plain(json.loads(json.dumps(CURVE.plain()))).plain() == CURVE.plain()
    assert Curve.of_plain(Curve().plain()).plain() == Curve().plain()


def test_what_is_no_curve_is_refused():
    with pytest.raises(DataError, match="unknown key"):
        Curve.of_plain({**CURVE.plain(), "colour": "red"})


def test_the_best_metrics_are_those_of_the_kept_weights():
    assert CURVE.best["macro_f1"] == 0.4
    assert Curve(CURVE.points).best["macro_f1"] == 0.3  # the last weights were kept
    assert Curve().best == {}


def test_the_picture_shows_every_metric_and_is_the_same_twice(tmp_path):
    CURVE.draw(tmp_path / "one.svg")
    CURVE.draw(tmp_path / "two.svg")
    picture = (tmp_path / "one.svg").read_text()
    assert picture == (tmp_path / "two.svg").read_text()
    assert "macro f1" in picture
    assert "training loss" in picture
    assert "log loss" not in picture
    Curve(CURVE.points[:2]).draw(tmp_path / "two.svg")
    assert picture != (tmp_path / "two.svg").read_text()


def test_a_training_without_points_has_a_picture(tmp_path):
    Curve().draw(tmp_path / "none.svg")
    assert (tmp_path / "none.svg").read_text().startswith("<?xml")
