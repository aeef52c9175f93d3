import socket
import urllib.request

import pytest
from patience import LONG

from cockpit.dashboard import PORT, serve


def page(url):
    with urllib.request.urlopen(url, timeout=LONG) as answer:
        return answer.read().decode()


def test_the_page_is_served_until_the_end_of_the_block(tmp_path):
    with serve(tmp_path, port=0) as server:
        assert "<title>Cockpit</title>" in page(server.url)
    with pytest.raises(OSError, match="refused"):
        page(server.url)


def test_a_busy_port_is_no_error(tmp_path):
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        taken = busy.getsockname()[1]
        with serve(tmp_path, port=taken) as server:
            assert server.url != f"http://127.0.0.1:{taken}"
            assert "<title>Cockpit</title>" in page(server.url)


def test_two_dashboards_run_side_by_side(tmp_path):
    with serve(tmp_path) as first, serve(tmp_path) as second:
        assert first.url != second.url
        for server in (first, second):
            assert "<title>Cockpit</title>" in page(server.url)


def test_the_default_port_is_fixed():
    assert PORT == 8765


@pytest.mark.parametrize("host", ["192.0.2.5", "nowhere.invalid"])
def test_an_address_that_is_not_this_machines_is_an_error(tmp_path, host):
    with pytest.raises(OSError, match=r"assign|resolution|known|address"):
        serve(tmp_path, host=host, port=0)


def test_stopping_twice_is_stopping_once(tmp_path):
    server = serve(tmp_path, port=0)
    server.stop()
    server.stop()
    server.wait()


def test_a_remote_session_is_told_how_to_reach_the_page(tmp_path):
    with serve(tmp_path, port=0) as server:
        port = server.url.rpartition(":")[2]
        local = server.announcement({})
        remote = server.announcement({"SSH_CONNECTION": "10.0.0.2 51000 10.0.0.7 22"})
    assert local == f"Dashboard: {server.url}"
    assert remote.count("http://") == 1
    assert f"ssh -L {port}:127.0.0.1:{port} " in remote
    assert remote.endswith("@10.0.0.7")
