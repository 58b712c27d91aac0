import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { OfficialClient } from '../support/clients/official-client.ts'
import type { HostProcess } from '../support/process.ts'
import { childrenOf, isAlive } from '../support/serve-command.ts'
import { type ServeNodes, type ServeNodesOptions, serveNodes } from '../support/serve-nodes.ts'
import { until, within } from '../support/wait.ts'

/** Longer than any wait here: what goes on does so because a death was noticed, and not because a lease ran out. */
const flags = ['--retry-interval', '50', '--lease', '60']
/** Processes that start and stop need their time on a machine that does much else. */
const PATIENCE = 60_000
vi.setConfig({ testTimeout: 120_000 })

async function nodesOf(options: ServeNodesOptions): Promise<ServeNodes> {
  const nodes = await serveNodes({ flags, ...options })
  onTestFinished(() => nodes.close())
  return nodes
}

async function connect(url: string): Promise<OfficialClient> {
  const client = await OfficialClient.connect('v1', url, { insist: true })
  onTestFinished(() => client.close())
  await client.listening()
  return client
}

/** What a call that broke comes to: its text, or the error with the `reason`. */
async function outcome(call: Promise<string>): Promise<string> {
  return within('the call', call, PATIENCE).catch(
    (error: { message: string; data?: { reason?: string } }) => {
      if (error.data?.reason === undefined) throw error
      return error.data.reason
    },
  )
}

function started({ journal }: ServeNodes, tag: string) {
  return journal.entries().filter((entry) => entry.what === 'start' && entry.tag === tag)
}

/** Two calls in the middle of which something happens, and the process of the server that runs both. */
async function calls(here: ServeNodes, client: OfficialClient, ms = 25) {
  const steps = { steps: 60, ms }
  const heard = new Set<string>()
  const run = (name: string, tag: string) =>
    outcome(client.tool(name, { tag, ...steps }, { onprogress: () => void heard.add(tag) }))
  const safe = run('slow_read_only', 'safe')
  const unsafe = run('slow', 'unsafe')
  await until('progress of both', () => heard.size === 2)
  const pid = started(here, 'safe')[0]!.pid!
  const owner = here.nodes.find((node) => childrenOf(node.pid).includes(pid))!
  return { safe, unsafe, pid, owner }
}

describe.each(['http', 'stdio'] as const)('serve, %s, two nodes', (form) => {
  it('the server of the owner is killed in the middle of calls', async () => {
    const here = await nodesOf({ form })
    const client = await connect(here.url)
    expect(await client.tool('counter')).toBe('1')
    const { safe, unsafe, pid } = await calls(here, client)
    process.kill(pid, 'SIGKILL')
    expect(await safe).toBe('safe done after 60')
    expect(await unsafe).toBe('interrupted')
    expect([started(here, 'safe').length, started(here, 'unsafe').length]).toEqual([2, 1])
    // Another instance of the server, told who its client is.
    expect(await client.tool('counter')).toBe('1')
    expect(JSON.parse(await client.tool('client'))).toMatchObject({ name: 'official-client' })
    expect(await client.tool('sample', { prompt: 'hi', via: 'standalone' })).toBe('hi -> answer(hi)')
    expect(client.exchanges.map(({ status }) => status)).not.toContain(500)
  })

  it('serve itself is killed in the middle of calls', async () => {
    const here = await nodesOf({ form })
    const client = await connect(here.url)
    const { safe, unsafe, owner } = await calls(here, client)
    const left = childrenOf(owner.pid)
    await owner.kill('SIGKILL')
    onTestFinished(() => {
      for (const each of left.filter(isAlive)) process.kill(each, 'SIGKILL')
    })
    expect(await safe).toBe('safe done after 60')
    expect(await unsafe).toBe('interrupted')
    expect(await client.tool('echo', { text: 'on' })).toBe('on')
    // Over stdio a server hears that nobody is there any more, and ends.
    if (form === 'stdio') await until('the orphan to end', () => !left.some(isAlive))
    await owner.start()
    expect(await client.tool('echo', { text: 'both' })).toBe('both')
  })

  it('SIGTERM: calls finish, then the server ends, and its sessions go on elsewhere', async () => {
    const here = await nodesOf({ form })
    const client = await connect(here.url)
    const { safe, unsafe, owner, pid } = await calls(here, client)
    expect(await within('the end', owner.stop(), PATIENCE)).toBe(0)
    expect([await safe, await unsafe]).toEqual(['safe done after 60', 'unsafe done after 60'])
    expect([started(here, 'safe').length, started(here, 'unsafe').length]).toEqual([1, 1])
    expect(isAlive(pid)).toBe(false)
    expect(await client.tool('echo', { text: 'on' })).toBe('on')
    expect(statuses(client).filter((status) => status >= 400)).toEqual([])
  })
})

function statuses(client: OfficialClient): number[] {
  return client.exchanges.filter(({ method }) => method === 'POST').map(({ status }) => status)
}

describe('serve, http', () => {
  it('a server that is killed while its sessions rest is missed by none of them', async () => {
    const here = await nodesOf({ form: 'http', backend: 'redis' })
    const client = await connect(here.url)
    const serverOf = (node: HostProcess) => childrenOf(node.pid)[0]!
    for (const node of here.nodes) process.kill(serverOf(node), 'SIGKILL')
    await until('an answer', () => client.tool('echo', { text: 'again' }).catch(() => false), PATIENCE)
    expect(statuses(client)).not.toContain(500)
    expect(statuses(client)).not.toContain(404)
  })
})
