"""What a vocabulary holds: the phrases that one locale has for the demo's concepts."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Vocabulary:
    """Phrases by concept; where there are several, the first is the catalogue's own."""

    types: Mapping[str, tuple[str, ...]]
    colours: Mapping[str, tuple[str, ...]]
    materials: Mapping[str, str]
    features: Mapping[str, str]
    audiences: Mapping[str, str]
    sizes: Mapping[str, tuple[str, ...]]
    senses: Mapping[str, tuple[str, ...]]  # words that name several types
    departments: Mapping[str, str]  # a sentence for descriptions
    claims: tuple[str, ...]  # a bullet that any product may carry
