"""Networks of these tests are as tiny as those of the loop's."""

from tests.models.training.conftest import one_thread

__all__ = ["one_thread"]
