"""What can be taken along from the page, asked for as a browser does."""

import csv
import io
import sys

import pytest
from synthetic import write_run

from cockpit.dashboard import create_app
from cockpit.reading import Reading
from cockpit.store import Header, Store, Writer

HOSTILE = "<b>run</b> é 'x'"


@pytest.fixture(scope="module")
def logdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "digits", 40)
    writer = Writer(folder / HOSTILE.replace("/", "÷"), Header("odd", 0.0))
    writer.put(0, 0.0, {"loss": Reading(1.0)})
    writer.close()
    (folder / "broken").mkdir()
    (folder / "broken" / "rank0.db").write_bytes(b"no database at all" * 99)
    return folder


@pytest.fixture
def client(logdir):
    return create_app(Store(logdir)).server.test_client()


def test_all_numbers_come_as_csv(client):
    answer = client.get("/download/csv?run=digits", buffered=True)
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert answer.headers["Content-Disposition"] == "attachment; filename=digits.csv"
    assert [int(row["step"]) for row in rows] == [0, 1, 10, 11, 20, 21, 30, 31]
    assert {"loss", "valid/accuracy"} < rows[0].keys()


def test_all_points_come_as_parquet(client):
    pq = pytest.importorskip("pyarrow.parquet")
    table = pq.read_table(io.BytesIO(client.get("/download/parquet?run=digits", buffered=True).data))
    assert {"scalar", "layers", "histogram", "layer_histograms"} <= set(table["kind"].to_pylist())


def test_a_name_that_is_no_file_name_becomes_one(client):
    answer = client.get("/download/csv", query_string={"run": HOSTILE.replace("/", "÷")}, buffered=True)
    assert answer.status_code == 200
    assert "<" not in answer.headers["Content-Disposition"]


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/download/csv?run=digitz", 404, "there is no run 'digitz'"),
        ("/download/csv", 404, "'' is not a run"),
        ("/download/csv?run=../../etc", 404, "is not a run"),
        ("/download/exe?run=digits", 404, "csv, parquet, html"),
        ("/download/csv?run=broken", 503, "broken"),
    ],
)
def test_what_cannot_be_downloaded_is_answered_in_words(client, path, status, words):
    answer = client.get(path)
    assert answer.status_code == status
    assert answer.mimetype == "text/plain"
    assert words in answer.text


def test_without_pyarrow_the_extra_is_named(client, monkeypatch):
    monkeypatch.delitem(sys.modules, "cockpit.formats.parquet", raising=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    answer = client.get("/download/parquet?run=digits")
    assert (answer.status_code, "cockpit-debugger[parquet]" in answer.text) == (501, True)


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}])
def test_a_page_elsewhere_starts_no_download(client, headers):
    assert client.get("/download/csv?run=digits", headers=headers).status_code == 403
