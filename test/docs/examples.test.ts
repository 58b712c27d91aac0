import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Client as ModernClient, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { OfficialClient } from '../support/clients/official-client.ts'
import { HostProcess } from '../support/process.ts'
import { freePort } from '../support/services/free-port.ts'

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'mcp-persist-examples-'))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** Starts a file of examples/ over a SQLite file of its own; resolves with the address of its endpoint. */
async function startExample(file: string): Promise<string> {
  const port = await freePort()
  const url = `sqlite:${join(folder, `${file.replace(/\W/g, '-')}.db`)}`
  const host = await HostProcess.start({
    args: ['--import', 'tsx', fileURLToPath(new URL(`../../examples/${file}`, import.meta.url))],
    env: { PORT: String(port), MCP_PERSIST_URL: url },
    ready: /^ready$/m,
  })
  onTestFinished(async () => void (await host.kill()))
  return `http://localhost:${port}/mcp`
}

describe('every example that listens serves a client with a session', () => {
  test.each([
    'server.ts',
    'factory.ts',
    'sticky.ts',
    'tasks.ts',
    'health.ts',
    'mount/express.ts',
    'mount/fastify.ts',
    'mount/koa.ts',
    'mount/hono.ts',
    'mount/node.ts',
    'mount/fetch.ts',
  ])('%s', async (file) => {
    const client = await OfficialClient.connect('v1', await startExample(file))
    onTestFinished(() => client.client.close())
    expect(client.transport.sessionId).toBeDefined()
    const result = await client.client.callTool({ name: 'countdown', arguments: { from: 1 } })
    expect(result.content).toMatchObject([{ text: expect.stringMatching(/^lift-off/) }])
  })
})

test('both-eras.ts serves clients of both eras on one endpoint', async () => {
  const url = await startExample('both-eras.ts')
  const call = { name: 'echo', arguments: { text: 'hello' } }

  const older = await OfficialClient.connect('v1', url)
  onTestFinished(() => older.client.close())
  expect(older.transport.sessionId).toBeDefined()
  expect((await older.client.callTool(call)).content).toMatchObject([{ text: 'hello' }])

  const newer = new ModernClient(
    { name: 'newer', version: '1.0.0' },
    { versionNegotiation: { mode: { pin: '2026-07-28' } } },
  )
  const transport = new StreamableHTTPClientTransport(new URL(url))
  await newer.connect(transport)
  onTestFinished(() => newer.close())
  expect(transport.sessionId).toBeUndefined()
  expect((await newer.callTool(call)).content).toMatchObject([{ text: 'hello' }])
})

test('health.ts tells a load balancer whether it is ready', async () => {
  const response = await fetch((await startExample('health.ts')).replace(/mcp$/, 'readyz'))
  expect(response.status).toBe(200)
  expect(await response.json()).toMatchObject({ backend: 'sqlite', ok: true })
})
