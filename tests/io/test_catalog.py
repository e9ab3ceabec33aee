"""Every source of STAC items gives the same scenes; queries and bad input are named."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import http.server
import json
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.servers import collection, rustac_serve

from xharmonize.errors import (
    CatalogConnectionError,
    CatalogError,
    EmptyQueryError,
    GridError,
)
from xharmonize.io.stac.query import make_query, read_interval
from xharmonize.io.stac.scenes import read_scenes

S2 = "sentinel-2-l2a"
TILE = [3.0, 50.5, 3.5, 51.0]


def item(number: int, *, collection: str = S2, day: str | None = None, bbox=TILE) -> dict:
    moment = day or f"2018-{1 + number // 28:02d}-{1 + number % 28:02d}T10:50:00Z"
    west, south, east, north = bbox
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [],
        "id": f"{collection}-{number:05d}",
        "collection": collection,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": list(bbox),
        "properties": {
            "datetime": moment,
            "eo:cloud_cover": float(number),
            "platform": "sentinel-2a" if collection == S2 else "landsat-8",
            "proj:epsg": 32631,
        },
        "links": [],
        "assets": {
            "red": {
                "href": f"./{number}.tif",
                "raster:bands": [{"data_type": "uint16", "nodata": 0}],
            }
        },
    }


def settled(one: dict) -> dict:
    """An item with the scale its product has."""
    raster = one["assets"]["red"]["raster:bands"][0]
    scale, offset = (1e-4, 0.0) if one["collection"] == S2 else (2.75e-5, -0.2)
    raster |= {"scale": scale, "offset": offset}
    return one


ITEMS = [settled(item(n)) for n in range(30)]
ITEMS += [settled(item(n, collection="landsat-c2-l2", bbox=[30, 50, 31, 51])) for n in range(5)]


def ids(scenes) -> list[str]:
    return sorted(scene.id for scene in scenes)


ALL = sorted(one["id"] for one in ITEMS)


def write_static(folder: Path, items: list[dict]) -> Path:
    """A static catalogue: catalog → collections → items, the second nested one level deeper."""

    def write(path: Path, document: dict) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document))

    children = []
    for name in sorted({one["collection"] for one in items}):
        members = [one for one in items if one["collection"] == name]
        links = [{"rel": "item", "href": f"./{m['id']}/{m['id']}.json"} for m in members]
        links.append({"rel": "root", "href": "../catalog.json"})
        write(folder / name / "collection.json", collection(name) | {"links": links})
        for member in members:
            write(folder / name / member["id"] / f"{member['id']}.json", member)
        children.append({"rel": "child", "href": f"./{name}/collection.json"})
    root = {"type": "Catalog", "id": "root", "stac_version": "1.0.0", "description": "x"}
    write(folder / "catalog.json", root | {"links": children})
    return folder / "catalog.json"


@pytest.fixture(scope="module")
def static(tmp_path_factory) -> Path:
    return write_static(tmp_path_factory.mktemp("static"), ITEMS)


@pytest.fixture(scope="module")
def api():
    pytest.importorskip("stac_fastapi.api")
    pytest.importorskip("pystac_client")
    from xharmonize.cli.server import serve

    with serve(ITEMS) as url:
        yield url


# ---------------------------------------------------------------- sources in memory and in files
def test_items_in_memory(tmp_path):
    pystac = pytest.importorskip("pystac")
    objects = [pystac.Item.from_dict(one) for one in ITEMS]
    features = {"type": "FeatureCollection", "features": ITEMS}
    sources = [
        ITEMS,
        features,
        [features],
        objects,
        pystac.ItemCollection(objects),
        iter(ITEMS),
    ]
    for source in sources:
        assert ids(read_scenes(source)) == ALL
    for source in (ITEMS[0], objects[0], ITEMS[:1]):
        assert ids(read_scenes(source)) == ALL[5:6]


def test_items_in_files(tmp_path):
    files = {
        "collection.json": json.dumps({"type": "FeatureCollection", "features": ITEMS}),
        "list.json": json.dumps(ITEMS),
        "lines.ndjson": "\n".join(map(json.dumps, ITEMS)),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        scenes = read_scenes(tmp_path / name)
        assert ids(scenes) == ALL
        hrefs = {scene.item["assets"]["red"]["href"] for scene in scenes}
        assert str(tmp_path / "7.tif") in hrefs
    (tmp_path / "item.json").write_text(json.dumps(ITEMS[0]))
    assert ids(read_scenes(str(tmp_path / "item.json"))) == [ITEMS[0]["id"]]


def test_items_in_geoparquet(tmp_path):
    rustac = pytest.importorskip("rustac")
    path = tmp_path / "items.parquet"
    rustac.write_sync(str(path), ITEMS[:30])
    scenes = read_scenes(path)
    assert ids(scenes) == ALL[5:]
    assert scenes[0].step.scale == {"red": 1e-4}


def test_a_static_catalogue_is_walked_with_paths_made_absolute(static):
    for source in (static, str(static), static.parent):
        scenes = read_scenes(source)
        assert ids(scenes) == ALL
    first = next(scene for scene in scenes if scene.id == ITEMS[0]["id"])
    assert first.item["assets"]["red"]["href"] == str(static.parent / S2 / first.id / "0.tif")


def test_pystac_catalogues_and_static_clients_are_walked(static):
    pystac = pytest.importorskip("pystac")
    pystac_client = pytest.importorskip("pystac_client")
    assert ids(read_scenes(pystac.Catalog.from_file(str(static)))) == ALL
    scenes = read_scenes(pystac_client.Client.open(str(static)), collection=S2)
    assert ids(scenes) == ALL[5:]
    assert scenes[0].item["assets"]["red"]["href"].startswith(str(static.parent))


def test_a_catalogue_that_pystac_cannot_walk_is_named(tmp_path):
    pystac = pytest.importorskip("pystac")
    links = [{"rel": "child", "href": "./gone.json"}]
    root = {"type": "Catalog", "id": "r", "stac_version": "1.0.0", "description": "x"}
    (tmp_path / "catalog.json").write_text(json.dumps(root | {"links": links}))
    with pytest.raises(CatalogError, match="pystac cannot walk the catalogue 'r'"):
        read_scenes(pystac.Catalog.from_file(str(tmp_path / "catalog.json")))


def test_a_static_catalogue_on_a_server(static):
    with files_served(static.parent) as url:
        scenes = read_scenes(f"{url}/catalog.json", collection=S2, datetime="2018-01-03")
        with pytest.raises(CatalogConnectionError, match="404"):
            read_scenes(f"{url}/nowhere.json")
    assert ids(scenes) == ["sentinel-2-l2a-00002"]
    href = scenes[0].item["assets"]["red"]["href"]
    assert href == f"{url}/{S2}/{scenes[0].id}/2.tif"


def test_pages_on_a_server_are_followed_to_their_end(tmp_path):
    follows = {"one": "two", "two": None, "loop": "loop"}
    for (name, following), items in zip(follows.items(), (ITEMS[:7], ITEMS[7:], ITEMS)):
        links = [{"rel": "next", "href": f"./{following}.json"}] if following else []
        page = {"type": "FeatureCollection", "features": items, "links": links}
        (tmp_path / f"{name}.json").write_text(json.dumps(page))
    with files_served(tmp_path) as url:
        assert ids(read_scenes(f"{url}/one.json")) == ALL
        with pytest.raises(CatalogError, match="lead back to one already read"):
            read_scenes(f"{url}/loop.json")


@contextlib.contextmanager
def files_served(folder: Path):
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


# ---------------------------------------------------------------- servers
@pytest.fixture(scope="module", params=["stac-fastapi", "rustac"])
def server(request, tmp_path_factory):
    if request.param == "stac-fastapi":
        yield request.getfixturevalue("api")
        return
    with rustac_serve(ITEMS, tmp_path_factory.mktemp("rustac")) as url:
        yield url


def test_an_api_is_searched_by_url_client_and_open_search(server):
    pystac_client = pytest.importorskip("pystac_client")
    client = pystac_client.Client.open(server)
    asked = {"collection": S2, "datetime": "2018-01-10/2018-01-20", "bbox": TILE}
    expected = [f"{S2}-{n:05d}" for n in range(9, 20)]
    assert ids(read_scenes(server, **asked)) == expected
    assert ids(read_scenes(client, **asked)) == expected
    search = client.search(collections=[S2], datetime="2018-01-10/2018-01-20", limit=4)
    assert ids(read_scenes(search)) == expected
    assert ids(read_scenes(search.item_collection())) == expected


def test_the_address_of_a_collection_is_searched(server):
    pytest.importorskip("pystac_client")
    assert ids(read_scenes(f"{server}/collections/{S2}")) == ALL[5:]


def test_a_property_query_holds_even_where_the_server_ignores_it(server):
    scenes = read_scenes(server, collection=S2, query={"eo:cloud_cover": {"lt": 3}})
    assert ids(scenes) == [f"{S2}-{n:05d}" for n in range(3)]


def test_an_unreachable_api_is_a_connection_error():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/stac"
    with pytest.raises(CatalogConnectionError, match=f"{url} cannot be reached"):
        read_scenes(url)
    with pytest.raises(ConnectionError):
        read_scenes(url)


def test_an_api_that_dies_under_an_open_client_is_a_connection_error():
    pytest.importorskip("stac_fastapi.api")
    pystac_client = pytest.importorskip("pystac_client")
    from xharmonize.cli.server import serve

    with serve(ITEMS) as url:
        client = pystac_client.Client.open(url)
    with pytest.raises(CatalogConnectionError, match="search"):
        read_scenes(client, collection=S2)


# ---------------------------------------------------------------- modifier
def test_a_modifier_signs_in_place_or_by_returning():
    pytest.importorskip("pystac")

    def sign_in_place(stac_item) -> None:
        for asset in stac_item.assets.values():
            asset.href += "?signed"

    def sign_a_copy(stac_item):
        signed = stac_item.clone()
        sign_in_place(signed)
        return signed

    for modifier in (sign_in_place, sign_a_copy):
        scenes = read_scenes(ITEMS, modifier=modifier)
        hrefs = [scene.item["assets"]["red"]["href"] for scene in scenes]
        assert all(href.endswith("?signed") for href in hrefs)
        assert scenes[0].item["assets"]["red"]["raster:bands"][0]["scale"] in (1e-4, 2.75e-5)
    assert ITEMS[0]["assets"]["red"]["href"] == "./0.tif"


# ---------------------------------------------------------------- queries answered here
@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("2018", "2018-01-01T00:00:00", "2018-12-31T23:59:59.999999"),
        ("2018-02", "2018-02-01T00:00:00", "2018-02-28T23:59:59.999999"),
        ("2018-07/2018-09", "2018-07-01T00:00:00", "2018-09-30T23:59:59.999999"),
        ("2018-12", "2018-12-01T00:00:00", "2018-12-31T23:59:59.999999"),
        ("2018-07-15", "2018-07-15T00:00:00", "2018-07-15T23:59:59.999999"),
        ("2018-07-15T10:00:00Z", "2018-07-15T10:00:00", "2018-07-15T10:00:00"),
        ("2018-07-15T12:00:00+02:00/..", "2018-07-15T10:00:00", None),
        ("../2018-07", None, "2018-07-31T23:59:59.999999"),
        ("2018-07/", "2018-07-01T00:00:00", None),
        (("2018-07", None), "2018-07-01T00:00:00", None),
        (np.datetime64("2018-07-15"), "2018-07-15T00:00:00", "2018-07-15T23:59:59.999999"),
        (dt.date(2018, 7, 15), "2018-07-15T00:00:00", "2018-07-15T23:59:59.999999"),
        (
            (dt.datetime(2018, 7, 15, 10), dt.datetime(2018, 7, 16, tzinfo=dt.UTC)),
            "2018-07-15T10:00:00",
            "2018-07-16T00:00:00",
        ),
        (None, None, None),
    ],
)
def test_intervals_of_every_form(asked, start, end):
    found = read_interval(asked)
    assert tuple(moment and moment.isoformat() for moment in found) == (start, end)


@pytest.mark.parametrize(
    "asked", ["2018-13", "July", "2018-07/2018-06", "2018/2019/2020", "2018-7"]
)
def test_a_malformed_interval_is_named(asked):
    with pytest.raises(CatalogError, match=f"datetime='{asked}'"):
        read_scenes(ITEMS, datetime=asked)


@pytest.mark.parametrize(
    ("bbox", "what"),
    [
        ((3.0, 50.5, 3.0, 51.0), "no extent"),
        ((3.0, 50.5, 3.5, 50.5), "no extent"),
        ((3.5, 50.5, 3.0, 51.0), "inverted"),
        ((3.0, 51.0, 3.5, 50.5), "inverted"),
        ((500000, 5600000, 510000, 5610000), "in metres perhaps"),
        ((3.0, 50.5, 3.5), "not four finite"),
        ((3.0, 50.5, float("nan"), 51.0), "not four finite"),
    ],
)
def test_a_bad_box_is_named(bbox, what):
    with pytest.raises(GridError, match=rf"bbox=\(.*{what}.*degrees"):
        read_scenes(ITEMS, bbox=bbox)


def test_boxes_select_by_overlap_also_across_the_antimeridian():
    boxes = {"fiji": [179.0, -18.0, -179.0, -17.0], "east": [170.0, -18.0, 171.0, -17.0]}
    items = [settled(item(n, bbox=box)) for n, box in enumerate(boxes.values())]
    assert ids(read_scenes(items, bbox=(179.5, -17.8, 179.9, -17.2))) == [f"{S2}-00000"]
    assert ids(read_scenes(items, bbox=(-179.9, -17.8, -179.5, -17.2))) == [f"{S2}-00000"]
    assert len(read_scenes(items, bbox=(169.0, -18.0, -179.5, -17.0))) == 2
    assert ids(read_scenes(ITEMS, bbox=(3.5, 51.0, 4.0, 52.0))) == ALL[5:]  # touching counts


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"eo:cloud_cover": {"lt": 3}}, 6),
        ({"eo:cloud_cover": {"gte": 3, "lte": 5}}, 5),
        ({"platform": "landsat-8"}, 5),
        ({"platform": {"in": ["landsat-8"]}, "eo:cloud_cover": {"gt": 1}}, 3),
        ({"platform": {"neq": "landsat-8"}}, 30),
        ({"id": {"endsWith": "00001"}}, 2),
        ({"nowhere": {"neq": 1}}, 35),
    ],
)
def test_property_queries_are_answered_here(query, count):
    assert len(read_scenes(ITEMS, query=query)) == count


def test_an_unknown_operator_is_named():
    with pytest.raises(CatalogError, match="below"):
        make_query(query={"eo:cloud_cover": {"below": 3}})


@pytest.mark.parametrize(
    "asked",
    [
        {"collection": "sentinel-3"},
        {"datetime": "2031"},
        {"bbox": (100.0, 0.0, 101.0, 1.0)},
        {"query": {"eo:cloud_cover": {"lt": -1}}},
    ],
)
def test_a_query_nothing_fits_is_named(asked, static):
    for source in (ITEMS, static):
        with pytest.raises(EmptyQueryError, match=f"no item of .* fits {next(iter(asked))}="):
            read_scenes(source, **asked)


def test_empty_sources_are_empty_queries():
    for source in ([], {"type": "FeatureCollection", "features": []}):
        with pytest.raises(LookupError, match="fits everything"):
            read_scenes(source)


@pytest.mark.parametrize(
    ("source", "what"),
    [
        (42, "int '42' is no STAC source"),
        ([42], "int '42' is no STAC source"),
        ("/no/such/catalog.json", "there is no file"),
        ({"type": "Topology"}, "of type 'Topology'"),
        ({"features": []}, "of type None"),
    ],
)
def test_what_is_no_stac_is_named(source, what):
    with pytest.raises(CatalogError, match=what):
        read_scenes(source)


def test_files_that_are_no_stac_are_named(tmp_path):
    (tmp_path / "broken.json").write_text("{not json")
    with pytest.raises(CatalogError, match="is not JSON"):
        read_scenes(tmp_path / "broken.json")
    links = [{"rel": "item", "href": "./gone.json"}]
    (tmp_path / "catalog.json").write_text(json.dumps({"type": "Catalog", "links": links}))
    with pytest.raises(CatalogError, match=r"names .*gone\.json.*does not exist"):
        read_scenes(tmp_path)


# ---------------------------------------------------------------- order and speed
def test_scenes_come_in_order_of_time_to_the_nanosecond():
    scenes = read_scenes(ITEMS[::-1])
    times = [scene.datetime for scene in scenes]
    assert times == sorted(times)
    assert times[0].dtype == np.dtype("M8[ns]")


def test_an_item_with_a_range_of_time_stands_at_its_start():
    one = settled(item(0))
    one["properties"] |= {
        "datetime": None,
        "start_datetime": "2018-03-01T00:00:00Z",
        "end_datetime": "2018-03-31T00:00:00Z",
    }
    assert read_scenes(one, datetime="2018-03-15")[0].datetime == np.datetime64("2018-03-01", "ns")
    with pytest.raises(EmptyQueryError):
        read_scenes(one, datetime="2018-04-15")


@pytest.mark.slow
def test_ten_thousand_items_take_seconds():
    keys = [f"B{n:02d}" for n in (2, 3, 4, 5, 6, 7, 8, 11, 12)] + ["SCL", "visual", "thumbnail"]
    raster = {"raster:bands": [{"data_type": "uint16", "nodata": 0, "scale": 1e-4, "offset": 0.0}]}
    assets = {key: {"href": f"./{key}.tif", "proj:code": "EPSG:32631", **raster} for key in keys}
    moments = np.datetime64("2018-01-01T00:00:00") + np.arange(10_000) * np.timedelta64(1, "h")
    items = [item(n, day=f"{moment}Z") | {"assets": assets} for n, moment in enumerate(moments)]
    start = time.process_time()  # of this process: other work on the machine does not count
    assert len(read_scenes(items)) == 10_000
    assert time.process_time() - start < 30  # linear: quadratic would take hours
