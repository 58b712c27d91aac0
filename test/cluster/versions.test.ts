import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { type StoreSpace, storeSpace } from '../support/backends.ts'
import { RawClient } from '../support/clients/raw-client.ts'
import { type Hosted, serveHosted } from '../support/hosted.ts'
import { NOW, type Release, Releases } from '../support/releases.ts'
import { until } from '../support/wait.ts'
import { Meeting } from './meeting.ts'

let releases: Releases
let space: StoreSpace
let folder: string
beforeAll(async () => {
  releases = await Releases.unpack()
  folder = await mkdtemp(join(tmpdir(), 'mcp-persist-versions-'))
  space = await storeSpace('redis')
})
afterAll(async () => {
  await releases.remove()
  await space.remove()
  await rm(folder, { recursive: true, force: true })
})

async function serve(release: Release): Promise<Hosted> {
  const options = { retryInterval: 20 }
  const node = await serveHosted({ script: 'factory.ts', store: space.url, folder, options, release })
  onTestFinished(async () => {
    await node.host.kill()
  })
  return node
}

async function meet(name: string, owner: Hosted, edge: Hosted): Promise<Meeting> {
  const meeting = await Meeting.of(name, owner, edge)
  onTestFinished(() => meeting.close())
  return meeting
}

/**
 * Told to come again, at once: whoever waits for an answer gets one. The stream is asked for first: a call that was on its way
 * when its owner died may have been made, and "try again" would be a lie.
 */
async function turnedAway(client: RawClient): Promise<void> {
  const started = performance.now()
  for (const response of [await client.get(), await client.post(client.toolCall('counter'))]) {
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '1'])
    expect(await response.text()).toMatch(/another release/)
  }
  expect(performance.now() - started).toBeLessThan(5000)
}

const saying = (node: Hosted, text: string) =>
  until(`"${text}" in a log`, () => node.host.output.split('\n').find((line) => line.includes(text)))

test('a session in a format that this release does not read is left to those that do', async () => {
  const release = await releases.later('after', { messages: [1, 2], reads: [1, 2], writes: 2 })
  const [now, after, other] = await Promise.all([serve(NOW), serve(release), serve(release)])

  // A process is known to the others from its first session on.
  const client = (await RawClient.open(other.url)).clone(now.url)
  // The messages are common ground, so its sessions are served here as any other, and ours there.
  const theirs = await meet('theirs', after, now)
  const ours = await meet('ours', now, other)
  await Promise.all([theirs.talk(), ours.talk()])
  // What dies with its owner is taken by one that reads it, at the word of one that does not.
  await theirs.kill(async () => {})
  // A session of this release is in the new format from its first owner of that release on, and served here all the same.
  await ours.drain(() => now.host.start())

  // None is left.
  expect(await client.tool('counter')).toBe('1')
  await other.host.kill()
  await turnedAway(client)
  expect(await saying(now, 'does not read')).toContain(client.session)
  // It was neither broken nor lost.
  await other.host.start()
  expect(await client.clone(other.url).tool('counter')).toBe('1')
  expect(await client.tool('counter')).toBe('2')
}, 120_000)

test('a release that speaks no message of this one serves its own sessions, and breaks no other', async () => {
  const release = await releases.later('only', { messages: [2, 2], reads: [2, 2], writes: 2 })
  const [now, later] = await Promise.all([serve(NOW), serve(release)])
  const [ours, theirs] = await Promise.all([RawClient.open(now.url), RawClient.open(later.url)])
  for (const [client, elsewhere] of [
    [ours, later],
    [theirs, now],
  ] as const) {
    expect(await client.tool('counter')).toBe('1')
    await turnedAway(client.clone(elsewhere.url))
    await turnedAway(client.clone(elsewhere.url))
    expect(await client.tool('counter')).toBe('2')
    await saying(elsewhere, 'no language in common')
  }
  // Nor is a session taken that could not be read.
  await now.host.stop()
  await turnedAway(ours.clone(later.url))
  await now.host.start()
  expect(await ours.tool('counter')).toBe('1')
}, 120_000)
