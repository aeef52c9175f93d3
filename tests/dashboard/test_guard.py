"""Each attack on the page, tried: what a foreign name, page, or visitor asks for is refused."""

import http.client
import json
import logging
import re
from contextlib import closing
from urllib.parse import urlencode, urlsplit

import pytest
from asking import question, refreshing
from patience import LONG
from synthetic import write_run

from cockpit.dashboard import create_app, serve
from cockpit.dashboard.guard import Access
from cockpit.store import Store

PATHS = ("/", "/_dash-layout", "/_dash-dependencies", "/assets/cockpit.js", "/_dash-component-suites/dash/deps/x.js")
UPDATE = "/_dash-update-component"
TOKEN = "k" * 43


@pytest.fixture
def client(tmp_path):
    write_run(tmp_path / "digits", 40)
    return create_app(Store(tmp_path)).server.test_client()


@pytest.fixture
def guarded(tmp_path):
    return create_app(Store(tmp_path), Access(addresses=True, token=TOKEN)).server.test_client()


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:9999", "[::1]:8765", "localhost"])
def test_this_machines_names_are_answered(client, host):
    assert client.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "10.0.0.7:8765", "[::1", "user@evil:1", ""]
)
@pytest.mark.parametrize("path", ["/", "/_dash-layout", "/assets/cockpit.js"])
def test_other_names_are_refused(client, host, path):
    answer = client.get(path, headers={"Host": host}, buffered=True)
    assert answer.status_code == 403
    assert "127.0.0.1" in answer.text


@pytest.mark.parametrize(("host", "status"), [("10.0.0.7:8765", 401), ("[fe80::1]:8765", 401), ("evil.example", 403)])
def test_a_server_on_all_addresses_answers_to_any_address_and_to_no_other_name(guarded, host, status):
    assert guarded.get("/", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost:9999"},
        {"Origin": "null"},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "not an origin"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://evil.example"},
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_another_page_may_change_nothing(client, headers, method):
    answer = client.open(UPDATE, method=method, headers=headers, json={})
    assert answer.status_code == 403
    assert answer.text == "Only the dashboard's own page may ask for that."


@pytest.mark.parametrize("headers", [{}, {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}])
def test_the_page_itself_is_answered(client, headers):
    refresh = refreshing(client.get("/_dash-dependencies").json)
    answer = client.post(UPDATE, json=question(refresh, {}, None), headers=headers)
    assert answer.status_code == 200
    assert answer.json["response"]["shown"]["data"]["run"] == "digits"


def changing(client, clicked, given, **values):
    """What the page sends for a change in the list of runs: a click on ``clicked``, or an edit of it."""
    (callback,) = [
        entry
        for entry in client.get("/_dash-dependencies").json
        if not entry["clientside_function"] and any(clicked in part["id"] for part in entry["inputs"])
    ]

    def part(name, prop):
        return {"id": {"nr": 0, "runs": name}, "property": prop}

    def filled(parts):
        names = [(json.loads(part["id"].replace('["ALL"]', "0"))["runs"], part["property"]) for part in parts]
        return [[{**part(name, prop), "value": values[name.replace("-", "_")]}] for name, prop in names]

    outputs = [[part(*output)] for output in given] if len(given) > 1 else [part(*given[0])]
    changed = [json.dumps({"nr": 0, "runs": clicked}, separators=(",", ":")) + "." + callback["inputs"][0]["property"]]
    return {
        "output": callback["output"], "outputs": outputs, "changedPropIds": changed,
        "inputs": filled(callback["inputs"]), "state": filled(callback["state"]),
    }  # fmt: skip


def test_runs_are_deleted_and_annotated_for_the_page_itself_alone(client, tmp_path):
    edit = [{"rowId": "digits", "colId": "notes", "value": "mine"}]
    note = changing(client, "grid", [("said", "children")], grid=edit)
    delete = changing(
        client, "delete-now", [("said", "children"), ("dialog", "opened")], delete_now=1, doomed=["digits"]
    )
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "evil.example"}):
        for body in (note, delete):
            assert client.post(UPDATE, json=body, headers=headers).status_code == 403
    assert [(run.name, run.notes) for run in Store(tmp_path).runs()] == [("digits", "")]
    own = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
    assert client.post(UPDATE, json=note, headers=own).status_code == 200
    assert [run.notes for run in Store(tmp_path).runs()] == ["mine"]
    assert client.post(UPDATE, json=delete, headers=own).status_code == 200
    assert Store(tmp_path).runs() == []


@pytest.mark.parametrize("name", ["..", "../digits", "/etc", "digits/../../x", "x" * 5000, "\ud800", "\0", "."])
def test_no_name_in_a_request_leads_out_of_the_runs(client, tmp_path, name):
    (tmp_path / "kept").write_text("kept")
    delete = changing(client, "delete-now", [("said", "children"), ("dialog", "opened")], delete_now=1, doomed=[name])
    answer = client.post(UPDATE, json=delete)
    assert answer.status_code == 200
    assert any(words in answer.text for words in ("there is no run", "is not a run"))
    refresh = refreshing(client.get("/_dash-dependencies").json)
    answer = client.post(UPDATE, json=question(refresh, {"run": name}, None))
    assert answer.status_code == 200
    assert answer.json["response"]["view"]["children"]["props"]["className"] == "message"
    asked = urlencode({"run": name.encode("utf-8", "surrogatepass")})
    assert client.get(f"/download/csv?{asked}").status_code == 404
    assert [run.name for run in Store(tmp_path).runs()] == ["digits"]
    assert (tmp_path / "kept").exists()


