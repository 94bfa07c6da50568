"""One callback ends a sign-in; whatever else comes to the port changes nothing."""

import hmac
import http.client
import socket
import threading
import time
from contextlib import closing

import pytest

from upload_adapters.aws.callback import CallbackServer, parse_answer
from upload_adapters.aws.callback_http import CONNECTIONS_MAX
from upload_core.errors import ConfigurationError, IdentityError

STATE = "CANARY-state"


def free_port(host="127.0.0.1"):
    with closing(socket.create_server((host, 0))) as probe:
        return probe.getsockname()[1]


@pytest.fixture
def server():
    with CallbackServer(
        redirect_uri=f"http://localhost:{free_port()}/back",
        state=STATE,
        authorize_url="https://issuer.example/authorize?state=CANARY",
        request_timeout_s=0.5,
        last_page_grace_s=0.01,
    ) as server:
        yield server


def port(server):
    return int(server.start_url.split(":")[2].split("/")[0])


def ask(server, target, method="GET", host=None, address="127.0.0.1"):
    with closing(http.client.HTTPConnection(address, port(server), timeout=5)) as connection:
        connection.request(method, target, headers={"Host": host or f"localhost:{port(server)}"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers


def good(code="CANARY-code"):
    return f"/back?code={code}&state={STATE}"


def wait(server, timeout_s=5):
    return server.wait(timeout_s).demand_code()


def test_the_first_callback_with_our_state_brings_the_code(server):
    status, _, headers = ask(server, good())
    assert status == 303
    assert "CANARY" not in headers["Location"]
    status, page, headers = ask(server, headers["Location"])
    assert status == 200
    assert "Sign-in received" in page
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert wait(server) == "CANARY-code"


@pytest.mark.parametrize(
    ("target", "method", "status", "says"),
    [
        ("/", "GET", 404, "Nothing here"),
        ("/favicon.ico", "GET", 404, "Nothing here"),
        ("/received-guess", "GET", 404, "Nothing here"),
        ("/back", "GET", 400, "Not this sign-in"),
        ("/back?code=x", "GET", 400, "Not this sign-in"),
        ("/back?code=x&state=wrong", "GET", 400, "Not this sign-in"),
        ("/back?code=x&state=", "GET", 400, "Not this sign-in"),
        ("/back?code=x&state=%FF%00", "GET", 400, "Not this sign-in"),
        (f"/back?code=&state={STATE}", "GET", 400, "Not this sign-in"),
        (f"/back?code=x&code=y&state={STATE}", "GET", 400, "Not this sign-in"),
        (f"/back?code=x&state={STATE}&state={STATE}", "GET", 400, "Not this sign-in"),
        (f"/back?code=x&error=y&state={STATE}", "GET", 400, "Not this sign-in"),
        (f"/back?{'&'.join(['a=b'] * 50)}&code=x&state={STATE}", "GET", 400, "Not this sign-in"),
        (f"/other?code=x&state={STATE}", "GET", 404, "Nothing here"),
        (good(), "POST", 404, "Nothing here"),
        (good(), "OPTIONS", 404, "Nothing here"),
    ],
)
def test_a_request_that_is_no_answer_changes_nothing_and_says_so(server, target, method, status, says):
    found, page, _ = ask(server, target, method)
    assert (found, says in page, "Nothing was changed" in page) == (status, True, True)
    assert STATE not in page
    ask(server, good("right"))
    assert wait(server) == "right"


def test_the_state_is_compared_in_a_time_that_tells_nothing(monkeypatch):
    compared = []
    really = hmac.compare_digest

    def compare(one, other):
        compared.append((one, other))
        return really(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert parse_answer("code=x&state=wrong", STATE) is None
    assert parse_answer(f"code=x&state={STATE}", STATE) is not None
    assert compared == [(b"wrong", STATE.encode()), (STATE.encode(), STATE.encode())]


def test_a_request_that_is_no_http_at_all_is_answered_without_quoting_it(server):
    for request in (
        b"GET /back?state=CANARY-state&code=CANARY x y z\r\n\r\n",
        b"CANARY\r\n\r\n",
        b"\xff\x00CANARY\r\n\r\n",
    ):
        with closing(socket.create_connection(("127.0.0.1", port(server)), timeout=5)) as connection:
            connection.sendall(request)
            answer = b""
            while piece := connection.recv(4096):
                answer += piece
            assert b"CANARY" not in answer
    assert ask(server, "//[::1")[0] == 404
    ask(server, good("right"))
    assert wait(server) == "right"


def test_a_second_callback_changes_nothing_and_says_so(server):
    ask(server, good("first"))
    status, page, _ = ask(server, good("second"))
    assert (status, "Already received" in page) == (409, True)
    ask(server, f"/back?error=access_denied&state={STATE}")
    assert wait(server) == "first"


def test_of_many_callbacks_at_once_one_is_believed(server):
    found = []
    threads = [
        threading.Thread(target=lambda n=n: found.append((ask(server, good(f"code{n}"))[0], f"code{n}")))
        for n in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(status for status, _ in found) == [303] + [409] * 15
    assert wait(server) == next(code for status, code in found if status == 303)


def test_a_page_of_another_site_cannot_reach_the_server_under_its_own_name(server):
    assert ask(server, good(), host="evil.example")[0] == 404
    assert ask(server, good(), host=f"evil.example:{port(server)}")[0] == 404
    assert ask(server, good("right"))[0] == 303
    assert wait(server) == "right"


def test_a_refusal_of_the_issuer_ends_the_wait_with_its_words(server):
    _, _, headers = ask(server, f"/back?error=access_denied&error_description=No%1b%5b2J+{STATE}&state={STATE}")
    assert "You are not signed in" in ask(server, headers["Location"])[1]
    with pytest.raises(IdentityError, match=r"refused \(access_denied: No\\x1b\[2J \*\*\*\); sign in again"):
        wait(server)


def test_the_start_page_sends_the_browser_on_once(server):
    start = "/" + server.start_url.split("/", 3)[3]
    status, _, headers = ask(server, start)
    assert (status, headers["Location"]) == (302, "https://issuer.example/authorize?state=CANARY")
    status, page, headers = ask(server, start)
    assert (status, "Already started" in page, headers["Location"]) == (410, True, None)
    assert "CANARY" not in server.start_url


@pytest.mark.parametrize(
    "piece", [b"", b"G", b"GET /back?code=x&state=CANARY-state HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00"]
)
def test_a_client_that_does_not_finish_is_cut_off_and_holds_up_nobody(server, piece):
    with closing(socket.create_connection(("127.0.0.1", port(server)))) as slow:
        slow.sendall(piece)
        ask(server, good("right"))
        assert wait(server) == "right"
        slow.settimeout(5)
        while slow.recv(4096):
            pass


def test_a_client_that_drips_is_cut_off_by_its_overall_time(server):
    with closing(socket.create_connection(("127.0.0.1", port(server)))) as slow, pytest.raises(OSError, match=r"."):
        drip(slow)


def drip(connection):
    for _ in range(100):
        connection.sendall(b"X")
        time.sleep(0.05)


def test_more_clients_than_the_limit_are_turned_away_and_the_port_recovers(server):
    idle = [socket.create_connection(("127.0.0.1", port(server))) for _ in range(CONNECTIONS_MAX + 20)]
    time.sleep(1.0)
    for connection in idle:
        connection.close()
    ask(server, good())
    assert wait(server) == "CANARY-code"


def test_nobody_comes_and_the_wait_ends(server):
    with pytest.raises(IdentityError, match=r"nobody completed the sign-in within 0 s.*--no-browser"):
        server.wait(0.01)


def test_it_listens_on_loopback_only(server):
    addresses = {listening.server_address[0] for listening in server._servers}
    assert addresses <= {"127.0.0.1", "::1"}
    if "::1" in addresses:
        assert ask(server, "/", address="::1")[0] == 404


def test_it_listens_no_longer_than_it_is_waited_for():
    number = free_port()
    with CallbackServer(redirect_uri=f"http://127.0.0.1:{number}", state=STATE, authorize_url="https://x"):
        socket.create_connection(("127.0.0.1", number)).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", number))


def test_a_port_in_use_is_named_with_the_way_out():
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        uri = f"http://127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(ConfigurationError, match=rf"cannot listen on {uri} .*--no-browser"):
            CallbackServer(redirect_uri=uri, state=STATE, authorize_url="https://x")


@pytest.mark.parametrize(
    "uri",
    [
        "https://localhost:3000",
        "http://example.org:3000",
        "http://0.0.0.0:3000",
        "http://localhost:0",
        "http://[::1",
        "",
        "http://localhost:x",
        "http://localhost:3000/?a=b",
    ],
)
def test_a_redirect_uri_that_is_not_on_this_machine_is_refused(uri):
    with pytest.raises(ConfigurationError, match="is not on this machine"):
        CallbackServer(redirect_uri=uri, state=STATE, authorize_url="https://x")


def test_nothing_of_a_request_is_printed(server, capfd):
    ask(server, good())
    ask(server, "/back?code=CANARY&state=wrong")
    wait(server)
    assert capfd.readouterr() == ("", "")


def test_an_answer_shows_no_code():
    assert "CANARY" not in repr(parse_answer(f"code=CANARY&state={STATE}", STATE))
