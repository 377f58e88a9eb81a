"""What the demo's concepts are called in each locale, in the order of `models.locales.LOCALES`."""

from typing import Final

from pipelines.demo.words.es import ES
from pipelines.demo.words.jp import JP
from pipelines.demo.words.us import US
from pipelines.demo.words.vocabulary import Vocabulary

VOCABULARIES: Final[tuple[Vocabulary, ...]] = (US, ES, JP)
