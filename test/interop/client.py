"""One of Python's clients through all that a session does: client.py KIND URL.

KIND: mcp-1, mcp-2-legacy, mcp-2-auto or fastmcp. Says a line of JSON for each step, {"step", "wrong"?}; and {"now"} when
something is to be broken: "cut" for every connection, "kill" for the owner. That is done by whoever reads the lines.
"""

import asyncio
import json
import sys
from contextlib import asynccontextmanager

KIND, URL = sys.argv[1:]
PATIENCE = 60
SAMPLINGS = 8
BURST = 30


def say(**line):
    print(json.dumps(line), flush=True)


def prompt_of(messages):
    return messages[0].content.text


@asynccontextmanager
async def mcp_1(url, logs):
    from mcp import ClientSession, types
    from mcp.client.streamable_http import streamable_http_client

    async def sample(_, params):
        content = types.TextContent(type="text", text=f"answer({prompt_of(params.messages)})")
        return types.CreateMessageResult(role="assistant", model="test", content=content)

    async def elicit(_, params):
        return types.ElicitResult(action="accept", content={"name": f"asked: {params.message}"})

    async def roots(_):
        return types.ListRootsResult(roots=[types.Root(uri="file:///home/test", name="home")])

    async def log(params):
        logs.append(params.data)

    async with streamable_http_client(url) as (read, write, _):
        async with ClientSession(
            read,
            write,
            sampling_callback=sample,
            elicitation_callback=elicit,
            list_roots_callback=roots,
            logging_callback=log,
        ) as session:
            await session.initialize()

            async def call(name, arguments, on_progress=None):
                return await session.call_tool(name, arguments, progress_callback=on_progress)

            yield call, session.list_tools


@asynccontextmanager
async def mcp_2(url, logs, mode):
    import mcp_types as types
    from mcp import Client

    async def sample(_, params):
        content = types.TextContent(type="text", text=f"answer({prompt_of(params.messages)})")
        return types.CreateMessageResult(role="assistant", model="test", content=content)

    async def elicit(_, params):
        return types.ElicitResult(action="accept", content={"name": f"asked: {params.message}"})

    async def roots(_):
        return types.ListRootsResult(roots=[types.Root(uri="file:///home/test", name="home")])

    async def log(params):
        logs.append(params.data)

    async with Client(
        url,
        mode=mode,
        sampling_callback=sample,
        elicitation_callback=elicit,
        list_roots_callback=roots,
        logging_callback=log,
    ) as client:

        async def call(name, arguments, on_progress=None):
            return await client.call_tool(name, arguments, progress_callback=on_progress)

        yield call, client.list_tools


@asynccontextmanager
async def fastmcp(url, logs):
    from fastmcp import Client

    async def sample(messages, _params, _context):
        return f"answer({prompt_of(messages)})"

    async def elicit(message, _type, _params, _context):
        return {"name": f"asked: {message}"}

    async def log(message):
        logs.append(message.data)

    async with Client(
        url,
        roots=["file:///home/test"],
        sampling_handler=sample,
        elicitation_handler=elicit,
        log_handler=log,
    ) as client:

        async def call(name, arguments, on_progress=None):
            return await client.call_tool_mcp(name, arguments, progress_handler=on_progress)

        yield call, client.list_tools


KINDS = {
    "mcp-1": mcp_1,
    "mcp-2-legacy": lambda url, logs: mcp_2(url, logs, "legacy"),
    "mcp-2-auto": lambda url, logs: mcp_2(url, logs, "auto"),
    "fastmcp": fastmcp,
}


async def drive():
    logs = []
    async with KINDS[KIND](URL, logs) as (call, list_tools):
        say(step="connect")

        async def text(name, on_progress=None, **arguments):
            result = await call(name, arguments, on_progress)
            return result.content[0].text

        async def until(what):
            while not what():
                await asyncio.sleep(0.02)

        async def lists():
            listed = await list_tools()
            names = [tool.name for tool in getattr(listed, "tools", listed)]
            assert "counter" in names, names

        async def counts():
            said = [await text("counter") for _ in range(6)]
            assert said == ["1", "2", "3", "4", "5", "6"], said

        async def samples(vias=("call", "standalone")):
            prompts = [f"p{i}" for i in range(SAMPLINGS)]
            vias = vias * (SAMPLINGS // len(vias))
            said = await asyncio.gather(*(text("sample", prompt=p, via=v) for p, v in zip(prompts, vias)))
            assert said == [f"{p} -> answer({p})" for p in prompts], said

        async def elicits():
            for via in ("call", "standalone"):
                said = json.loads(await text("elicit", message="name?", via=via))
                assert said["content"]["name"] == "asked: name?", said

        async def asks_for_roots():
            for via in ("call", "standalone"):
                said = await text("roots", via=via)
                assert said.startswith("file:///home/test"), said

        async def progresses():
            seen = []

            async def on_progress(progress, _total, _message=None):
                seen.append(progress)

            assert await text("slow", on_progress, tag="progress", steps=5, ms=10) == "progress done after 5"
            assert seen == [1, 2, 3, 4, 5], seen

        async def hears_a_burst(via, tag):
            await text("burst", tag=tag, count=BURST, via=via)
            wanted = [f"{tag}:{i}" for i in range(1, BURST + 1)]
            await until(lambda: tag_of(tag) == wanted)

        def tag_of(tag):
            return [line for line in logs if str(line).startswith(f"{tag}:")]

        async def survives(now, tool):
            begun = asyncio.Event()

            async def on_progress(_progress, _total, _message=None):
                begun.set()

            running = asyncio.ensure_future(text(tool, on_progress, tag=now, steps=20, ms=100))
            await begun.wait()
            say(now=now)
            assert await running == f"{now} done after 20"
            heard = set(tag_of(now))
            assert heard == {f"{now}:{i}" for i in range(1, 21)}, sorted(heard)

        async def goes_on():
            said = [await text("counter") for _ in range(3)]
            assert said == ["1", "2", "3"], said

        async def hears_again():
            assert await text("counter") == "7"
            await hears_a_burst("standalone", "three")

        # The clients open their standalone stream again until their second connection has broken. The first was cut; the second
        # may be the owner's. So what is asked at the end comes with a call.
        steps = {
            "list": lists,
            "counter": counts,
            "eight samplings": samples,
            "elicitation": elicits,
            "roots": asks_for_roots,
            "progress": progresses,
            "burst in a call": lambda: hears_a_burst("call", "one"),
            "burst outside of calls": lambda: hears_a_burst("standalone", "two"),
            "every connection cut": lambda: survives("cut", "slow"),
            "after the cut": hears_again,
            "owner killed": lambda: survives("kill", "slow_read_only"),
            "goes on": goes_on,
            "samplings again": lambda: samples(("call",)),
        }

        for step, act in steps.items():
            try:
                await asyncio.wait_for(act(), PATIENCE)
                say(step=step)
            except (Exception, asyncio.CancelledError) as error:
                say(step=step, wrong=f"{type(error).__name__}: {error}")
    say(step="close")


asyncio.run(drive())
