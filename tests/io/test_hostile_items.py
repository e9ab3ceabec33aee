"""Items and catalogues that were made to harm: local files as pixels, orders to a terminal,
numbers without end, servers that never stop.
"""

from __future__ import annotations

import http.server
import json
import threading
import time
from contextlib import contextmanager
from urllib.parse import parse_qs, urlparse

import numpy as np
import pytest
import rasterio
from helpers.items import ENGINES, sentinel2, write

import xharmonize as xh
from xharmonize.errors import AssetReadError, CatalogConnectionError, CatalogError
from xharmonize.io.stac import sources
from xharmonize.io.stac import sources as documents
from xharmonize.io.stac.fields import schemes_of
from xharmonize.io.stac.scenes import read_scenes

SECRET = 7777


@pytest.fixture
def secret(tmp_path):
    """A file of this machine that no catalogue is to read."""
    write(tmp_path / "secret.tif", np.full((24, 24), SECRET, "uint16"), step=10.0)
    write(tmp_path / "half.tif", np.full((12, 12), SECRET, "uint16"), step=20.0)
    return tmp_path / "secret.tif"


def virtual(path, side=24) -> str:
    return (
        f'<VRTDataset rasterXSize="{side}" rasterYSize="{side}">'
        "<SRS>EPSG:32631</SRS><GeoTransform>600000,10,0,5600040,0,-10</GeoTransform>"
        '<VRTRasterBand dataType="UInt16" band="1"><SimpleSource>'
        f"<SourceFilename>{path}</SourceFilename><SourceBand>1</SourceBand>"
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )


def with_red(folder, href: str) -> dict:
    item = sentinel2(folder)
    item["assets"]["red"]["href"] = href
    return item


def read(item, **options):
    return xh.open_stac(item, bands="red", mask=None, decode=False, **options).compute()


# ---------------------------------------------------------------- addresses
@pytest.mark.parametrize(
    "make",
    [
        virtual,
        lambda path: f" {virtual(path)}",
        lambda path: f"{path.parent}/x\n{virtual(path)}",
        lambda path: f"vrt://{path}",
        lambda path: f"GTIFF_DIR:1:{path}",
        lambda path: f"GTIFF_RAW:{path}",
        lambda path: f"DERIVED_SUBDATASET:AMPLITUDE:{path}",
        lambda path: f"/vsisubfile/0,{path}",
        lambda path: f"/vsicurl/file://{path}",
        lambda path: f"/VSIZIP//vsicurl/https://host/a.zip/{path}",
        lambda path: f"zip://{path}!x.tif",
        lambda path: '{"type": "gdal_streamed_alg"}',
        lambda path: "http://[",
    ],
    ids=lambda case: getattr(case, "__name__", "case"),
)
def test_what_is_no_plain_address_is_refused_before_it_is_opened(secret, tmp_path, make):
    item = with_red(tmp_path, make(secret))
    with pytest.raises(CatalogError):
        read_scenes(item)
    # Beside a file some of them are the names of files, which are not there.
    path = tmp_path / "item.json"
    path.write_text(json.dumps(item))
    with pytest.raises((CatalogError, AssetReadError)):
        read(str(path))


def test_relative_addresses_that_lead_to_handlers_are_refused(tmp_path):
    path = tmp_path / "item.json"
    path.write_text(json.dumps(with_red(tmp_path, "../" * 12 + "vsizip/tmp/a.zip")))
    with pytest.raises(CatalogError, match="'vsizip'"):
        read_scenes(str(path))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_virtual_raster_is_not_read(secret, tmp_path, engine):
    (tmp_path / "red.vrt").write_text(virtual(secret))
    (tmp_path / "red.tif").write_text(virtual(secret))
    for name in ("red.vrt", "red.tif"):
        with pytest.raises(AssetReadError, match=r"asset 'red' of item 's2' .* drivers= of"):
            read(with_red(tmp_path, str(tmp_path / name)), engine=engine)
        skipped = read(with_red(tmp_path, str(tmp_path / name)), engine=engine, on_error="skip")
        assert SECRET not in skipped.values


@pytest.mark.parametrize("engine", ENGINES)
def test_drivers_and_schemes_are_arguments(secret, tmp_path, engine):
    (tmp_path / "red.vrt").write_text(virtual(secret))
    item = with_red(tmp_path, str(tmp_path / "red.vrt"))
    assert (read(item, engine=engine, drivers=("GTiff", "VRT")) == SECRET).all()
    item = with_red(tmp_path, f"GTIFF_DIR:1:{secret}")
    read_scenes(item, schemes=("gtiff_dir", "file"))
    with pytest.raises(CatalogError, match="names nothing"):
        read_scenes(item, schemes=())


