"""aiohttp: says what it makes of each answer, a JSON line each."""

import asyncio
import json
import sys

import aiohttp


async def ask(port, case, method):
    timeout = aiohttp.ClientTimeout(total=10)
    try:
        async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session:
            async with session.request(method, f"http://127.0.0.1:{port}/{case}", allow_redirects=False) as response:
                body = await response.read()
                return {"case": case, "status": str(response.status), "body": body.decode("latin1")}
    except Exception as error:
        return {"case": case, "error": repr(error)}


async def main():
    for line in sys.stdin:
        case, method = line.split()
        print(json.dumps(await ask(int(sys.argv[1]), case, method)), flush=True)


asyncio.run(main())
