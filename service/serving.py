"""What an app holds while it serves: a release, a cache, a queue, the counts."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from models.ensemble import Ensemble
from models.errors import ReleaseError
from models.language.vectors.shelf import VECTORS, Shelf
from models.release import MANIFEST, Release, load_release
from models.release_registry import ReleaseRegistry
from service.label_cache import LabelCache, open_label_cache
from service.metrics import Metrics
from service.queue import WorkQueue
from service.schemas import Limits
from service.settings import Settings

log = logging.getLogger("service.serving")


@dataclass
class Serving:
    """A request takes its release from here once, so that it never mixes two."""

    settings: Settings
    release: Release
    cache: LabelCache
    queue: WorkQueue
    metrics: Metrics

    @property
    def limits(self) -> Limits:
        """What one request may hold."""
        return Limits(self.settings.max_pairs, self.settings.max_text_characters)

    async def close(self) -> None:
        """Finish what is being computed and let go of the rest."""
        self.queue.close()
        await self.cache.close()


def find_release(folder: Path) -> Path:
    """`folder` itself where it is a release, else the champion of the registry it is."""
    if (folder / MANIFEST).is_file():
        return folder
    if champion := ReleaseRegistry(folder).champion():
        return champion
    raise ReleaseError(
        f"{folder} holds no {MANIFEST} and no champion; expected the folder of a release or of a "
        "registry: make one with esci train, or set ESCI_RELEASE to where it is"
    )


def with_product_vectors(release: Release, settings: Settings) -> Release:
    """`release`, looking up the products whose vectors were computed beforehand.

    It answers as without them, so labels that were remembered stay right.
    """
    shelf = Shelf(settings.vectors or settings.release / VECTORS)
    supplied = shelf.supply(release.ensemble.members, required=settings.vectors is not None)
    for name, products in supplied.products.items():
        log.info("product vectors", extra={"fields": {"member": name, "products": products}})
    for name in supplied.missing:
        log.info("no product vectors", extra={"fields": {"member": name}})
    return replace(release, ensemble=Ensemble(supplied.members))


def open_serving(settings: Settings, worker: str | None = None) -> Serving:
    """Everything needed to answer, verified; whatever is wrong is raised here, before traffic."""
    release = with_product_vectors(load_release(find_release(settings.release)), settings)
    cache = open_label_cache(
        settings.cache,
        ttl_seconds=settings.cache_ttl_seconds,
        megabytes=settings.cache_megabytes,
        timeout_ms=settings.cache_timeout_ms,
    )
    queue = WorkQueue(settings.max_concurrent, settings.max_queued_pairs)
    metrics = Metrics({"worker": worker} if worker else {})
    metrics.watch("esci_queued_pairs", "Pairs that wait for an answer.", lambda: queue.queued_pairs)
    metrics.watch(
        "esci_label_cache_healthy",
        "1 while the label cache works, else 0.",
        lambda: cache.health().healthy,
    )
    metrics.watch(
        "esci_label_cache_troubles",
        "Operations of the label cache that failed since the start.",
        lambda: cache.health().troubles,
    )
    return Serving(settings, release, cache, queue, metrics)