def test_other_files_of_a_geotiff_are_not_read(secret, tmp_path):
    """Overviews that a tag or a file beside it brings, and a mask."""
    red = np.full((24, 24), 2000, "uint16")
    write(tmp_path / "tag.tif", red, step=10.0)
    with rasterio.open(tmp_path / "tag.tif", "r+") as file:
        file.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=str(tmp_path / "half.tif"))
    write(tmp_path / "beside.tif", red, step=10.0)
    (tmp_path / "beside.tif.ovr").write_text(virtual(tmp_path / "half.tif", 12))
    write(tmp_path / "mask.tif", red, step=10.0, nodata=None)
    (tmp_path / "mask.tif.msk").write_text(virtual(secret))
    for name in ("tag.tif", "beside.tif", "mask.tif"):
        with pytest.raises(AssetReadError):
            read(with_red(tmp_path, str(tmp_path / name)), engine="odc", resolution=40.0,
                 resampling="nearest")  # fmt: skip
    (tmp_path / "mask.tif.msk").unlink()
    write(tmp_path / "mask.tif.ovr", red[:12, :12], step=20.0)
    assert (read(with_red(tmp_path, str(tmp_path / "mask.tif")), engine="odc") == 2000).all()


@pytest.mark.parametrize(
    ("href", "expected"),
    [
        ("https://host/<x>?u=file:///etc", ("https",)),
        ("/data/vsi/a.tif", ("file",)),
        ("NETCDF:/data/x.nc:red", ("netcdf", "file")),
        ("/vsis3/bucket/x.tif", ("vsis3",)),
        ("s3://bucket/x.tif", ("s3",)),
    ],
)
def test_kinds_of_addresses(href, expected):
    assert schemes_of(href) == expected


# ---------------------------------------------------------------- from the web
class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with what the test's function gives for a path."""

    def do_GET(self) -> None:
        answer = self.server.answer(self.path)
        if callable(answer):
            answer(self)
            return
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_) -> None:
        pass


@contextmanager
def serving(answer):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.answer, server.daemon_threads = answer, True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        server.url = f"http://127.0.0.1:{server.server_port}"
        yield server
        server.shutdown()


def collection(*items, **fields) -> dict:
    return {"type": "FeatureCollection", "features": list(items), "links": [], **fields}


@pytest.mark.parametrize("prefix", ["", "file://", "FILE:", "file://localhost", "  "])
def test_the_web_links_no_local_path(secret, tmp_path, prefix):
    item = with_red(tmp_path, f"{prefix}{secret}")
    with serving(lambda path: collection(item)) as server:
        with pytest.raises(CatalogError, match=r"asset 'red' .* local path"):
            read_scenes(server.url, bands=["red"])
        cure = ("https", "http", "file")
        assert len(read_scenes(server.url, bands=["red"], schemes=cure)) == 1
    item["links"] = [{"rel": "self", "href": "https://host/item.json"}]
    with pytest.raises(CatalogError, match="pass schemes="):
        read_scenes(item, bands=["red"])
    assert read_scenes(item, schemes=cure)


def test_a_modifier_may_lead_to_files_of_its_own(tmp_path):
    item = sentinel2(tmp_path)
    local = {key: asset["href"] for key, asset in item["assets"].items()}
    for key, asset in item["assets"].items():
        asset["href"] = f"https://host/{key}.tif"
    item["links"] = [{"rel": "self", "href": "https://host/item.json"}]

    def mirrored(one):
        for key, asset in one.assets.items():
            asset.href = local[key]

    assert read(item, modifier=mirrored).size


@pytest.mark.parametrize("rel", ["item", "child", "next"])
@pytest.mark.parametrize("prefix", ["file://", "ftp://host", "s3://host"])
def test_the_web_links_no_local_document(tmp_path, rel, prefix):
    (tmp_path / "item.json").write_text(json.dumps(sentinel2(tmp_path)))
    links = [{"rel": rel, "href": f"{prefix}{tmp_path}/item.json"}]
    document = {"type": "Catalog", "id": "c", "links": links}
    if rel == "next":
        document = collection(sentinel2(tmp_path), links=links)
    refusal = pytest.raises(CatalogError, match="may link the web only")
    with serving(lambda path: document) as server, refusal:
        read_scenes(server.url)


