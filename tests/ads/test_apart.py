"""A secret whose content is in files on the node has a response of its own: the node may not have them."""

from xds_server.ads.substream import apart
from xds_server.resources import NODE_FILES

FIRST, SECOND = f"{NODE_FILES}/a.crt:/a.key", f"{NODE_FILES}/b.crt:/b.key"


def test_what_the_control_plane_has_goes_first_and_together() -> None:
    assert apart({"a": None, FIRST: None, "b": None}) == {"a": None, "b": None}


def test_then_one_after_the_other() -> None:
    assert apart({FIRST: None, SECOND: None}) == {FIRST: None}


def test_nothing_is_left_out_where_there_are_no_files() -> None:
    assert apart({"a": None, "b": None}) == {"a": None, "b": None}
    assert apart({}) == {}
