"""Foreign files into a dataset folder: streamed, and either whole or not there."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines.console import Tick, silent
from pipelines.dataset.importing.convert import Converter, Defaults
from pipelines.dataset.importing.mapping import ROLES, ImportMapping, resolve_columns
from pipelines.dataset.importing.readers import open_rows
from pipelines.dataset.target import check_target
from pipelines.dataset.write import ROW_GROUP_ROWS, dataset_writer


@dataclass(frozen=True)
class Imported:
    """What an import did with one file."""

    path: Path
    rows: int
    made_up: dict[str, str]  # column: what its rows got
    ignored: tuple[str, ...]  # columns of the file that went nowhere


def import_files(
    paths: Mapping[str, Path],
    folder: Path,
    mapping: ImportMapping,
    defaults: Defaults,
    tick: Tick = silent,
    *,
    quoted: bool = True,
    force: bool = False,
) -> dict[str, Imported]:
    """Write the files of `paths`, by role, as the dataset `folder`; `tick` counts their bytes."""
    target = check_target(folder, force=force, inputs=paths.values())
    inputs = {role: open_rows(paths[role], quoted) for role in ROLES if role in paths}
    names = {role: rows.names for role, rows in inputs.items()}
    columns = resolve_columns(mapping, names, paths)
    done = {}
    with dataset_writer(target) as writer:
        for role, rows in inputs.items():
            converter = Converter(role, columns[role], mapping, defaults)
            file = ROLES[role]
            for block in rows.blocks(converter.wanted, tick):
                table = converter.convert(block)
                for start in range(0, len(table), ROW_GROUP_ROWS):
                    writer.append(file, table.slice(start, ROW_GROUP_ROWS))
            converter.finish()
            ignored = tuple(name for name in rows.names if name not in converter.wanted)
            done[role] = Imported(
                paths[role], writer.rows.get(file, 0), converter.made_up(), ignored
            )
    return done
