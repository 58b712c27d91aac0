// Two nodes behind nginx on loopback, without stickiness: `npm run example:nginx`. A client makes its calls while one
// node is stopped; then everything stays up until Ctrl-C (with `--once` it ends, with exit code 0 if all was well).
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'

const address = 'http://127.0.0.1:8080/mcp'
const folder = mkdtempSync(join(tmpdir(), 'mcp-persist-nginx-'))
const store = process.env.MCP_PERSIST_URL ?? `sqlite:${join(folder, 'mcp.db')}`
const children = new Set<ChildProcess>()

process.once('SIGINT', () => stop(0))
process.once('SIGTERM', () => stop(0))
try {
  await run()
  if (process.argv.includes('--once')) await stop(0)
  else console.log(`\nServing at ${address}; Ctrl-C ends it.`)
} catch (error) {
  console.error(String(error))
  await stop(1)
}

async function run(): Promise<void> {
  const first = await startNode(8081)
  const second = await startNode(8082)
  await startNginx()
  console.log(`nginx at ${address}, nodes ${first.pid} and ${second.pid}`)

  const client = new Client({ name: 'nginx-example', version: '1.0.0' })
  await client.connect(new StreamableHTTPClientTransport(new URL(address)))
  const owner = await countThrice(client)
  const node = [first, second].find(({ pid }) => pid === owner)
  if (!node) throw new Error(`Process ${owner} made the calls, and it is none of the nodes.`)
  console.log(`stopping node ${owner}, which holds the session, with SIGTERM`)
  await end(node)
  // The other node takes the session over. What its server kept in memory was lost with the process: it counts anew.
  await countThrice(client)
  await startNode(node === first ? 8081 : 8082)
  console.log('started again; new requests reach both')
  await client.close()
}

/** Three calls, which go to different nodes, must be counted in one place; resolves with the process that counted. */
async function countThrice(client: Client): Promise<number> {
  let owner = 0
  for (let call = 1; call <= 3; call += 1) {
    const result = await client.callTool({ name: 'count', arguments: {} })
    const [{ text }] = result.content as [{ text: string }]
    console.log(`  ${text}`)
    if (!text.startsWith(`call ${call},`)) throw new Error(`This should have been call ${call}.`)
    owner = Number(/process (\d+)/.exec(text)?.[1])
  }
  return owner
}

async function startNode(port: number): Promise<ChildProcess> {
  const file = fileURLToPath(new URL('../factory.ts', import.meta.url))
  const env = { ...process.env, PORT: String(port), MCP_PERSIST_URL: store }
  const child = start(process.execPath, ['--import', 'tsx', file], env)
  await new Promise<void>((resolve, reject) => {
    child.stdout?.on('data', (data) => String(data).includes('ready') && resolve())
    child.once('exit', (code) => reject(new Error(`A node ended with exit code ${code}.`)))
  })
  return child
}

async function startNginx(): Promise<void> {
  const config = fileURLToPath(new URL('./nginx.conf', import.meta.url))
  const child = start('nginx', ['-p', folder, '-c', config, '-e', 'stderr'])
  const ended = Promise.race([once(child, 'error'), once(child, 'exit')]).then(([reason]) => {
    const missing = (reason as { code?: string } | undefined)?.code === 'ENOENT'
    throw new Error(missing ? 'nginx is not installed, or not in PATH.' : `nginx ended: ${String(reason)}`)
  })
  await Promise.race([answers(), ended])
  // From here on its end is our business only when we stop it.
  ended.catch(() => {})
}

async function answers(): Promise<void> {
  for (let attempt = 0; attempt < 100; attempt += 1) {
    if (await fetch(address, { method: 'DELETE' }).catch(() => undefined)) return
    await wait(50)
  }
  throw new Error(`Nobody answers at ${address}.`)
}

function start(command: string, args: readonly string[], env = process.env): ChildProcess {
  const child = spawn(command, args, { env, stdio: ['ignore', 'pipe', 'inherit'] })
  children.add(child)
  child.once('exit', () => children.delete(child))
  child.once('error', () => children.delete(child))
  return child
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGTERM')
  await once(child, 'exit')
}

async function stop(code: number): Promise<void> {
  await Promise.all([...children].map(end))
  rmSync(folder, { recursive: true, force: true })
  process.exit(code)
}
