"""The library in asyncio: many tasks at a time from one client. Needs a running `gemflowd`.

python async_client.py
"""

import asyncio

from gemflowctl import AsyncClient


async def main() -> None:
    async with AsyncClient() as gemflow:

        async def ask(number: int) -> str:
            task = await gemflow.submit("echo", {"text": f"hello {number}"})
            return str((await task.result(timeout=30)).unwrap()["text"])

        print(await asyncio.gather(*(ask(number) for number in range(10))))

        flow = await gemflow.submit_batch([{"type": "sleep", "data": {"seconds": 0.1}} for _ in range(20)])
        async for result in flow.as_completed():
            print(result.number, result.state)


if __name__ == "__main__":
    asyncio.run(main())
