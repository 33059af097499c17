"""The server's socket."""

from __future__ import annotations

import socket

from sortal.serving.server import listening


def test_parts_of_a_reply_do_not_wait_for_each_other():
    with listening("127.0.0.1", 0) as sock, socket.create_connection(sock.getsockname()):
        connection, _ = sock.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
