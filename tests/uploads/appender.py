"""Another worker process that appends to an upload. Arguments: data folder, id, file with the content, bytes a millisecond.

Prints "began" once the first bytes are with the service, and in the end the offset or what was raised.
"""

import sys
from pathlib import Path

import anyio

if __name__ == "__main__":
    from storing import Store
else:
    from .storing import Store

from assetserver.errors import AssetServerError


async def append(store: Store, upload_id: str, content: bytes, rate: int) -> str:
    """Append the rest of ``content``, and return how that ended."""

    async def slowly(start: int):
        for at in range(start, len(content), rate):
            yield content[at : at + rate]
            if at == start:
                sys.stdout.write("began\n")
                sys.stdout.flush()
            await anyio.sleep(0.001)

    try:
        start = (await store.service.settle(upload_id)).offset
        done = await store.service.append(upload_id, start, slowly(start), content_length=None)
    except AssetServerError as error:
        return type(error).__name__
    return str(done.offset)


def main() -> None:
    """Run as told by the arguments."""
    folder, upload_id, path, rate = sys.argv[1:]
    content = Path(path).read_bytes()

    async def work() -> None:
        store = Store(folder)
        outcome = await append(store, upload_id, content, int(rate))
        await store.aclose()
        sys.stdout.write(f"{outcome}\n")

    anyio.run(work)


if __name__ == "__main__":
    main()
