"""The triggerer's half of a told landing, in a process of its own: prints what the watcher's trigger hears, then ends.

Expects the environment of `core.airflow_environment` and the trigger's arguments as JSON.
"""

import asyncio
import json
import sys

from airflow.sdk._shared.module_loading import import_string


async def hear(classpath: str, arguments: dict[str, object]) -> None:
    trigger = import_string(classpath)(**arguments)
    async for event in trigger.run():
        print(json.dumps(event.payload), flush=True)
    await trigger.cleanup()


if __name__ == "__main__":
    asyncio.run(hear(*json.loads(sys.argv[1])))
