// The same small server in three shapes, each with an event store in memory, as a user without us would run it.
import { randomUUID } from 'node:crypto'
import type { RequestListener } from 'node:http'
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import {
  type EventStore,
  StreamableHTTPServerTransport,
} from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import { WebStandardStreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js'
import type { JSONRPCMessage } from '@modelcontextprotocol/sdk/types.js'
import express from 'express'
import { Hono } from 'hono'
import { z } from 'zod'

/** `onRun` is called when the tool begins; what it returns is called when the tool has its answer. */
export function buildServer(onRun?: () => () => void): McpServer {
  const server = new McpServer({ name: 'bench', version: '1.0.0' })
  server.registerTool('echo', { inputSchema: { text: z.string() } }, async ({ text }) => {
    const done = onRun?.()
    const result = { content: [{ type: 'text' as const, text }] }
    done?.()
    return result
  })
  return server
}

/** The event store that the SDK's examples use: events in a map, one for the whole session. */
class InMemoryEventStore implements EventStore {
  readonly #events = new Map<string, { streamId: string; message: JSONRPCMessage }>()

  async storeEvent(streamId: string, message: JSONRPCMessage): Promise<string> {
    const eventId = `${streamId}_${Date.now()}_${Math.random().toString(36).slice(2, 10)}`
    this.#events.set(eventId, { streamId, message })
    return eventId
  }

  async replayEventsAfter(lastEventId: string, { send }: Parameters<EventStore['replayEventsAfter']>[1]) {
    const streamId = this.#events.get(lastEventId)?.streamId
    let found = false
    for (const [eventId, event] of this.#events) {
      if (found && event.streamId === streamId) await send(eventId, event.message)
      found ||= eventId === lastEventId
    }
    return streamId ?? ''
  }
}

export function expressApp(): RequestListener {
  const app = express()
  app.use(express.json())
  const transports = new Map<string, StreamableHTTPServerTransport>()
  app.all('/mcp', async (req, res) => {
    const id = req.headers['mcp-session-id']
    let transport = typeof id === 'string' ? transports.get(id) : undefined
    if (!transport) {
      if (id) return void res.status(404).json({ error: 'Session not found' })
      const opened = new StreamableHTTPServerTransport({
        sessionIdGenerator: randomUUID,
        eventStore: new InMemoryEventStore(),
        onsessioninitialized: (sessionId) => void transports.set(sessionId, opened),
      })
      opened.onclose = () => void transports.delete(opened.sessionId ?? '')
      await buildServer().connect(opened)
      transport = opened
    }
    await transport.handleRequest(req, res, req.body)
  })
  return app
}

export function honoApp(): Hono {
  const app = new Hono()
  const transports = new Map<string, WebStandardStreamableHTTPServerTransport>()
  app.all('/mcp', async (context) => {
    const id = context.req.header('mcp-session-id')
    let transport = id === undefined ? undefined : transports.get(id)
    if (!transport) {
      if (id) return context.json({ error: 'Session not found' }, 404)
      const opened = new WebStandardStreamableHTTPServerTransport({
        sessionIdGenerator: randomUUID,
        eventStore: new InMemoryEventStore(),
        onsessioninitialized: (sessionId) => void transports.set(sessionId, opened),
      })
      opened.onclose = () => void transports.delete(opened.sessionId ?? '')
      await buildServer().connect(opened)
      transport = opened
    }
    return transport.handleRequest(context.req.raw)
  })
  return app
}

/** What somebody without us writes around a factory: a bare Node server with a map of sessions. */
export function factoryListener(): RequestListener {
  const transports = new Map<string, StreamableHTTPServerTransport>()
  return async (req, res) => {
    const id = req.headers['mcp-session-id']
    let transport = typeof id === 'string' ? transports.get(id) : undefined
    if (!transport) {
      if (id) return void res.writeHead(404).end()
      const opened = new StreamableHTTPServerTransport({
        sessionIdGenerator: randomUUID,
        eventStore: new InMemoryEventStore(),
        onsessioninitialized: (sessionId) => void transports.set(sessionId, opened),
      })
      opened.onclose = () => void transports.delete(opened.sessionId ?? '')
      await buildServer().connect(opened)
      transport = opened
    }
    await transport.handleRequest(req, res)
  }
}
