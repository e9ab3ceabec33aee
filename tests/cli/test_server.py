"""The loopback STAC API, and `rustac serve` as a second opinion, asked by pystac-client."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from helpers.servers import rustac_serve

from xharmonize.cli.server import read_catalog, serve
from xharmonize.errors import CatalogConnectionError, CatalogError
from xharmonize.io.stac.query import make_query
from xharmonize.io.stac.sources import load_items

pystac_client = pytest.importorskip("pystac_client")


def item(number: int, *, collection: str = "sentinel-2-l2a", west: float = 3.0) -> dict:
    day = f"2018-{1 + number // 28:02d}-{1 + number % 28:02d}T10:50:00Z"
    east = west + 0.5
    ring = [[west, 50.5], [east, 50.5], [east, 51.0], [west, 51.0], [west, 50.5]]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [],
        "id": f"{collection}-{number:03d}",
        "collection": collection,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [west, 50.5, east, 51.0],
        "properties": {
            "datetime": day,
            "eo:cloud_cover": float(number),
            "platform": "sentinel-2a" if number % 2 else "sentinel-2b",
            "proj:epsg": 32631,
        },
        "links": [],
        "assets": {"red": {"href": f"/nowhere/{number}.tif"}},
    }


ITEMS = [item(n) for n in range(45)] + [
    item(n, collection="landsat-c2-l2", west=30.0) for n in range(5)
]


@pytest.fixture(scope="module")
def ours():
    with serve(ITEMS) as url:
        yield pystac_client.Client.open(url)


@pytest.fixture(scope="module", params=["stac-fastapi", "rustac"])
def client(request, ours, tmp_path_factory):
    if request.param == "stac-fastapi":
        yield ours
        return
    with rustac_serve(ITEMS, tmp_path_factory.mktemp("rustac")) as url:
        yield pystac_client.Client.open(url)


def ids(search) -> set[str]:
    return {found["id"] for found in search.items_as_dicts()}


def test_pages_are_followed_to_the_end(client):
    search = client.search(collections=["sentinel-2-l2a"], limit=7)
    found = [i["id"] for i in search.items_as_dicts()]
    assert len(found) == len(set(found)) == 45


def test_items_of_a_collection_are_paged_too(client):
    found = [item.id for item in client.get_collection("sentinel-2-l2a").get_items()]
    assert len(found) == len(set(found)) == 45


def test_box_dates_and_ids_restrict(client):
    names = ["sentinel-2-l2a", "landsat-c2-l2"]
    assert len(ids(client.search(collections=names, bbox=[29, 50, 31, 51]))) == 5
    february = client.search(collections=["sentinel-2-l2a"], datetime="2018-02-01/2018-02-28")
    assert len(ids(february)) == 17
    one = client.search(collections=["sentinel-2-l2a"], ids=["sentinel-2-l2a-007"])
    assert ids(one) == {"sentinel-2-l2a-007"}


def test_a_polygon_restricts(client):
    triangle = {"type": "Polygon", "coordinates": [[[29, 50], [31, 50], [30, 52], [29, 50]]]}
    found = ids(client.search(collections=["landsat-c2-l2"], intersects=triangle))
    assert len(found) == 5


@pytest.mark.parametrize(("west", "is_there"), [(179.8, True), (-180, True), (0, False)])
def test_a_polygon_finds_an_item_across_180(west, is_there):
    from xharmonize.cli.api import _in_area

    across = {**item(1, west=179.75), "bbox": [179.75, 50.5, -179.75, 51.0]}
    ring = [[west, 50], [west + 0.1, 50], [west + 0.1, 52], [west, 50]]
    assert _in_area({"type": "Polygon", "coordinates": [ring]})(across) is is_there


def test_query_extension_and_cql2_agree(ours):
    by_query = ids(
        ours.search(query={"eo:cloud_cover": {"lt": 10}, "platform": {"eq": "sentinel-2a"}})
    )
    by_text = ids(ours.search(filter="eo:cloud_cover < 10 AND platform = 'sentinel-2a'"))
    by_json = ids(
        ours.search(
            filter={
                "op": "and",
                "args": [
                    {"op": "<", "args": [{"property": "eo:cloud_cover"}, 10]},
                    {"op": "=", "args": [{"property": "platform"}, "sentinel-2a"]},
                ],
            }
        )
    )
    assert by_query == by_text == by_json
    assert len(by_query) == 7


def test_a_property_no_item_has_matches_nothing(ours):
    assert ids(ours.search(filter="snow = 3")) == set()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_sorting_by_a_property(ours, method):
    search = ours.search(
        method=method, collections=["sentinel-2-l2a"], sortby="-eo:cloud_cover", max_items=3
    )
    assert [i["properties"]["eo:cloud_cover"] for i in search.items_as_dicts()] == [44, 43, 42]


def test_get_search_pages_and_filters(ours):
    search = ours.search(
        method="GET",
        collections=["sentinel-2-l2a"],
        query={"eo:cloud_cover": {"gte": 30}},
        bbox=[3, 50, 4, 51],
        limit=4,
    )
    assert len(ids(search)) == 15


def test_items_collections_and_queryables_are_there(ours):
    assert {c.id for c in ours.get_collections()} == {"sentinel-2-l2a", "landsat-c2-l2"}
    landsat = ours.get_collection("landsat-c2-l2")
    assert len(list(landsat.get_items())) == 5
    assert landsat.get_item("landsat-c2-l2-003").id == "landsat-c2-l2-003"
    assert landsat.get_item("no-such-item") is None


def test_fields_travel_unchanged(ours):
    found = next(ours.search(ids=["sentinel-2-l2a-003"]).items_as_dicts())
    assert found["properties"]["proj:epsg"] == 32631
    assert found["assets"] == ITEMS[3]["assets"]


def test_it_ends_with_the_block():
    with serve(ITEMS[:1]) as url:
        port = int(url.rsplit(":", 1)[1])
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_taken_port_is_named():
    with (
        serve(ITEMS[:1]) as url,
        pytest.raises(CatalogConnectionError, match="cannot listen on"),
        serve(ITEMS[:1], port=int(url.rsplit(":", 1)[1])),
    ):
        pass


BAD = [
    {"query": {"eo:cloud_cover": {"near": 3}}},
    {"query": {"platform": {"lt": 3}}},
]


@pytest.mark.parametrize("search", BAD, ids=str)
def test_what_the_library_refuses_is_a_bad_request(ours, search):
    with pytest.raises(pystac_client.exceptions.APIError, match=r"near|platform"):
        list(ours.search(**search).items_as_dicts())


SEARCHES = [
    {"bbox": [29, 50, 31, 51]},
    {"bbox": [179, -60, -175, 60]},
    {"datetime": "2018-02-01/2018-02-28"},
    {"datetime": "../2018-01-09T10:50:00Z", "query": {"platform": {"eq": "sentinel-2a"}}},
    {"query": {"eo:cloud_cover": {"gte": 4, "lt": 30}, "platform": {"endsWith": "2b"}}},
    {"query": {"id": {"in": ["sentinel-2-l2a-007"]}, "none": {"neq": 3}}},
    {"query": {"platform": {"contains": "%"}}},
    {"query": {"none": {"lt": 3}}},
]


@pytest.mark.parametrize("search", SEARCHES, ids=str)
def test_a_server_finds_what_is_found_in_a_file(ours, search):
    held = load_items(ITEMS, make_query(**search))
    assert ids(ours.search(**search)) == {located.item["id"] for located in held}


def test_a_static_catalogue_is_walked(data):
    items, collections = read_catalog(data / "flanders-2018" / "catalog.json")
    assert {c["id"] for c in collections} == {i["collection"] for i in items}
    assert sum(i["collection"] == "sentinel-2-l2a" for i in items) == 118
    assert Path(items[0]["assets"]["red" if "red" in items[0]["assets"] else "vv"]["href"]).exists()


def test_a_missing_catalogue_is_named(tmp_path):
    with pytest.raises(CatalogError, match=r"cannot read .*nothing\.json"):
        read_catalog(tmp_path / "nothing.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(CatalogError, match=r"bad\.json is not JSON"):
        read_catalog(tmp_path / "bad.json")
