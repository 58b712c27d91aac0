import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { OfficialClient } from '../support/clients/official-client.ts'
import { RoundRobinProxy } from '../support/net/round-robin-proxy.ts'
import { HostProcess } from '../support/process.ts'
import { freePort } from '../support/services/free-port.ts'
import { until, within } from '../support/wait.ts'
import { STEPS, type Stack, type Step } from './stacks.ts'

/** Milliseconds for one step. */
const PATIENCE = 40_000
const CALLS = 10

/** `true`, or what went wrong. A step that needs a client, and has none, is not there. */
export type Report = ReadonlyMap<Step, true | string>

interface Nodes {
  /** The owner of the client's session, which opens it: the first that the round robin asks. */
  readonly owner: HostProcess
  readonly proxy: RoundRobinProxy
  readonly origins: readonly string[]
  close(): Promise<void>
}

/** Drives the example in `folder` on two nodes behind a strict round robin, through all that a session does. */
export async function drive(stack: Stack, folder: string): Promise<Report> {
  const nodes = await start(stack, folder)
  const report = new Map<Step, true | string>()
  const { path = '/mcp' } = stack
  let client: OfficialClient | undefined
  try {
    for (const step of STEPS) {
      if (!client && step !== 'connect') break
      try {
        await within(step, act(step), PATIENCE)
        report.set(step, true)
      } catch (error) {
        report.set(step, error instanceof Error ? error.message : String(error))
      }
    }
  } finally {
    await client?.close().catch(() => {})
    await nodes.close()
  }
  return report

  async function act(step: Step): Promise<void> {
    if (step === 'connect') {
      client = await OfficialClient.connect('v1', nodes.proxy.origin + path)
      if (client.sessionId === undefined) throw new Error('It opens no session.')
      return client.listening()
    }
    return ACTS[step](client!, nodes, path)
  }
}

const ACTS: Record<
  Exclude<Step, 'connect'>,
  (client: OfficialClient, nodes: Nodes, path: string) => Promise<void>
> = {
  list: expectTools,
  calls: async (client) => {
    for (let i = 0; i < CALLS; i += 1) expect(await client.tool('slow', { steps: 0 }), 'done')
  },
  counter: async (client) => {
    for (let i = 1; i <= CALLS; i += 1) expect(await client.tool('counter'), String(i))
  },
  ask: async (client) => expect(await client.tool('ask'), 'hello asked: name?'),
  progress: async (client) => {
    const heard = () =>
      client.notifications('notifications/progress').map(({ params }) => params?.['progress'])
    const before = heard().length
    expect(await client.tool('slow', { steps: 5 }, { onprogress: () => {} }), 'done')
    // Nest says the last of it behind the answer, with us or without.
    await until('all progress', () => heard().length >= before + 5)
    expect(heard().slice(before).join(' '), '1 2 3 4 5')
  },
  killed: async (client, { owner }) => {
    let begun = () => {}
    const runs = new Promise<void>((resolve) => {
      begun = resolve
    })
    const answer = client.tool('slow', { steps: 10 }, { onprogress: begun })
    await Promise.race([runs, sleep(1000)])
    await owner.kill()
    expect(await answer, 'done')
  },
  'goes on': async (client) => {
    for (let i = 1; i <= 6; i += 1) expect(await client.tool('counter'), String(i))
    await expectTools(client)
  },
  'ask again': async (client, { owner }) => {
    await owner.start()
    expect(await client.tool('ask'), 'hello asked: name?')
  },
  delete: async (client, { origins }, path) => {
    const session = client.sessionId
    if (session === undefined) throw new Error('There is no session.')
    await client.terminate()
    for (const origin of origins) {
      const headers = {
        'mcp-session-id': session,
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
      }
      const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list' })
      const { status } = await fetch(origin + path, { method: 'POST', headers, body })
      expect(String(status), '404')
    }
  },
}

async function expectTools({ client }: OfficialClient): Promise<void> {
  const { tools } = await client.listTools()
  expect(
    tools
      .map(({ name }) => name)
      .sort()
      .join(' '),
    'ask counter slow',
  )
}

function expect(got: string, wanted: string): void {
  if (got !== wanted) throw new Error(`It said "${got}" instead of "${wanted}".`)
}

async function start(
  { start: args = ['--import', 'tsx', 'server.ts'], ready = /^ready$/m }: Stack,
  folder: string,
): Promise<Nodes> {
  const stored = await mkdtemp(join(tmpdir(), 'mcp-persist-frameworks-'))
  const node = async () => {
    const port = await freePort()
    const host = await HostProcess.start({
      args: args.map((each) => each.replace('PORT', String(port))),
      env: {
        PORT: String(port),
        MCP_PERSIST_URL: `sqlite:${join(stored, 'mcp.db')}`,
        NODE_ENV: 'production',
      },
      cwd: folder,
      ready,
      readyWithinMs: 60_000,
    })
    return { host, origin: `http://localhost:${port}` }
  }
  const [one, two] = await Promise.all([node(), node()])
  const origins = [one.origin, two.origin]
  const proxy = await RoundRobinProxy.over(origins)
  const close = async () => {
    await proxy.close()
    for (const { host } of [one, two]) await host.kill()
    await rm(stored, { recursive: true, force: true })
  }
  return { owner: one.host, proxy, origins, close }
}
