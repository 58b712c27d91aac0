import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { RawClient } from '../support/clients/raw-client.ts'
import { fileJournal } from '../support/journal.ts'
import { program } from '../support/programs.ts'
import { childrenOf, killServe, startServe } from '../support/serve-command.ts'
import { until } from '../support/wait.ts'

async function serve(
  flags: readonly string[] = [],
  command = [process.execPath, program('support/hosts/stdio.ts')],
) {
  const folder = await mkdtemp(join(tmpdir(), 'mcp-persist-serve-'))
  const path = join(folder, 'journal.jsonl')
  const host = await startServe({
    store: `sqlite:${join(folder, 'mcp.db')}`,
    flags: ['--stdio', ...flags],
    command,
    env: { MCP_TEST_JOURNAL: path },
  })
  onTestFinished(async () => {
    await killServe(host)
    await rm(folder, { recursive: true, force: true })
  })
  const open = async () => {
    const client = await RawClient.open(`${host.origin}/mcp`)
    onTestFinished(() => client.close())
    return client
  }
  return {
    host,
    url: `${host.origin}/mcp`,
    journal: fileJournal(path),
    open,
    processes: () => childrenOf(host.pid).length,
  }
}

it('each session has a process of its own, that ends with it', async () => {
  const { host, open, processes } = await serve()
  // The one that was tried before has ended.
  await until('none', () => processes() === 0)
  const [one, other] = await Promise.all([open(), open()])
  expect(processes()).toBe(2)
  expect([await one!.tool('counter'), await one!.tool('counter'), await other!.tool('counter')]).toEqual([
    '1',
    '2',
    '1',
  ])
  expect((await one!.delete()).status).toBe(200)
  await until('one', () => processes() === 1)
  expect((await one!.post(one!.request('ping'))).status).toBe(404)
  expect(await other!.tool('counter')).toBe('2')
  expect(await host.stop()).toBe(0)
})

it('so many at the most: one more gets 503 and when to come again', async () => {
  const { host, url, open, processes } = await serve(['--max-sessions', '2'])
  const clients = await Promise.all([open(), open()])
  const streams = await Promise.all(clients.map((client) => client.listen()))
  const client = new RawClient(url)
  const refused = await client.post(client.initialize())
  expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '1'])
  expect(await refused.text()).toMatch(/session/i)
  await until('two', () => processes() === 2)
  expect(host.output).toMatch(/maxSessions/)
  // One that nobody needs makes room.
  streams[0]!.close()
  await until('room', async () => (await client.post(client.initialize())).status === 200)
  expect(processes()).toBe(2)
})

it('one that nobody uses is ended, and started again for its session', async () => {
  const { open, processes } = await serve(['--idle', '1'])
  const client = await open()
  expect(await client.tool('counter')).toBe('1')
  await until('none', () => processes() === 0, 20_000)
  expect(await client.tool('counter')).toBe('1')
  expect(processes()).toBe(1)
})

it('one that cannot start for a session, or dies at once, is no session: 503', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'mcp-persist-serve-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  // The second start fails.
  const script = 'test -e "$1" && exit 3; touch "$1"; shift; exec "$@"'
  const command = [
    'sh',
    '-c',
    script,
    'sh',
    join(folder, 'mark'),
    process.execPath,
    program('support/hosts/stdio.ts'),
  ]
  const { url, host } = await serve([], command)
  const client = new RawClient(url)
  const refused = await client.post(client.initialize())
  expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '1'])
  expect(host.running).toBe(true)
})

it('what several calls have to say at once reaches a client that listens to nothing else', async () => {
  const { open } = await serve()
  const client = await open()
  const asked = client.toolCall('sample', { prompt: 'one' })
  const slow = client.toolCall('slow', { tag: 'slow', steps: 5, ms: 20 }, { progressToken: 'mine' })
  const streams = await Promise.all([client.stream(slow), client.stream(asked)])
  const isSampling = ({ method }: { method?: string }) => method === 'sampling/createMessage'
  const [question] = await Promise.all([
    until('the question', () => streams.flatMap(({ messages }) => messages).find(isSampling)),
  ])
  await client.answer(question, { model: 'm', role: 'assistant', content: { type: 'text', text: 'two' } })
  const answer = await streams[1]!.next('the answer', ({ id }) => id === asked.id)
  expect(JSON.stringify(answer.result)).toContain('one -> two')
  await streams[0]!.next('the other answer', ({ id }) => id === slow.id)
  const progress = streams[0]!.messages.filter(({ method }) => method === 'notifications/progress')
  expect(progress.map(({ params }) => params?.['progress'])).toEqual([1, 2, 3, 4, 5])
})