# ---------------------------------------------------------------- without end
def test_endless_pages(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MOST_PAGES", 20)
    item = sentinel2(tmp_path)
    fresh = [True]

    def answer(path):
        n = int(parse_qs(urlparse(path).query).get("n", ["0"])[0])
        one = item | {"id": f"s2-{n}" if fresh[0] else "s2"}
        return collection(one, links=[{"rel": "next", "href": f"/?n={n + 1}"}])

    with serving(answer) as server:
        with pytest.raises(CatalogError, match="do not end after 20; narrow the search"):
            read_scenes(server.url)
        fresh[0] = False
        with pytest.raises(CatalogError, match="bring items already read"):
            read_scenes(server.url)


def test_endless_pages_of_an_api(tmp_path, monkeypatch):
    pytest.importorskip("pystac_client")
    monkeypatch.setattr(sources, "MOST_PAGES", 20)
    item, count = sentinel2(tmp_path), iter(range(10**6))

    def answer(path):
        if urlparse(path).path != "/search":
            uris = ["https://api.stacspec.org/v1.0.0/core"]
            uris.append("https://api.stacspec.org/v1.0.0/item-search")
            return {
                "type": "Catalog",
                "id": "api",
                "description": "-",
                "stac_version": "1.0.0",
                "conformsTo": uris,
                "links": [{"rel": "search", "href": f"{server.url}/search", "method": "GET"}],
            }
        following = {"rel": "next", "href": f"{server.url}/search?n={next(count)}"}
        return collection(item | {"id": f"s2-{next(count)}"}, links=[following])

    refusal = pytest.raises(CatalogError, match="do not end after 20")
    with serving(answer) as server, refusal:
        read_scenes(server.url)


@pytest.mark.parametrize("is_circular", [True, False])
def test_deep_and_circular_children(is_circular):
    def answer(path):
        n = 0 if is_circular else int(path.strip("/") or 0) + 1
        href = f"/{n}" if not is_circular else f"/?{time.monotonic_ns()}"
        return {"type": "Catalog", "id": "c", "links": [{"rel": "child", "href": href}]}

    refusal = pytest.raises(CatalogError, match="deeper than 32 levels, in circles perhaps")
    with serving(answer) as server, refusal:
        read_scenes(server.url)


def test_children_that_lead_back_are_read_once(tmp_path):
    (tmp_path / "item.json").write_text(json.dumps(sentinel2(tmp_path)))
    links = [{"rel": "child", "href": "./catalog.json"}, {"rel": "item", "href": "./item.json"}]
    document = {"type": "Catalog", "id": "c", "links": links}
    (tmp_path / "catalog.json").write_text(json.dumps(document))
    assert len(read_scenes(str(tmp_path))) == 1


def test_deep_pystac_catalogues(tmp_path):
    pystac = pytest.importorskip("pystac")
    root = last = pystac.Catalog(id="0", description="-")
    for n in range(1, 60):
        last.add_child(following := pystac.Catalog(id=str(n), description="-"))
        last = following
    with pytest.raises(CatalogError, match="deeper than 32 levels"):
        read_scenes(root)
    ring = pystac.Catalog(id="ring", description="-")
    ring.add_link(pystac.Link("child", ring))
    with pytest.raises(xh.errors.XHarmonizeError):
        read_scenes(ring)


@pytest.fixture
def _short_timeout():
    with xh.set_options(timeout=0.5):
        yield


@pytest.mark.usefixtures("_short_timeout")
def test_dripping_servers():
    stop = threading.Event()

    def drip(handler):
        handler.send_response(200)
        handler.end_headers()
        while not stop.wait(0.05):
            handler.wfile.write(b" ")

    def drip_headers(handler):
        handler.wfile.write(b"HTTP/1.0 200 OK\r\nX: ")
        while not stop.wait(0.05):
            handler.wfile.write(b"x")

    for answer in (drip, drip_headers):
        refusal = pytest.raises(CatalogConnectionError, match=r"cannot be reached .*0\.5 s")
        with serving(lambda path, answer=answer: answer) as server, refusal:
            read_scenes(server.url)
    stop.set()


def test_endless_documents(monkeypatch):
    monkeypatch.setattr(documents, "LARGEST", 10**6)

    def pour(handler):
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(b" " * 10**5)
        except OSError:
            pass

    refusal = pytest.raises(CatalogError, match="sends more than 1,000,000 bytes")
    with serving(lambda path: pour) as server, refusal:
        read_scenes(server.url)


@pytest.mark.parametrize("side", [10**9, 10**400, -1, 0, 1.5, "many", None, [3]])
def test_shapes_that_no_file_has(tmp_path, side):
    item = sentinel2(tmp_path)
    item["assets"]["red"]["proj:shape"] = [side, 24]
    with pytest.raises(CatalogError, match=r"item 's2': asset 'red': proj:shape is "):
        xh.open_stac(item)


def test_a_grid_that_is_too_large_to_be_meant(tmp_path):
    item = sentinel2(tmp_path)
    for asset in item["assets"].values():
        asset["proj:shape"] = [4_000_000, 4_000_000]
    with pytest.raises(xh.errors.XHarmonizeError):
        xh.open_stac(item, bands="red")


# ---------------------------------------------------------------- malformed
def put(*path, value):
    def change(item):
        *parents, last = path
        for key in parents:
            item = item[key]
        item[last] = value

    return change


MALFORMED = {
    "id": put("id", value=["s2"]),
    "collection": put("collection", value={"id": "s2"}),
    "bbox": put("bbox", value=["a", 1, 2, 3]),
    "bbox ": put("bbox", value=[1, 2]),
    "bbox  ": put("bbox", value=[1, 2, float("nan"), 3]),
    "datetime": put("properties", "datetime", value=20220601),
    "datetime ": put("properties", "datetime", value="yesterday"),
    "proj:epsg": put("properties", "proj:epsg", value="UTM 31"),
    "proj:epsg ": put("properties", "proj:epsg", value=True),
    "asset 'red'": put("assets", "red", value="red.tif"),
    "href": put("assets", "red", "href", value=5),
    "proj:transform": put("assets", "red", "proj:transform", value=[10, 0, 600000]),
    "proj:transform ": put("assets", "red", "proj:transform", value=[0, 0, 0, 0, 0, 0]),
    "raster:bands": put("assets", "red", "raster:bands", value={"scale": 1}),
    "scale": put("assets", "red", "raster:bands", value=[{"scale": "small"}]),
    "scale ": put("assets", "red", "raster:bands", value=[{"scale": -1}]),
    "offset": put("assets", "red", "raster:bands", value=[{"offset": float("inf")}]),
    "data_type": put("assets", "red", "raster:bands", value=[{"data_type": "pixels"}]),
    "eo:bands": put("assets", "red", "eo:bands", value=[3]),
    "roles": put("assets", "red", "roles", value=7),
    "links": put("links", value={"self": "x"}),
    "view:sun_elevation": put("properties", "view:sun_elevation", value="high"),
}


@pytest.mark.parametrize("field", MALFORMED)
def test_a_malformed_field_is_named_with_its_item(tmp_path, field):
    item = sentinel2(tmp_path)
    MALFORMED[field](item)
    with pytest.raises(CatalogError) as caught:
        xh.open_stac(item)
    assert field.strip() in str(caught.value)
    assert "s2" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "document",
    [
        {"type": "FeatureCollection"},
        {"type": "FeatureCollection", "features": 3},
        {"type": "FeatureCollection", "features": [None]},
        {"type": "Feature", "id": "x", "properties": None, "assets": {}},
        {"type": "Catalog", "links": "x"},
        {"type": "Catalog", "links": [{"rel": "item"}]},
        {"type": "Catalog", "links": [3]},
        3,
        "text",
    ],
)
def test_malformed_documents(tmp_path, document):
    (tmp_path / "x.json").write_text(json.dumps(document))
    with pytest.raises(CatalogError):
        read_scenes(str(tmp_path / "x.json"))


def test_a_query_that_cannot_be_compared_is_named(tmp_path):
    item = sentinel2(tmp_path)
    item["properties"]["eo:cloud_cover"] = "few"
    with pytest.raises(CatalogError, match=r"item 's2' has eo:cloud_cover 'few'"):
        read_scenes(item, query={"eo:cloud_cover": {"lt": 20}})


# ---------------------------------------------------------------- shown
ORDERS = "\x1b[2J\x9b31m\u202e\x07"


def test_errors_and_warnings_give_no_orders_to_a_terminal(tmp_path):
    item = sentinel2(tmp_path) | {"id": f"s2{ORDERS}", "bbox": 3}
    with pytest.raises(CatalogError) as caught:
        read_scenes(item)
    error = xh.errors.RadiometryError(f"item {item['id']}")
    warning = xh.errors.RadiometryWarning(f"item {item['id']}")
    for text in (str(caught.value), str(error), str(warning)):
        assert not set(ORDERS) & set(text) - set("[2J31m")
        assert r"\x1b" in text
