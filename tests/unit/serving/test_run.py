"""Where the server listens, and what is said where it cannot."""

import socket

import pytest

pytest.importorskip("uvicorn", reason="the extra serve is not installed")

from medqa_cli.errors import InputError
from medqa_cli.serving.run import listen


def refusal(host: str, port: int) -> InputError:
    with pytest.raises(InputError) as caught:
        listen(host, port)
    return caught.value


def test_the_port_named_for_one_in_use_is_free_and_near() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = refusal("127.0.0.1", port)
        assert f"port {port}" in error.message
        named = int(error.hint.rpartition("--port ")[2])
        assert named == 0 or port < named <= port + 50
        with listen("127.0.0.1", named) as other:
            assert named in (0, other.getsockname()[1])


def test_a_port_in_use_behind_it_is_not_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        first = int(refusal("127.0.0.1", port).hint.rpartition("--port ")[2])
        with listen("127.0.0.1", first):
            assert int(refusal("127.0.0.1", port).hint.rpartition("--port ")[2]) != first or first == 0


def test_where_the_address_is_none_of_this_machine_no_port_is_named() -> None:
    assert refusal("192.0.2.1", 8088).hint == "name an address of this machine: --host 127.0.0.1"
