import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { type Backend, storeSpace } from '../support/backends.ts'
import { OfficialClient } from '../support/clients/official-client.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { type Hosted, serveHosted, serveUpstream } from '../support/hosted.ts'
import { fileJournal, type Journal } from '../support/journal.ts'
import { RoundRobinProxy } from '../support/net/round-robin-proxy.ts'
import type { HostProcess } from '../support/process.ts'
import { until, within } from '../support/wait.ts'

/** Longer than any wait here: what goes on does so because the session was given up, and not because a lease ran out. */
const options = { retryInterval: 50, ttl: 120, lease: 60 }

/** Processes that start and stop need their time on a machine that does much else. */
const PATIENCE = 60_000
vi.setConfig({ testTimeout: 120_000 })

interface Wrapped extends Hosted {
  readonly upstream: HostProcess
}

interface World {
  readonly nodes: readonly Wrapped[]
  /** Through a balancer, as a client sees it. */
  readonly url: string
  readonly journal: Journal
}

interface Place {
  readonly backend: Backend
  readonly size?: number
  readonly shape?: string
  readonly app?: { readonly json?: boolean; readonly eventStore?: boolean }
}

/** Wrapped nodes, each with a server of its own behind it: all of them processes. */
async function world({ backend, size = 2, shape = 'express5', app = {} }: Place): Promise<World> {
  const space = await storeSpace(backend)
  const folder = await mkdtemp(join(tmpdir(), 'mcp-persist-away-'))
  const start = async (): Promise<Wrapped> => {
    const upstream = await serveUpstream({ shape, app, folder })
    const hosted = await serveHosted({
      upstream: `${upstream.origin}/mcp`,
      store: space.url,
      folder,
      options,
    })
    return { ...hosted, upstream }
  }
  const nodes = await Promise.all(Array.from({ length: size }, start))
  const proxy = await RoundRobinProxy.over(nodes.map(({ host }) => host.origin))
  onTestFinished(async () => {
    await Promise.all(nodes.flatMap(({ host, upstream }) => [host.kill(), upstream.kill()]))
    await proxy.close()
    await space.remove()
    await rm(folder, { recursive: true, force: true })
  })
  return { nodes, url: `${proxy.origin}/mcp`, journal: fileJournal(join(folder, 'journal.jsonl')) }
}

async function connect(url: string): Promise<OfficialClient> {
  const client = await OfficialClient.connect('v1', url)
  onTestFinished(() => client.close())
  await client.listening()
  return client
}

/** Statuses of the requests whose answers began. */
function statuses(client: OfficialClient, method = 'POST'): number[] {
  return client.exchanges.filter((each) => each.method === method).map(({ status }) => status)
}

const started = ({ journal }: World, tag: string) =>
  journal.entries().filter((entry) => entry.what === 'start' && entry.tag === tag).length

/** What a call that broke comes to: its text, or the error with the `reason`. */
async function outcome(call: Promise<string>): Promise<string> {
  return within('the call', call, PATIENCE).catch(
    (error: { message: string; data?: { reason?: string } }) => {
      if (error.data?.reason === undefined) throw error
      return error.data.reason
    },
  )
}

describe.each(['sqlite', 'redis'] as const)('the server behind { url } is away, on %s', (backend) => {
  it('and stays away: its sessions go on at the other node, and new ones open there', async () => {
    const { nodes, url } = await world({ backend })
    const [first, second] = nodes as [Wrapped, Wrapped]
    const owner = await connect(first.url)
    const shared = await connect(url)
    expect(await owner.tool('echo', { text: 'before' })).toBe('before')
    await first.upstream.kill('SIGKILL')

    // The session of a client that knows but this node is where its server is.
    const there = alsoAt(second.url, owner)
    await until(
      'the session at the other node',
      async () => (await there.tool('echo', { text: 'x' })) === 'x',
      5000,
    )
    for (let i = 0; i < 6; i += 1) expect(await owner.tool('echo', { text: `after ${i}` })).toBe(`after ${i}`)
    expect(await owner.tool('counter')).toBe('1')
    await owner.tool('later', { tag: 'aside', count: 3, ms: 5 })
    await owner.log('aside:3')
    // At most one call of a client of both nodes meets the node whose server is away while nobody has its session.
    await until('a call', () => shared.tool('echo', { text: 'y' }).catch(() => false), 5000)
    for (let i = 0; i < 6; i += 1) expect(await shared.tool('echo', { text: 'z' })).toBe('z')

    // New ones: the one node says when to come again, the other takes them all.
    for (let i = 0; i < 3; i += 1) {
      const refused = await fetch(first.url, initialize())
      expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '1'])
      expect(await refused.text()).not.toMatch(/127\.0\.0\.1|ECONN|store/)
      const opened = await connect(second.url)
      expect(await opened.tool('echo', { text: 'new' })).toBe('new')
    }
    const outside = await fetch(`${first.host.origin}/hello`)
    expect(outside.status).toBe(502)
    for (const client of [owner, shared])
      expect([...statuses(client), ...statuses(client, 'GET')]).not.toContain(500)
    const said = first.host.output.split('\n').filter((line) => line !== '' && !line.startsWith('READY'))
    expect(said).toEqual([expect.stringContaining('cannot be reached')])

    await first.upstream.start()
    await until('it is back', () => first.host.output.includes('the app is back'))
    const back = await connect(first.url)
    expect(await back.tool('echo', { text: 'back' })).toBe('back')
  })

  it.each(['kept', 'json'] as const)('in the middle of calls and back: %s', async (kind) => {
    const here = await world({ backend, size: 1, app: { json: kind === 'json' } })
    const { upstream, url } = here.nodes[0]!
    const client = await connect(url)
    const steps = { steps: 40, ms: 25 }
    const safe = outcome(client.tool('slow_read_only', { tag: 'safe', ...steps }))
    const unsafe = outcome(client.tool('slow', { tag: 'unsafe', ...steps }))
    await until('both', () => started(here, 'safe') === 1 && started(here, 'unsafe') === 1)
    await sleep(100)
    await upstream.kill('SIGKILL')
    await sleep(1000)
    await upstream.start()
    expect(await safe).toBe('safe done after 40')
    expect(await unsafe).toBe('interrupted')
    expect([started(here, 'safe'), started(here, 'unsafe')]).toEqual([2, 1])
    expect(await client.tool('echo', { text: 'on' })).toBe('on')
    expect(statuses(client)).not.toContain(500)
  })

  it('in the middle of calls of the other node’s clients, and stays away', async () => {
    const here = await world({ backend })
    const [first, second] = here.nodes as [Wrapped, Wrapped]
    const owner = await connect(first.url)
    const edge = alsoAt(second.url, owner)
    const steps = { steps: 40, ms: 25 }
    const reading = edge.toolCall('slow_read_only', { tag: 'safe', ...steps })
    const writing = edge.toolCall('slow', { tag: 'unsafe', ...steps })
    const [read, write] = await Promise.all([edge.stream(reading), edge.stream(writing)])
    await until('both', () => read.logs.length > 1 && write.logs.length > 1)
    await first.upstream.kill('SIGKILL')
    const answer = await read.next('the answer', ({ id }) => id === reading.id, PATIENCE)
    expect(JSON.stringify(answer.result)).toContain('safe done after 40')
    const error = await write.next('the error', ({ id }) => id === writing.id, PATIENCE)
    expect(error.error?.data).toMatchObject({ reason: 'interrupted' })
    expect(started(here, 'unsafe')).toBe(1)
  })
})

