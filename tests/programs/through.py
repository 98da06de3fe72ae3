"""Connections as programs make them that honour http_proxy and https_proxy; without these, as if they did not."""
import http.client
import os
import socket
import ssl
import urllib.parse


def proxy_for(scheme):
    url = os.environ.get(scheme + "_proxy")
    return urllib.parse.urlsplit(url) if url else None


def connection(url, timeout, context=None):
    """A connection of http.client for a URL that was split."""
    proxy = proxy_for(url.scheme)
    port = url.port or (443 if url.scheme == "https" else 80)
    host, at = (proxy.hostname, proxy.port) if proxy else (url.hostname, port)
    if url.scheme == "http":
        return http.client.HTTPConnection(host, at, timeout=timeout)
    made = http.client.HTTPSConnection(host, at, timeout=timeout, context=context or ssl.create_default_context())
    if proxy:
        made.set_tunnel(url.hostname, port)
    return made


def target(url):
    """What to ask for on such a connection: a proxy is told whole URLs of what goes in the clear."""
    path = (url.path or "/") + ("?" + url.query if url.query else "")
    return url.scheme + "://" + url.netloc + path if url.scheme == "http" and proxy_for("http") else path


def tcp(host, port, timeout):
    """A plain connection, through a tunnel where there is a proxy."""
    proxy = proxy_for("https")
    if not proxy:
        return socket.create_connection((host, port), timeout=timeout)
    sock = socket.create_connection((proxy.hostname, proxy.port), timeout=timeout)
    sock.sendall(("CONNECT %s:%d HTTP/1.1\r\nHost: %s:%d\r\n\r\n" % (host, port, host, port)).encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = sock.recv(1)
        if not piece:
            raise ConnectionResetError("the proxy hung up")
        head += piece
    if head.split()[1] != b"200":
        raise OSError("the proxy says %r" % head)
    return sock
