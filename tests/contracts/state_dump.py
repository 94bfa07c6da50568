"""What every `StateDump` promises. An adapter joins with the fixtures `dump` and `table`."""

from collections.abc import Callable

import pytest

from upload_core.ports import StateDump

HEADER = ("relpath", "state", "message")


class StateDumpContract:
    """Join by a subclass that defines both fixtures."""

    @pytest.fixture
    def dump(self) -> StateDump:
        raise NotImplementedError

    @pytest.fixture
    def table(self, dump: StateDump) -> Callable[[str], list[tuple[str, ...]]]:
        """The place that `write` returned -> all its rows, header first."""
        raise NotImplementedError

    def test_a_dump_holds_header_and_rows(self, dump, table):
        rows = [("a.fits", "valid", ""), ('b, "c".fits', "failed", "Größe; why")]
        assert table(dump.write("state", HEADER, rows)) == [HEADER, *rows]

    def test_a_dump_without_rows_still_has_its_header(self, dump, table):
        assert table(dump.write("state", HEADER, [])) == [HEADER]

    def test_rows_may_come_one_by_one(self, dump, table):
        place = dump.write("state", HEADER, ((f"f{number}", "ready", "") for number in range(1000)))
        assert len(table(place)) == 1001

    def test_each_dump_has_a_place_of_its_own(self, dump, table):
        places = [dump.write("state", HEADER, [(f"{number}", "", "")]) for number in range(5)]
        assert len(set(places)) == 5
        assert [table(place)[1][0] for place in places] == ["0", "1", "2", "3", "4"]

    @pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
    def test_no_cell_is_a_formula(self, dump, table, cell):
        [_, row] = table(dump.write("state", HEADER, [("f", "failed", cell)]))
        assert row[2].startswith("'")

    def test_no_cell_acts_on_a_terminal(self, dump, table):
        [_, row] = table(dump.write("state", HEADER, [("\x1b[2J\u202e\udcff", "failed", "a\nb")]))
        assert all(cell.isprintable() for cell in row)
