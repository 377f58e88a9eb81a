"""What an app holds while it serves: a release, a cache, a queue, the counts."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from models.ensemble import Ensemble
from models.errors import ReleaseError
from models.member import Adaptive
from models.release import MANIFEST, Release, load_release
from models.release_registry import ReleaseRegistry
from models.vectors.shelf import VECTORS, Shelf, Supplied
from service.label_cache import LabelCache, open_label_cache
from service.metrics import Metrics
from service.neighbourhoods import Neighbourhoods, find_neighbourhoods
from service.queue import WorkQueue
from service.schemas import Limits
from service.settings import Settings

log = logging.getLogger("service.serving")


@dataclass
class Serving:
    """A request takes its release from here once, so that it never mixes two."""

    settings: Settings
    release: Release
    vectors: Supplied
    neighbourhoods: Neighbourhoods
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
        self.neighbourhoods.close()
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


def answering_quickly(release: Release) -> Release:
    """`release`, answering each request in the way its members measured fastest for its size.

    The probes were answered in the one way that no clock decides. Between ways a logit moves by no
    more than the export's gate allows, and few labels change; so a label that was remembered is one
    that this release gives, though perhaps not to as many pairs as are asked together now.
    """
    members = release.ensemble.members
    quick = [one.quickest() if isinstance(one, Adaptive) else one for one in members]
    return replace(release, ensemble=Ensemble(quick))


def find_product_vectors(release: Release, settings: Settings) -> Supplied:
    """The members of `release`, looking up products whose vectors were computed beforehand.

    They answer as without them, so labels that were remembered stay right. Vectors that nobody
    named are passed over where they cannot be used, and the log says so.
    """
    shelf = Shelf(settings.vectors or settings.release / VECTORS)
    found = shelf.supply(release.ensemble.members, required=settings.vectors is not None)
    for name, products in found.products.items():
        log.info("product vectors", extra={"fields": {"member": name, "products": products}})
    for name, instead in found.missing.items():
        fields = {"member": name}
        if instead:
            log.warning("product vectors are not used: %s", instead, extra={"fields": fields})
        else:
            log.info("no product vectors", extra={"fields": fields})
    for name, wrong in found.damaged.items():
        fields = {"member": name}
        log.warning("product vectors are not used: %s", wrong, extra={"fields": fields})
    return found


def open_serving(settings: Settings, worker: str | None = None) -> Serving:
    """Everything needed to answer, verified; whatever is wrong is raised here, before traffic."""
    release = answering_quickly(load_release(find_release(settings.release)))
    vectors = find_product_vectors(release, settings)
    neighbourhoods = find_neighbourhoods(vectors.members, settings)
    release = replace(release, ensemble=Ensemble(neighbourhoods.members))
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
    metrics.watch_total(
        "esci_products_stored_total",
        "Products whose stored vectors were looked up.",
        lambda: sum(one.product_counts().stored for one in vectors.embedders),
    )
    metrics.watch_total(
        "esci_products_encoded_total",
        "Products whose vectors were made for a request.",
        lambda: sum(one.product_counts().encoded for one in vectors.embedders),
    )
    metrics.watch(
        "esci_product_stores_passed_over",
        "Stores of product vectors that are damaged, and so not used.",
        lambda: len(vectors.damaged),
    )
    metrics.watch_total(
        "esci_neighbourhoods_stored_total",
        "Products whose stored neighbourhoods were looked up.",
        lambda: sum(one.product_counts().stored for one in neighbourhoods.neighbourly),
    )
    metrics.watch_total(
        "esci_neighbourhoods_computed_total",
        "Products whose neighbourhoods were computed for a request.",
        lambda: sum(one.product_counts().encoded for one in neighbourhoods.neighbourly),
    )
    metrics.watch(
        "esci_neighbourhood_stores_troubles",
        "Times that stores of neighbourhoods were asked in vain since the start.",
        lambda: sum(store.health().troubles for store in neighbourhoods.stores.values()),
    )
    return Serving(settings, release, vectors, neighbourhoods, cache, queue, metrics)
