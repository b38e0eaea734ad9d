"""The audit: formula, value, Jacobian and product of every operation are proved to be one function.

`audit` runs the checks of `checks.py` over the registry, tries to slip the mutants of `mutants.py` past them, and
audits a whole network. `compare` and `gradient` do the same for what a reader brings, `exercise` judges
what a student wrote.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from ..operation import Operation, find, registry
from .cases import Case, cases
from .checks import CHECKS, ESTIMATED, Check, dependent, not_vacuous, refusals
from .compare import Comparison, compare, gradient
from .exercises import Solved, Wrong, exercise
from .mutants import caught, mutants_of
from .network import TOLERANCES, network_errors

__all__ = ["Audited", "Comparison", "Report", "Solved", "Wrong", "audit", "compare", "exercise", "gradient"]


@dataclass
class Audited:
    """One row of the report: an operation, the worst error of each check, and every complaint."""

    name: str
    errors: dict[str, float | None] = field(default_factory=dict)
    dependent: tuple[str, ...] = ()
    estimator: str = ""
    refusals: int = 0
    mutants: int = 0
    complaints: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.complaints

    @property
    def independent(self) -> list[str]:
        """The checks that were made and that prove something of their own."""
        return [name for name, error in self.errors.items() if error is not None and name not in self.dependent]


@dataclass
class Report:
    """What the audit found; prints as a table, with the complaints below it."""

    rows: list[Audited]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether no operation has a complaint."""
        return all(row.passed for row in self.rows)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        return {
            "passed": self.passed,
            "seconds": self.seconds,
            "operations": {
                row.name: {
                    "passed": row.passed,
                    "errors": row.errors,
                    "independent": row.independent,
                    "estimator": row.estimator,
                    "refusals": row.refusals,
                    "mutants": row.mutants,
                    "complaints": row.complaints,
                }
                for row in self.rows
            },
        }

    def __str__(self) -> str:
        names = [check.name for check in CHECKS]
        width = max(len(row.name) for row in self.rows) + 2
        columns = [max(len(name), 7) for name in names]
        head = "".join(f" {name:>{size}}" for name, size in zip(names, columns, strict=True))
        lines = [f"{'operation':{width}}{head}  refused  mutants"]
        for row in self.rows:
            cells = "".join(
                f" {self._cell(row, name):>{size}}" for name, size in zip(names, columns, strict=True)
            )
            mark = "" if row.passed else "  FAILED"
            lines.append(f"{row.name:{width}}{cells}  {row.refusals or '-':>7}  {row.mutants or '-':>7}{mark}")
        lines.append("")
        lines.append(
            "Worst error of each check, relative to the largest entry. '=': true by construction, not independent of "
            "another check;"
        )
        lines.append(
            "'-': does not apply. refused: bad inputs that raised in clear words; mutants: wrong copies, all caught."
        )
        excluded = ", ".join(ESTIMATED)
        lines += [f"{row.name}: excluded from {excluded}: {row.estimator}" for row in self.rows if row.estimator]
        lines += [f"{row.name}: {complaint}" for row in self.rows for complaint in row.complaints]
        failed = sum(not row.passed for row in self.rows)
        caught_in_all = sum(row.mutants for row in self.rows)
        verdict = f"{failed} FAILED" if failed else f"all passed, {caught_in_all} mutants caught"
        lines.append(f"{len(self.rows)} audited in {self.seconds:.1f} s: {verdict}.")
        return "\n".join(lines)

    @staticmethod
    def _cell(row: Audited, name: str) -> str:
        error = row.errors.get(name)
        if error is None:
            return "-"
        number = "0" if error == 0 else f"{error:.0e}"
        return f"={number}" if name in row.dependent else number


def audit(ops: Iterable[str | type[Operation]] | None = None, *, with_mutants: bool = True) -> Report:
    """Audit operations, by default all of the registry and a whole network.

    Parameters
    ----------
    ops : names or classes of operations, optional
    with_mutants : bool
        Whether to try the mutants as well, which takes most of the time.

    Raises
    ------
    ValueError
        If a name is not in the registry.
    """
    start = perf_counter()
    classes = [find("audit", op) if isinstance(op, str) else op for op in (registry if ops is None else ops)]
    rows = [_audit_one(cls, with_mutants) for cls in classes]
    if ops is None:
        rows.append(_audit_network())
    return Report(rows, perf_counter() - start)


def _audit_one(cls: type[Operation], with_mutants: bool) -> Audited:
    errors: dict[str, float | None] = {check.name: None for check in CHECKS}
    row = Audited(cls.name, errors, dependent(cls), cls.estimator)
    try:
        tried = list(cases(cls))
        row.complaints += not_vacuous(cls, tried)
    except Exception as problem:  # a wrong operation may break in any way, and the others are audited all the same
        row.complaints.append(f"its samples break it: {type(problem).__name__}: {problem}")
        return row
    for check in CHECKS:
        for case in tried:
            _run(row, check, case)
    try:
        row.refusals, complaints = refusals(cls)
        row.complaints += complaints
    except Exception as problem:
        row.complaints.append(f"errors() breaks: {type(problem).__name__}: {problem}")
    if with_mutants and row.passed:
        _try_mutants(row, tried)
    return row


def _run(row: Audited, check: Check, case: Case) -> None:
    """Run one check at one case, and note its error and what there is to complain of."""
    try:
        error = check(case)
    except Exception as problem:
        row.complaints.append(f"{check.name} failed at {case}: {type(problem).__name__}: {problem}")
        return
    if error is None:
        return
    row.errors[check.name] = max(error, row.errors[check.name] or 0.0)
    if not error <= check.tolerance:
        row.complaints.append(f"{check.name} is off by {error:.1e} at {case}")


def _try_mutants(row: Audited, tried: list[Case]) -> None:
    """Every mutant of the first case must be caught there or, failing that, at another case."""
    for what, mutant, same_formula in mutants_of(tried[0]):
        row.mutants += 1
        if caught(tried[0], mutant, same_formula) is None:
            row.complaints.append(f"a mutant survived: {what}")


def _audit_network() -> Audited:
    row = Audited("a whole network", errors=dict(network_errors()))
    for name, tolerance in TOLERANCES.items():
        if not row.errors[name] <= tolerance:  # type: ignore[operator]
            row.complaints.append(f"{name} is off by {row.errors[name]:.1e}")
    return row
