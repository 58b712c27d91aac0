"""A server on FastMCP (PyPI): `fastmcp_pypi.py PORT` over HTTP, without a port over stdio."""

import asyncio
import sys

from fastmcp import Context, FastMCP
from mcp_types import SamplingMessage, TextContent, ToolAnnotations

port = int(sys.argv[1]) if len(sys.argv) > 1 else None
mcp = FastMCP("fastmcp")


async def steps_of(ctx: Context, tag: str, steps: int, ms: int) -> str:
    for step in range(1, steps + 1):
        await asyncio.sleep(ms / 1000)
        await ctx.report_progress(step, steps)
    return f"{tag} done after {steps}"


@mcp.tool(annotations=ToolAnnotations(read_only_hint=True))
def echo(text: str) -> str:
    return text


@mcp.tool()
async def slow(ctx: Context, tag: str, steps: int, ms: int) -> str:
    return await steps_of(ctx, tag, steps, ms)


@mcp.tool(annotations=ToolAnnotations(read_only_hint=True))
async def slow_read_only(ctx: Context, tag: str, steps: int, ms: int) -> str:
    return await steps_of(ctx, tag, steps, ms)


@mcp.tool()
async def sample(ctx: Context, prompt: str) -> str:
    content = TextContent(type="text", text=prompt)
    messages = [SamplingMessage(role="user", content=content)]
    answer = await ctx.session.create_message(messages=messages, max_tokens=10, related_request_id=ctx.request_id)
    return f"{prompt} -> {answer.content.text}"


if port:
    mcp.run(transport="http", host="localhost", port=port)
else:
    mcp.run(show_banner=False)
