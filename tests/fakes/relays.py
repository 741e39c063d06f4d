"""Reverse proxies between client and server: nginx where it is installed, and one that buffers as nginx does.

Both give up after `PATIENCE` seconds without a byte from the server.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

PATIENCE = 1
NGINX = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
CONFIG = """
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass {url};
            proxy_read_timeout {patience}s;
        }}
    }}
}}
"""


@contextmanager
def nginx(url: str, folder: Path) -> Iterator[str]:
    """nginx before the server at `url`, with its defaults but for the patience; gives its own URL."""
    assert NGINX
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "nginx.conf").write_text(CONFIG.format(folder=folder, port=port, url=url, patience=PATIENCE))
    with subprocess.Popen([NGINX, "-p", str(folder), "-c", "nginx.conf"], stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@contextmanager
def buffering(url: str, folder: Path) -> Iterator[str]:
    """A proxy that asks in HTTP/1.0 and keeps an answer to itself until it is whole, unless that says not to."""
    del folder
    parts = urlsplit(url)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=_relay, args=(client, (parts.hostname, parts.port)), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def _relay(client: socket.socket, server: tuple[str | None, int | None]) -> None:
    with client, socket.create_connection(server, timeout=PATIENCE) as upstream:  # type: ignore[arg-type]
        upstream.sendall(_request(client).replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\nconnection: close\r\n", 1))
        held = b""
        with suppress(TimeoutError):
            while piece := upstream.recv(65536):
                held += piece
                if b"x-accel-buffering: no" in held.partition(b"\r\n\r\n")[0]:
                    client.sendall(held)
                    _pass_on(upstream, client)
                    return
        client.sendall(held)


def _pass_on(upstream: socket.socket, client: socket.socket) -> None:
    with suppress(ConnectionError):
        while piece := upstream.recv(65536):
            client.sendall(piece)


def _request(client: socket.socket) -> bytes:
    read = b""
    while True:
        read += client.recv(65536)
        head, found, body = read.partition(b"\r\n\r\n")
        lengths = [
            int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
        ]
        if found and len(body) >= sum(lengths):
            return read
