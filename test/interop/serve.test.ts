import { beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest'
import { storeSpace } from '../support/backends.ts'
import { OfficialClient } from '../support/clients/official-client.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { RoundRobinProxy } from '../support/net/round-robin-proxy.ts'
import type { HostProcess } from '../support/process.ts'
import { program } from '../support/programs.ts'
import { childrenOf, killServe, startServe } from '../support/serve-command.ts'
import { until, within } from '../support/wait.ts'
import { install, NPM, npmFile, npmServer, PYTHON, python, pythonServer } from './install.ts'

vi.setConfig({ testTimeout: 180_000 })
/** Pythons that start while others do. */
const PATIENCE = 60_000

interface Server {
  readonly name: string
  readonly command: readonly string[]
  readonly stdio?: boolean
  /** Its tool `sample` asks the client. */
  readonly samples?: boolean
}

const { execPath } = process
const stdioServer = [execPath, program('support/hosts/stdio.ts')]

const SERVERS: readonly Server[] = [
  {
    name: `supergateway ${NPM.supergateway} --stateful`,
    command: [
      execPath,
      npmFile('supergateway/dist/index.js'),
      '--stdio',
      stdioServer.join(' '),
      '--outputTransport',
      'streamableHttp',
      '--stateful',
      '--port',
      '{port}',
    ],
    samples: true,
  },
  {
    // It passes no questions of its server on to the client, with or without us.
    name: `mcp-proxy ${NPM['mcp-proxy']}`,
    command: [
      execPath,
      npmFile('mcp-proxy/dist/bin/mcp-proxy.mjs'),
      '--server',
      'stream',
      '--port',
      '{port}',
      '--',
      ...stdioServer,
    ],
  },
  {
    name: `fastmcp (npm) ${NPM.fastmcp}`,
    command: [execPath, npmServer('fastmcp_npm.mjs'), '{port}'],
  },
  ...(
    [
      [`Python SDK ${PYTHON.sdk1.mcp}`, 'sdk1', 'python_sdk_1.py'],
      [`Python SDK ${PYTHON.fastmcp.mcp}`, 'fastmcp', 'python_sdk_2.py'],
      [`FastMCP (PyPI) ${PYTHON.fastmcp.fastmcp}`, 'fastmcp', 'fastmcp_pypi.py'],
    ] as const
  ).flatMap(([name, venv, file]) => {
    const command = [python(venv), pythonServer(file)]
    return [
      { name: `${name} over HTTP`, command: [...command, '{port}'], samples: true },
      { name: `${name} over stdio`, command, stdio: true, samples: true },
    ]
  }),
]

async function twoNodes({ command, stdio = false }: Pick<Server, 'command' | 'stdio'>) {
  const space = await storeSpace('sqlite')
  const flags = ['--retry-interval', '100', '--lease', '60', ...(stdio ? ['--stdio'] : [])]
  const start = () => startServe({ store: space.url, flags, command })
  const nodes = (await Promise.all([start(), start()])) as [HostProcess, HostProcess]
  const proxy = await RoundRobinProxy.over(nodes.map(({ origin }) => origin))
  onTestFinished(async () => {
    await proxy.close()
    await Promise.all(nodes.map(killServe))
    await space.remove()
  })
  return { nodes, proxy, url: `${proxy.origin}/mcp` }
}

/** The session is the first node's; then each request goes to the next. */
async function connect({ nodes, proxy, url }: Awaited<ReturnType<typeof twoNodes>>): Promise<OfficialClient> {
  proxy.backends = [nodes[0].origin]
  const client = await OfficialClient.connect('v1', url, { insist: true })
  proxy.backends = nodes.map(({ origin }) => origin)
  onTestFinished(() => client.close())
  return client
}

async function outcome(call: Promise<string>): Promise<string> {
  return within('the call', call, PATIENCE).catch(
    (error: { message: string; data?: { reason?: string } }) => {
      if (error.data?.reason === undefined) throw error
      return error.data.reason
    },
  )
}

beforeAll(install, 600_000)

describe('serve, two nodes, a server that nobody here wrote', () => {
  it.each(SERVERS)('$name', async ({ samples, ...server }) => {
    const here = await twoNodes(server)
    const client = await connect(here)
    const { tools } = await client.client.listTools()
    expect(tools.map(({ name }) => name)).toContain('slow_read_only')
    for (let i = 0; i < 6; i += 1) expect(await client.tool('echo', { text: `${i}` })).toBe(`${i}`)
    if (samples) expect(await client.tool('sample', { prompt: 'hi' })).toBe('hi -> answer(hi)')

    const heard = new Set<string>()
    const slow = (name: string, tag: string) => {
      const onprogress = () => void heard.add(tag)
      return outcome(client.tool(name, { tag, steps: 20, ms: 100 }, { onprogress }))
    }
    const safe = slow('slow_read_only', 'safe')
    const unsafe = slow('slow', 'unsafe')
    await until('progress of both', () => heard.size === 2)
    for (const pid of childrenOf(here.nodes[0].pid)) process.kill(pid, 'SIGKILL')
    expect([await safe, await unsafe]).toEqual(['safe done after 20', 'interrupted'])

    for (let i = 0; i < 6; i += 1) expect(await client.tool('echo', { text: `${i}` })).toBe(`${i}`)
    expect((await client.client.listTools()).tools).toHaveLength(tools.length)
    if (samples) expect(await client.tool('sample', { prompt: 'on' })).toBe('on -> answer(on)')
    expect(client.exchanges.map(({ status }) => status)).not.toContain(500)

    const late = new RawClient(here.url)
    late.session = client.sessionId
    await client.terminate()
    expect((await late.post(late.request('ping'))).status).toBe(404)
    // All that was started ends with us.
    const [one, other] = here.nodes
    expect(await within('the ends', Promise.all([one.stop(), other.stop()]), PATIENCE)).toEqual([0, 0])
  })

  it(`@playwright/mcp ${NPM['@playwright/mcp']}: its tools, and again after it was killed at rest`, async () => {
    const command = [execPath, npmFile('@playwright/mcp/cli.js'), '--headless', '--port', '{port}']
    const here = await twoNodes({ command })
    const client = await connect(here)
    const names = async () => (await client.client.listTools()).tools.map(({ name }) => name)
    const before = await names()
    expect(before).toContain('browser_navigate')
    for (const pid of childrenOf(here.nodes[0].pid)) process.kill(pid, 'SIGKILL')
    await until('its tools', async () => (await names().catch(() => [])).length === before.length, PATIENCE)
    await client.terminate()
  })
})
