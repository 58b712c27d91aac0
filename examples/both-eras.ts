// One endpoint for both eras of the protocol, with the v2 SDK: clients of 2026-07-28 have no sessions and are served by
// the SDK's own handler, older clients get sessions. One factory builds the servers of both.
import { serve } from '@hono/node-server'
import { createMcpHandler, isLegacyRequest, McpServer } from '@modelcontextprotocol/server'
import { withPersistence } from 'mcp-persist'
import { z } from 'zod'

function buildServer(): McpServer {
  const server = new McpServer({ name: 'echo', version: '1.0.0' })
  server.registerTool('echo', { inputSchema: z.object({ text: z.string() }) }, async ({ text }) => ({
    content: [{ type: 'text', text }],
  }))
  return server
}

const modern = createMcpHandler(() => buildServer(), { legacy: 'reject' })
const sessions = withPersistence(() => buildServer(), process.env.MCP_PERSIST_URL ?? 'sqlite:mcp.db', 3600)

async function fetch(request: Request): Promise<Response> {
  return (await isLegacyRequest(request)) ? sessions.fetch(request) : modern.fetch(request)
}

serve({ fetch, port: Number(process.env.PORT ?? 3000) }, () => console.log('ready'))
