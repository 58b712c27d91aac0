import { completable, McpServer, ResourceTemplate, type ServerContext } from '@modelcontextprotocol/server'
import { z } from 'zod'
import type { Journal } from '../journal.ts'
import {
  promptColors,
  resourceText,
  resourceUri,
  type ServerState,
  type ToolContext,
  tools,
} from './tools.ts'

/** The test server on `@modelcontextprotocol/server`: the same tools, resources and prompts as on the first line. */
export function buildServerV2(journal: Journal): McpServer {
  const mcp = new McpServer(
    { name: 'test-server-v2', version: '1.0.0' },
    { capabilities: { logging: {}, resources: { subscribe: true, listChanged: true } } },
  )
  const state: ServerState = { counter: 0, subscriptions: new Set(), journal }
  for (const { name, annotations, input, run } of tools) {
    mcp.registerTool(
      name,
      { description: `Test tool ${name}`, inputSchema: z.object(input), ...(annotations && { annotations }) },
      async (args, ctx) => {
        const text = await run(args, context(mcp, ctx), state)
        return { content: [{ type: 'text', text }] }
      },
    )
  }
  mcp.registerResource('greeting', resourceUri, { description: 'A greeting' }, (uri) => ({
    contents: [{ uri: uri.href, mimeType: 'text/plain', text: resourceText }],
  }))
  mcp.registerResource(
    'item',
    new ResourceTemplate('test://items/{id}', { list: undefined }),
    { description: 'An item' },
    (uri, { id }) => ({ contents: [{ uri: uri.href, mimeType: 'text/plain', text: `Item ${String(id)}` }] }),
  )
  mcp.registerPrompt(
    'paint',
    {
      description: 'Paint something',
      argsSchema: z.object({
        color: completable(z.string(), (value) => promptColors.filter((color) => color.startsWith(value))),
      }),
    },
    ({ color }) => ({ messages: [{ role: 'user', content: { type: 'text', text: `Paint it ${color}` } }] }),
  )
  const { server } = mcp
  server.setRequestHandler('resources/subscribe', ({ params }) => {
    state.subscriptions.add(params.uri)
    return {}
  })
  server.setRequestHandler('resources/unsubscribe', ({ params }) => {
    state.subscriptions.delete(params.uri)
    return {}
  })
  let session: string | undefined
  server.oninitialized = () => {
    session = server.transport?.sessionId
    journal.note({ what: 'initialized', session })
  }
  server.onclose = () => journal.note({ what: 'closed', session })
  return mcp
}

function context(mcp: McpServer, ctx: ServerContext): ToolContext {
  const { server } = mcp
  const { mcpReq } = ctx
  const token = mcpReq._meta?.progressToken
  return {
    sessionId: ctx.sessionId,
    signal: mcpReq.signal,
    async progress(progress, total) {
      if (token === undefined) return
      await mcpReq.notify({
        method: 'notifications/progress',
        params: { progressToken: token, progress, total },
      })
    },
    async log(data, via, level = 'info') {
      if (via === 'standalone') await mcp.sendLoggingMessage({ level, data }, ctx.sessionId)
      else await mcpReq.notify({ method: 'notifications/message', params: { level, data } })
    },
    async sample(prompt, via) {
      const params = {
        messages: [{ role: 'user' as const, content: { type: 'text' as const, text: prompt } }],
        maxTokens: 10,
      }
      const { content } =
        via === 'standalone'
          ? await server.createMessage(params)
          : await mcpReq.send({ method: 'sampling/createMessage', params })
      return 'type' in content && content.type === 'text' ? content.text : 'no text'
    },
    async elicit(message, via) {
      const params = {
        message,
        requestedSchema: { type: 'object' as const, properties: { name: { type: 'string' as const } } },
      }
      // The convenience methods of the context use the standalone stream; `send` uses that of the call.
      return via === 'standalone'
        ? server.elicitInput(params)
        : mcpReq.send({ method: 'elicitation/create', params: { ...params, mode: 'form' } })
    },
    async roots(via) {
      const { roots } =
        via === 'standalone' ? await server.listRoots() : await mcpReq.send({ method: 'roots/list' })
      return roots.map(({ uri }) => uri)
    },
    async ping() {
      await server.ping()
    },
    closeStream: () => ctx.http?.closeSSE?.(),
    closeStandaloneStream: () => ctx.http?.closeStandaloneSSE?.(),
    client: () => ({ name: server.getClientVersion()?.name, capabilities: server.getClientCapabilities() }),
    resourceUpdated: (uri) => server.sendResourceUpdated({ uri }),
    toolsChanged: () => server.sendToolListChanged(),
    registerTool(name) {
      mcp.registerTool(name, { description: 'Registered while running' }, () => ({
        content: [{ type: 'text', text: `This is ${name}` }],
      }))
    },
  }
}