describe('the server behind { url }', () => {
  it('is started again so fast that nobody has missed it: its sessions are rehydrated, whoever asks or listens', async () => {
    const here = await world({ backend: 'sqlite', size: 1 })
    const { upstream, url } = here.nodes[0]!
    const client = await connect(url)
    await client.client.setLoggingLevel('error')
    const gets = statuses(client, 'GET').length
    const call = outcome(client.tool('slow_read_only', { tag: 'safe', steps: 40, ms: 25 }))
    await until('it', () => started(here, 'safe') === 1)
    await upstream.kill('SIGKILL')
    await upstream.start()
    expect(await call).toBe('safe done after 40')
    await until('the client listens again', () => statuses(client, 'GET').length > gets)
    await client.tool('later', { tag: 'aside', count: 2, ms: 100 })
    await client.log('aside:2')
  })

  it('shuts down in good order: a call that can end does, one that cannot is settled', async () => {
    const here = await world({ backend: 'sqlite', size: 1 })
    const { upstream, url } = here.nodes[0]!
    const client = await connect(url)
    const call = outcome(client.tool('slow', { tag: 'unsafe', steps: 400, ms: 25 }))
    await until('it', () => started(here, 'unsafe') === 1)
    await upstream.stop()
    await upstream.start()
    expect(await call).toBe('interrupted')
    expect(await client.tool('echo', { text: 'on' })).toBe('on')
  })

  it('is taken along by a call each time: it is run again once, not for ever', async () => {
    const here = await world({ backend: 'sqlite', size: 1 })
    const { upstream, url } = here.nodes[0]!
    const client = await connect(url)
    const call = outcome(client.tool('slow_read_only', { tag: 'poison', steps: 400, ms: 25 }))
    for (let run = 1; run <= 2; run += 1) {
      await until(`run ${run}`, () => started(here, 'poison') === run, PATIENCE)
      await upstream.kill('SIGKILL')
      await sleep(200)
      await upstream.start()
    }
    expect(await call).toBe('interrupted')
    expect(started(here, 'poison')).toBe(2)
  })

  it('was never there: 503 until it is', async () => {
    const here = await world({ backend: 'sqlite', size: 1 })
    const { upstream, url, host } = here.nodes[0]!
    await upstream.kill()
    for (let i = 0; i < 3; i += 1) expect((await fetch(url, initialize())).status).toBe(503)
    const unknown = await fetch(url, { headers: { accept: 'text/event-stream', 'mcp-session-id': 'none' } })
    expect(unknown.status).toBe(404)
    await upstream.start()
    await until('it', async () => (await fetch(url, initialize())).status === 200)
    expect(host.output.match(/mcp-persist/g)).toHaveLength(2)
  })

  it('a client that can resume nothing hears that its call was interrupted', async () => {
    const here = await world({ backend: 'sqlite', size: 1 })
    const { upstream, url } = here.nodes[0]!
    const client = await RawClient.open(url, { version: '2025-06-18' })
    onTestFinished(() => client.close())
    const silent = client.toolCall('slow', { steps: 1, ms: 30_000 })
    const stream = await client.stream(silent)
    await sleep(100)
    await upstream.kill('SIGKILL')
    const answer = await stream.next('the answer', ({ id }) => id === silent.id)
    expect(answer.error?.data).toMatchObject({ reason: 'interrupted' })
  })
})

function initialize(): RequestInit {
  const params = {
    protocolVersion: '2025-11-25',
    capabilities: {},
    clientInfo: { name: 'test', version: '1' },
  }
  return {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream' },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'initialize', params }),
  }
}

/** Another connection of the same client's session. */
function alsoAt(url: string, client: OfficialClient): RawClient {
  const other = new RawClient(url)
  other.session = client.sessionId
  const same = other.clone()
  onTestFinished(() => same.close())
  return same
}
