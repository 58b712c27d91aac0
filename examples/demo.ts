// Starts the example server on SQLite, kills it with SIGKILL in the middle of a call, starts it again, and checks that
// the client, in the same session and without a new `initialize`, has missed nothing. Exits 0 only then.
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { LoggingMessageNotificationSchema } from '@modelcontextprotocol/sdk/types.js'

const folder = mkdtempSync(join(tmpdir(), 'mcp-persist-demo-'))
const url = process.env.MCP_PERSIST_URL ?? `sqlite:${join(folder, 'mcp.db')}`
const port = await freePort()

let server = await startServer()
say(`server ${server.pid} listens, store ${url.startsWith('sqlite:') ? url : new URL(url).protocol}`)

const numbers: unknown[] = []
const client = new Client({ name: 'demo', version: '1.0.0' })
const transport = new StreamableHTTPClientTransport(new URL(`http://127.0.0.1:${port}/mcp`), {
  reconnectionOptions: {
    initialReconnectionDelay: 100,
    maxReconnectionDelay: 1000,
    reconnectionDelayGrowFactor: 1.5,
    maxRetries: 60,
  },
})
const halfway = new Promise<void>((resolve) => {
  client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) => {
    numbers.push(params.data)
    if (numbers.length === 5) resolve()
  })
})
await client.connect(transport)
const session = transport.sessionId
say(`client connected, session ${session}`)

const call = client.callTool({ name: 'countdown', arguments: { from: 10 } })
await halfway
say(`countdown at ${numbers.at(-1)}: killing server ${server.pid} with SIGKILL`)
server.kill('SIGKILL')
await exited(server)

server = await startServer()
say(`server ${server.pid} listens; the client resumes by itself`)
const result = (await call) as { content: { text: string }[] }
say(`answer: "${result.content[0]?.text}"; numbers heard: ${numbers.join(' ')}`)
const { tools } = await client.listTools()
say(`the same session goes on: tools/list names ${tools.map(({ name }) => name).join(', ')}`)

await client.close()
server.kill('SIGTERM')
await exited(server)
rmSync(folder, { recursive: true, force: true })

// The countdown says that it may be repeated, so it was run again: the client hears it from 10 once more.
const before = [10, 9, 8, 7, 6]
const expected = [...before, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1]
const heard = numbers.slice(numbers.length - 10)
const complete = heard.join() === expected.slice(5).join() && numbers.slice(0, 5).join() === before.join()
const same = transport.sessionId === session && result.content[0]?.text === `lift-off in session ${session}`
if (!complete || !same) {
  say(`FAILED: something was lost or doubled; expected ${expected.join(' ')}`)
  process.exit(1)
}
say('nothing was lost')

async function startServer(): Promise<ChildProcess> {
  const file = fileURLToPath(new URL('./server.ts', import.meta.url))
  const child = spawn(process.execPath, ['--import', 'tsx', file], {
    env: { ...process.env, PORT: String(port), MCP_PERSIST_URL: url },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await new Promise<void>((resolve, reject) => {
    child.stdout?.on('data', (data) => String(data).includes('ready') && resolve())
    child.once('exit', (code) => reject(new Error(`the server ended with exit code ${code}`)))
  })
  return child
}

function exited(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) resolve()
    else child.once('exit', () => resolve())
  })
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const probe = createServer().listen(0, '127.0.0.1', () => {
      const { port: free } = probe.address() as { port: number }
      probe.close(() => resolve(free))
    })
  })
}

function say(line: string): void {
  console.log(`${(performance.now() / 1000).toFixed(1).padStart(5)} s  ${line}`)
}
