"""What a server must give, computed from accounts of it with one API server and with several. It measures nothing.

A row is what `account` returns, with the rows and the milliseconds of a step. Runs in the kernel.

Taught in: 08_does_another_api_server_help
"""

from collections.abc import Mapping, Sequence
from typing import Any

from lab_support.instruments.ceilings import Costs, limits, lowest, with_api_servers

Row = Mapping[str, Any]


class Predictions:
    """The costs with one API server and with several, and what follows for any number of them.

    rows: accounts, the first of them with one API server, the last with several. Raises `ValueError` for others.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        one, several = rows[0], rows[-1]
        self._one, self._several, self._of = costs_of(one), costs_of(several), several["api_servers"]
        if one["api_servers"] != 1 or self._of < 2:
            raise ValueError(f"got costs with {one['api_servers']} and {self._of} API servers, expected 1 and more")

    def costs(self, api_servers: float) -> Costs:
        return with_api_servers(self._one, self._several, self._of, api_servers)

    def lowest(self, pace: float, api_servers: float, cores: float) -> tuple[str, float]:
        """What limits such a server, and its tokens per second."""
        return lowest(limits(pace, api_servers, self.costs(api_servers), cores))

    def predicted(self, row: Row) -> tuple[str, float]:
        """For a row that was measured: what limits it, and its tokens per second, with the cores that others left."""
        return self.lowest(pace_of(row), row["api_servers"], row["cores_left"])

    def off(self, row: Row) -> float:
        """By how much a measured row is above what was predicted, as a share of that; below 0 if it is under."""
        return float(row["tokens_per_second"] / self.predicted(row)[1] - 1)

    def medians(self, rows: Sequence[Row]) -> list[Row]:
        """Of the counts of each pace and number of API servers the one in the middle, by how far it is off.

        They were taken in turn, so that a burst of other programs falls on few counts of a point.
        """
        points: dict[tuple[float, int], list[Row]] = {(row["milliseconds"], row["api_servers"]): [] for row in rows}
        for row in sorted(rows, key=self.off):
            points[row["milliseconds"], row["api_servers"]].append(row)
        return [counts[len(counts) // 2] for counts in points.values()]


def middle_by_cost(rows: Sequence[Row]) -> list[Row]:
    """Of the accounts with each number of API servers the one in the middle, by the CPU time of all for a token."""
    counts: dict[int, list[Row]] = {row["api_servers"]: [] for row in rows}
    for row in sorted(rows, key=lambda row: costs_of(row).all):
        counts[row["api_servers"]].append(row)
    return [each[len(each) // 2] for each in counts.values()]


def costs_of(row: Row) -> Costs:
    """The costs for a token, from an account."""
    cost = row["us_per_token"]
    return Costs(cost["loop"], cost["api"], cost["engine"], cost["client"])


def pace_of(row: Row) -> float:
    """The pace of its table, in tokens per second."""
    return float(row["rows"] / row["milliseconds"] * 1000)
