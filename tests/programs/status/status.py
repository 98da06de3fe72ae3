"""Prints the status of one call with one of Python's HTTP libraries: status.py LIBRARY URL"""
import sys

library, url = sys.argv[1], sys.argv[2]


def with_requests():
    import requests

    return requests.get(url, timeout=30).status_code


def with_httpx():
    import httpx

    return httpx.get(url, timeout=30).status_code


def with_aiohttp():
    import asyncio

    import aiohttp

    async def call():
        async with aiohttp.ClientSession() as session:
            async with session.get(url) as response:
                return response.status

    return asyncio.run(call())


def with_urllib():
    import urllib.error
    import urllib.request

    try:
        return urllib.request.urlopen(url, timeout=30).status
    except urllib.error.HTTPError as error:
        return error.code


print({"requests": with_requests, "httpx": with_httpx, "aiohttp": with_aiohttp, "urllib": with_urllib}[library]())
