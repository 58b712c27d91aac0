import { createServer } from 'node:http'
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { WebStandardStreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js'
import express from 'express'
import { describe, expect, test } from 'vitest'
import { resolveApp, type WrappableApp } from '../../src/app/resolve-app.ts'

const server = () => new McpServer({ name: 'test', version: '1.0.0' })

describe('what is no app is refused with the line that is right for it', () => {
  test.each<[string, unknown, RegExp]>([
    ['a server', server(), /got a server as its app: one server serves one session/],
    ['a class', McpServer, /got a class as its app: pass a function/],
    ['a promise', Promise.resolve(express()), /got a promise as its app: await it first/],
    ['a transport', new WebStandardStreamableHTTPServerTransport({}), /got a transport as its app/],
    ['an HTTP server', createServer(), /got an HTTP server as its app: pass its request listener/],
    ['nothing', undefined, /got nothing as its app: was the app awaited/],
    ['a text', 'http://localhost', /got a string as its app/],
    ['a route module', { GET: () => {}, POST: () => {} }, /got the handlers of a route/],
    // As Mastra's MCPServer, mcp-framework's, and an app of h3 1.x look.
    ['Mastra', { startHTTP: () => {}, close: () => {} }, /pass \{ listener: .*server\.startHTTP/],
    [
      'mcp-framework',
      { start: () => {}, stop: () => {}, handleRequest: () => {} },
      /a server that listens itself as its app: start it .* pass \{ url:/,
    ],
    ['h3', { use: () => {}, handler: () => {} }, /toNodeListener/],
    ['an empty object', {}, /the keys \(none\) as its app: look at the argument/],
  ])('%s', (_, app, sentence) => expect(() => resolveApp(app as WrappableApp)).toThrow(sentence))
})

describe('and each refusal says what there is', () => {
  test.each(['{ listener }', '{ fetch }', '{ factory }', '{ url }', '(request) => Response'])('%s', (form) =>
    expect(() => resolveApp({} as WrappableApp)).toThrow(form),
  )
})

describe('what says outright what it is', () => {
  test.each<[string, WrappableApp, string]>([
    ['listener', { listener: (_request: never) => {} }, 'node'],
    ['factory', { factory: (_context) => server() }, 'factory'],
    ['fetch', { fetch: (_request, _env) => new Response() }, 'fetch'],
    ['url', { url: 'http://localhost:1/mcp' }, 'url'],
  ])('%s', (_, app, kind) => expect(resolveApp(app).kind).toBe(kind))
})
