import { completable } from '@modelcontextprotocol/sdk/server/completable.js'
import { McpServer, ResourceTemplate } from '@modelcontextprotocol/sdk/server/mcp.js'
import type { RequestHandlerExtra } from '@modelcontextprotocol/sdk/shared/protocol.js'
import {
  CreateMessageResultSchema,
  ElicitResultSchema,
  ListRootsResultSchema,
  type ServerNotification,
  type ServerRequest,
  SubscribeRequestSchema,
  UnsubscribeRequestSchema,
} from '@modelcontextprotocol/sdk/types.js'
import { AjvJsonSchemaValidator } from '@modelcontextprotocol/sdk/validation/ajv'
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

/** Costs more than the rest of a server; one does for all. */
const jsonSchemaValidator = new AjvJsonSchemaValidator()

/**
 * The test server on `@modelcontextprotocol/sdk`: every feature of the protocol that a session can use. `only`: with these
 * tools, where sessions are many.
 */
export function buildServerV1(journal: Journal, only?: readonly string[]): McpServer {
  const mcp = new McpServer(
    { name: 'test-server-v1', version: '1.0.0' },
    { capabilities: { logging: {}, resources: { subscribe: true, listChanged: true } }, jsonSchemaValidator },
  )
  const state: ServerState = { counter: 0, subscriptions: new Set(), journal }
  for (const { name, annotations, input, run } of tools) {
    if (only && !only.includes(name)) continue
    mcp.registerTool(
      name,
      { description: `Test tool ${name}`, inputSchema: input, ...(annotations && { annotations }) },
      async (args, extra) => {
        const text = await run(args, context(mcp, extra), state)
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
      argsSchema: {
        color: completable(z.string(), (value) => promptColors.filter((color) => color.startsWith(value))),
      },
    },
    ({ color }) => ({ messages: [{ role: 'user', content: { type: 'text', text: `Paint it ${color}` } }] }),
  )
  const { server } = mcp
  server.setRequestHandler(SubscribeRequestSchema, ({ params }) => {
    state.subscriptions.add(params.uri)
    return {}
  })
  server.setRequestHandler(UnsubscribeRequestSchema, ({ params }) => {
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

function context(mcp: McpServer, extra: RequestHandlerExtra<ServerRequest, ServerNotification>): ToolContext {
  const { server } = mcp
  const token = extra._meta?.progressToken
  return {
    sessionId: extra.sessionId,
    signal: extra.signal,
    async progress(progress, total) {
      if (token === undefined) return
      await extra.sendNotification({
        method: 'notifications/progress',
        params: { progressToken: token, progress, total },
      })
    },
    async log(data, via, level = 'info') {
      if (via === 'standalone') await mcp.sendLoggingMessage({ level, data }, extra.sessionId)
      else await extra.sendNotification({ method: 'notifications/message', params: { level, data } })
    },
    async sample(prompt, via) {
      const params = {
        messages: [{ role: 'user' as const, content: { type: 'text' as const, text: prompt } }],
        maxTokens: 10,
      }
      const result =
        via === 'standalone'
          ? await server.createMessage(params)
          : await extra.sendRequest({ method: 'sampling/createMessage', params }, CreateMessageResultSchema)
      return result.content.type === 'text' ? result.content.text : result.content.type
    },
    async elicit(message, via) {
      const params = {
        message,
        requestedSchema: { type: 'object' as const, properties: { name: { type: 'string' as const } } },
      }
      return via === 'standalone'
        ? server.elicitInput(params)
        : extra.sendRequest({ method: 'elicitation/create', params }, ElicitResultSchema)
    },
    async roots(via) {
      const { roots } =
        via === 'standalone'
          ? await server.listRoots()
          : await extra.sendRequest({ method: 'roots/list' }, ListRootsResultSchema)
      return roots.map(({ uri }) => uri)
    },
    async ping() {
      await server.ping()
    },
    closeStream: () => extra.closeSSEStream?.(),
    closeStandaloneStream: () => extra.closeStandaloneSSEStream?.(),
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
