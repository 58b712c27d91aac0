/** What somebody has given instead of an app, and what would have been right. */
export interface Mistake {
  readonly got: string
  readonly hint: string
}

/** Guesses the mistake from what the object can do; the more particular kinds come first. */
export function mistakeOf(app: unknown): Mistake {
  if (app === undefined || app === null)
    return { got: app === null ? 'null' : 'nothing', hint: 'was the app awaited, exported, imported?' }
  if (typeof app !== 'object')
    return { got: `a ${typeof app}`, hint: 'was the app awaited, exported, imported?' }
  const can = (...methods: string[]) =>
    methods.every((method) => typeof (app as Record<string, unknown>)[method] === 'function')
  const found = KINDS.find(({ methods }) => methods.some((group) => can(...group.split(' '))))
  return (
    found ?? {
      got: `an object with the keys ${Object.keys(app).slice(0, 5).join(', ') || '(none)'}`,
      hint: 'look at the argument',
    }
  )
}

const KINDS: readonly (Mistake & { readonly methods: readonly string[] })[] = [
  { methods: ['then'], got: 'a promise', hint: 'await it first' },
  {
    methods: ['POST', 'GET'],
    got: 'the handlers of a route',
    hint: 'pass one function that serves all methods, (request) => Response',
  },
  {
    // Mastra's MCPServer keeps its transports itself, and serves a Node request that it is given.
    methods: ['startHTTP'],
    got: 'a server that serves a pair of request and response',
    hint: "pass { listener: (req, res) => server.startHTTP({ url: new URL(req.url, 'http://localhost'), httpPath: '/mcp', req, res }) }",
  },
  {
    methods: ['connect'],
    got: 'a server',
    hint: 'one server serves one session: pass a factory, () => new McpServer(...)',
  },
  {
    // mcp-framework's MCPServer, and others that bring their own HTTP server.
    methods: ['start stop', 'start shutdown'],
    got: 'a server that listens itself',
    hint: "start it on another port, and pass { url: 'http://localhost:8080/mcp' }",
  },
  {
    methods: ['handleRequest'],
    got: 'a transport',
    hint: 'pass the app that routes to it, or a factory, () => new McpServer(...)',
  },
  {
    methods: ['use handler'],
    got: 'an h3 app',
    hint: 'pass { listener: toNodeListener(app) }, or for h3 1.x { fetch: toWebHandler(app) }',
  },
  {
    methods: ['listen close'],
    got: 'an HTTP server',
    hint: 'pass its request listener, the function given to createServer()',
  },
]
