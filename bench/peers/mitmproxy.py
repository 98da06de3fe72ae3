"""What mitmproxy answers itself: at once on port 20404, after 50 ms on port 20405."""

import asyncio

from mitmproxy import http


def _answer(flow):
    flow.response = http.Response.make(429, b"{}", {"Content-Type": "application/json", "Retry-After": "4"})


async def request(flow):
    port = flow.client_conn.sockname[1]
    if port == 20405:
        await asyncio.sleep(0.05)
    if port in (20404, 20405):
        _answer(flow)
