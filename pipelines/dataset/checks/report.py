"""What validation found: findings, gathered while the files stream by, and the report of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.console import ERRORS, OK, WARNINGS
from pipelines.dataset.checks.table import CHECKS, SEVERITIES, Severity

_VALUE_CHARACTERS: Final = 80


@dataclass(frozen=True)
class Sample:
    """One row of a finding."""

    row: int  # in the file, counted from zero
    value: str


@dataclass(frozen=True)
class Finding:
    """One kind of trouble in one column of one file."""

    code: str
    severity: Severity
    file: str
    column: str | None
    count: int  # rows; 1 where the file as a whole is meant
    found: str
    expected: str
    mend: str
    rows: tuple[Sample, ...]  # the first ones


@dataclass(frozen=True)
class Report:
    """All findings, gravest first, and how many rows of each file were looked at."""

    folder: str
    rows: dict[str, int]
    findings: tuple[Finding, ...]

    def kinds(self, severity: Severity) -> int:
        """How many findings are of `severity`."""
        return sum(finding.severity == severity for finding in self.findings)

    @property
    def exit_code(self) -> int:
        """0 where there is nothing or there are only notes, 1 for warnings, 2 for errors."""
        if self.kinds("error"):
            return ERRORS
        return WARNINGS if self.kinds("warning") else OK

    @property
    def verdict(self) -> str:
        """One line on whether the data can be used."""
        counts = [
            f"{kinds} {severity}{'s' if kinds > 1 else ''}"
            for severity in SEVERITIES
            if (kinds := self.kinds(severity))
        ]
        word = {OK: "sound", WARNINGS: "usable, with care", ERRORS: "not fit for use"}
        return f"{word[self.exit_code]}: {', '.join(counts) or 'nothing to say'}"


def show(value: Any) -> str:
    """`value` for a person: shortened, with control and broken characters escaped."""
    if value is None:
        return "null"
    if isinstance(value, bytes):
        value = value[: 4 * _VALUE_CHARACTERS].decode("utf-8", "backslashreplace")
    text = value if isinstance(value, str) else str(value)
    more = len(text) - _VALUE_CHARACTERS
    escaped = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text[:_VALUE_CHARACTERS]
    )
    shown = f"{escaped!s}… ({len(text):,} characters)" if more > 0 else escaped
    return f"“{shown}”" if isinstance(value, str) else shown


@dataclass
class _Gathered:
    count: int
    found: str
    expected: str
    mend: str
    rows: list[Sample] = field(default_factory=list)


class Findings:
    """Gathers rows in trouble; keeps their number and the first few of each kind."""

    def __init__(self, samples: int) -> None:
        self._samples = samples
        self._gathered: dict[tuple[str, str, str | None], _Gathered] = {}

    def add_file(self, code: str, file: str, column: str | None = None, **details: Any) -> None:
        """A trouble of a file or a column as a whole."""
        self._entry(code, file, column, details).count += 1

    def add_rows(
        self,
        code: str,
        file: str,
        column: str | None,
        rows: NDArray[np.integer[Any]],
        value_of: Callable[[int], str],
        **details: Any,
    ) -> None:
        """A trouble of `rows`, numbered in the file; `value_of` shows the i-th of them."""
        if not len(rows):
            return
        entry = self._entry(code, file, column, details)
        entry.count += len(rows)
        for position in range(min(len(rows), self._samples - len(entry.rows))):
            entry.rows.append(Sample(int(rows[position]), value_of(position)))

    def report(self, folder: Path, rows: dict[str, int], strict: bool) -> Report:
        """The report of everything gathered; `strict` makes errors of warnings."""
        order = list(CHECKS)
        findings = []
        for (code, file, column), entry in self._gathered.items():
            severity = CHECKS[code].severity
            if strict and severity == "warning":
                severity = "error"
            findings.append(
                Finding(
                    code,
                    severity,
                    file,
                    column,
                    entry.count,
                    entry.found,
                    entry.expected,
                    entry.mend,
                    tuple(entry.rows),
                )
            )
        findings.sort(key=lambda one: (SEVERITIES.index(one.severity), order.index(one.code)))
        return Report(str(folder), rows, tuple(findings))

    def _entry(
        self, code: str, file: str, column: str | None, details: dict[str, Any]
    ) -> _Gathered:
        key = (code, file, column)
        if key not in self._gathered:
            check = CHECKS[code]
            words = {"file": file, "column": column, **details}
            self._gathered[key] = _Gathered(
                0,
                check.found.format(**words),
                check.expected.format(**words),
                check.mend.format(**words),
            )
        return self._gathered[key]
