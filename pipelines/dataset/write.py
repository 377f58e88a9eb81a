"""Writing a dataset folder: streamed, and either whole or not there."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from models.files import atomic_folder
from pipelines.dataset.layout import SCHEMAS, SOURCES_FILE

# Large enough to compress, small enough that a reader holds a few at a time.
ROW_GROUP_ROWS: Final = 65_536


class DatasetWriter:
    """Appends batches of rows to the files of one dataset folder, in bounded memory."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._writers: dict[str, Any] = {}
        self.rows: dict[str, int] = {}

    def append(self, file_name: str, columns: Mapping[str, Sequence[Any]] | pa.Table) -> None:
        """Append rows to one of the layout's files; columns are cast to the layout's types."""
        schema = SCHEMAS[file_name]
        if isinstance(columns, pa.Table):
            table = columns.select(schema.names).cast(schema)
        else:
            table = pa.table({name: columns[name] for name in schema.names}, schema=schema)
        if file_name not in self._writers:
            self._writers[file_name] = self._stack.enter_context(self._open(file_name, schema))
            self.rows[file_name] = 0
        self._writers[file_name].write_table(table)
        self.rows[file_name] += len(table)

    def _open(self, file_name: str, schema: pa.Schema) -> Any:
        path = self._folder / file_name
        if file_name == SOURCES_FILE:
            return pyarrow.csv.CSVWriter(path, schema)
        return pq.ParquetWriter(path, schema, compression="zstd")


@contextmanager
def dataset_writer(folder: Path) -> Iterator[DatasetWriter]:
    """A writer of a dataset at `folder`, which appears when the block ends without an error."""
    with atomic_folder(folder) as scratch, ExitStack() as stack:
        yield DatasetWriter(scratch, stack)