def test_a_request_larger_than_any_page_sends_is_refused_before_it_is_read(tmp_path):
    with serve(tmp_path, port=0) as server, closing(http.client.HTTPConnection(urlsplit(server.url).netloc)) as asking:
        asking.putrequest("POST", UPDATE)
        asking.putheader("Content-Length", str(1 << 30))
        asking.endheaders()
        assert asking.getresponse().status == 413


def ask(port, path, headers=None):
    """A request as it stands, which no client tidies up: status and body."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=LONG)) as connection:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()


@pytest.mark.parametrize("path", PATHS)
def test_without_the_token_nothing_is_answered(guarded, path):
    assert guarded.get(path).status_code == 401
    assert guarded.get(path, headers={"Cookie": "cockpit-80=" + "x" * 43}).status_code == 401
    assert guarded.post(UPDATE, json={}).status_code == 401
    assert guarded.get(path).headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("offered", ["", "x", TOKEN[:-1], TOKEN + "k", "ключ", "%00"])
def test_a_wrong_token_is_refused_and_gets_no_cookie(guarded, offered):
    answer = guarded.get(f"/?token={offered}")
    assert answer.status_code == 403
    assert "Set-Cookie" not in answer.headers


def test_the_token_lets_a_browser_in_and_vanishes_from_the_address(guarded):
    answer = guarded.get(f"/?run=a%26b&token={TOKEN}&view=Classic")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/?run=a%26b&view=Classic")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert guarded.get("/").status_code == 200


@pytest.mark.parametrize("path", ["//evil.example/", "/\\evil.example", "/https://evil.example", "/_dash-layout"])
def test_the_token_leads_to_the_page_and_nowhere_else(guarded, path):
    answer = guarded.get(f"{path}?token={TOKEN}", base_url="http://localhost")
    assert answer.headers["Location"] == "/"


def test_another_page_may_change_nothing_for_whoever_has_the_token(guarded):
    guarded.get(f"/?token={TOKEN}")
    assert guarded.post(UPDATE, json={}, headers={"Origin": "https://evil.example"}).status_code == 403


@pytest.mark.parametrize("path", ["/", "/_dash-layout", "/nowhere", "/assets/nothing.js"])
def test_every_answer_tells_the_browser_what_it_must_keep_to(client, guarded, path):
    for answer in (client.get(path, buffered=True), guarded.get(path)):
        policy = answer.headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in policy
        assert "unsafe-eval" not in policy
        assert not re.search(r"script-src[^;]*unsafe-inline", policy)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_only_pages_that_are_named_may_show_the_dashboard_within_themselves(tmp_path):
    client = create_app(Store(tmp_path), Access(frames=("http://localhost:*",))).server.test_client()
    assert client.get("/").headers["Content-Security-Policy"].endswith("frame-ancestors http://localhost:*")


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../../../etc/passwd",
        "/assets/..%2f..%2f..%2fetc%2fpasswd",
        "/assets/%2e%2e/app.py",
        "/assets/..%5c..%5capp.py",
        "/assets//etc/passwd",
        "/_dash-component-suites/dash/../../secret/rank0.db",
        "/_dash-component-suites/cockpit.dashboard/app.py",
        "/_dash-component-suites/os/..%2f..%2fetc%2fpasswd",
        "/../../../etc/passwd",
    ],
)
def test_a_path_leads_to_no_file_but_the_pages_own(tmp_path, path):
    secret = tmp_path / "secret"
    write_run(secret, 20)
    (tmp_path / "runs").mkdir()
    with serve(tmp_path / "runs", port=0) as server:
        status, body = ask(urlsplit(server.url).port, path)
    assert status in (400, 404, 500) or b"<title>Cockpit</title>" in body
    for content in (b"root:", b"def create_app", b"SQLite format"):
        assert content not in body


def test_the_token_is_printed_once_and_logged_nowhere(tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    with serve(tmp_path, host="0.0.0.0", port=0) as server:
        words = server.announcement({"SSH_CONNECTION": "10.0.0.2 51000 10.0.0.7 22"})
        host, port = urlsplit(server.url).hostname, urlsplit(server.url).port
        for query in (f"?token={server.token}", "?token=wrong", ""):
            ask(port, f"/{query}")
    assert words.splitlines()[0] == f"Dashboard: {server.url}/?token={server.token}"
    assert words.count(server.token) == 1
    assert host != "0.0.0.0"
    assert len(server.token) >= 43
    captured = capfd.readouterr()
    assert server.token not in caplog.text + captured.out + captured.err + repr(server) + server.url


def test_each_start_makes_a_token_of_its_own(tmp_path):
    with serve(tmp_path, host="0.0.0.0", port=0) as first, serve(tmp_path, host="0.0.0.0", port=0) as second:
        assert first.token != second.token


def test_this_machine_alone_needs_no_token(tmp_path):
    with serve(tmp_path, port=0) as server:
        assert server.token is None


def test_a_name_that_is_allowed_is_answered_to_whoever_has_the_token(tmp_path):
    with serve(tmp_path, port=0, allow_hosts=["Cockpit.Example"]) as server:
        port = urlsplit(server.url).port
        status = {
            host: ask(port, f"/?token={server.token}", {"Host": host})[0]
            for host in ("cockpit.example", "evil.example")
        }
    assert status == {"cockpit.example": 303, "evil.example": 403}
