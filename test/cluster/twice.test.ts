import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { RawClient } from '../support/clients/raw-client.ts'
import { serveHosted } from '../support/hosted.ts'
import { until } from '../support/wait.ts'

const PATIENCE = 20_000

test('a call that has taken two processes with it is called interrupted, and not run a third time', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'mcp-persist-twice-'))
  const hosted = { script: 'factory.ts' as const, store: 'sqlite:FOLDER/mcp.db', folder }
  const nodes = await Promise.all([1, 2, 3].map(() => serveHosted(hosted)))
  onTestFinished(async () => {
    await Promise.all(nodes.map(({ host }) => host.kill()))
    await rm(folder, { recursive: true, force: true })
  })
  const [owner, edge, third] = nodes
  const client = await RawClient.open(owner!.url)
  // It may be repeated, and whoever serves its client claims the session.
  const call = client.toolCall('slow_read_only', { tag: 'poison', steps: 1000, ms: 25 })
  const stream = await client.clone(edge!.url).stream(call)
  const runs = () => owner!.journal.entries().filter(({ what, tag }) => what === 'start' && tag === 'poison')
  await until('an id to come back with', () => stream.lastEventId)
  for (const [i, node] of [owner, edge].entries()) {
    await until(`run ${i + 1}`, () => runs().length === i + 1, PATIENCE)
    await node!.host.kill('SIGKILL')
  }
  await stream.over(PATIENCE)

  const rest = await client.clone(third!.url).listen(stream.lastEventId)
  const { error } = await rest.next('its end', ({ id }) => id === call.id, PATIENCE)
  expect(error?.message).toMatch(/may or may not/i)
  expect(new Set(runs().map(({ pid }) => pid)).size).toBe(2)
  expect(runs()).toHaveLength(2)
  rest.close()
}, 60_000)
