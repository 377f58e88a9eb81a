import os
import subprocess
import sys

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from models.cores import Cores
from models.errors import ConfigError
from models.language.serving.engines import THREADS_VARIABLE, asked_threads
from pipelines.training.threads import choose_threads, threads_limited


def test_the_flag_beats_openmp_beats_the_cores_we_may_use():
    eight = Cores(8, 8, 3.5)
    assert choose_threads(2, eight, {"OMP_NUM_THREADS": "5"}) == 2
    assert choose_threads(None, eight, {"OMP_NUM_THREADS": "5,2"}) == 5
    assert choose_threads(None, eight, {"OMP_NUM_THREADS": "many"}) == 3
    assert choose_threads(None, eight, {}) == 3


@pytest.mark.parametrize(("beside", "expected"), [("1", 3), ("2", 1), ("8", 1), ("", 3), ("0", 3)])
def test_processes_of_a_launch_divide_the_cores_and_not_what_was_asked(beside, expected):
    eight, launch = Cores(8, 8, 3.5), {"LOCAL_WORLD_SIZE": beside}
    assert choose_threads(None, eight, launch) == expected
    assert choose_threads(5, eight, launch) == 5
    assert choose_threads(None, eight, launch | {"OMP_NUM_THREADS": "5"}) == 5


@pytest.mark.parametrize(("beside", "expected"), [("1", 1), ("2", 4), ("8", 1), ("16", 1)])
def test_the_one_thread_that_torchrun_sets_is_nobody_s_wish(beside, expected):
    launch = {"LOCAL_WORLD_SIZE": beside, "OMP_NUM_THREADS": "1"}
    assert choose_threads(None, Cores(8, 8, None), launch) == expected
    assert choose_threads(1, Cores(8, 8, None), launch) == 1


def test_no_threads_are_refused():
    with pytest.raises(ConfigError, match="found 0 threads"):
        choose_threads(0)


def test_libraries_keep_to_the_limit_and_are_freed_from_it():
    before, variable = threadpool_info(), os.environ.get("OMP_NUM_THREADS")
    assert np.ones((2, 2)).sum()
    with threads_limited(1):
        assert {pool["num_threads"] for pool in threadpool_info()} == {1}
    assert threadpool_info() == before
    assert os.environ.get("OMP_NUM_THREADS") == variable


@pytest.mark.parametrize(("given", "expected"), [(None, 3), ("", 3), ("2", 2)])
def test_exported_language_models_keep_to_it_unless_told_otherwise(monkeypatch, given, expected):
    monkeypatch.delenv(THREADS_VARIABLE)
    if given is not None:
        monkeypatch.setenv(THREADS_VARIABLE, given)
    with threads_limited(3):
        assert asked_threads() == expected
    assert os.environ.get(THREADS_VARIABLE) == given


@pytest.mark.parametrize("first", ["import torch", ""])
def test_torch_keeps_to_it_too_loaded_before_or_within(first):
    code = (
        f"{first}\nfrom pipelines.training.threads import threads_limited\n"
        "with threads_limited(1):\n    import torch; print(torch.get_num_threads())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
