import assert from 'node:assert/strict'
import { type ErrorCode, isPersistError } from '../errors.ts'
import {
  type Append,
  type ClaimedSession,
  nodeChannel,
  type SessionState,
  type StoredEvent,
  type Subscription,
} from '../store/port.ts'
import type { Store } from '../store/store.ts'

export const MINUTE = 60_000

/** Resolves with the first truthy result; fails after `within` ms. */
export async function eventually<T>(
  what: string,
  check: () => T | Promise<T>,
  within = 15_000,
): Promise<NonNullable<T>> {
  const deadline = performance.now() + within
  for (;;) {
    const result = await check()
    if (result) return result
    assert.ok(performance.now() < deadline, `not within ${within} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/** Asserts that it rejects with a `PersistError` of this code (or one of these codes). */
export async function rejectsWith(code: ErrorCode | ErrorCode[], promise: Promise<unknown>): Promise<void> {
  const codes = [code].flat()
  const outcome = await promise.then(
    (value) => `it resolved with ${JSON.stringify(value)}`,
    (error) =>
      isPersistError(error) && codes.includes(error.code)
        ? undefined
        : `it rejected with ${error?.stack ?? error}`,
  )
  assert.equal(outcome, undefined, `expected ${codes.join(' or ')}, but ${outcome}`)
}

export function message(text: string | number): string {
  return JSON.stringify({ jsonrpc: '2.0', method: 'notifications/message', params: { data: text } })
}

/** Appends one message; resolves with its position. */
export async function append(
  store: Store,
  sessionId: string,
  streamId: string,
  payload: string,
  rest: Partial<Append> = {},
): Promise<number> {
  const events = [{ streamId, kind: 'message' as const, payload }]
  const { positions } = await store.log.append({ sessionId, events, ttl: MINUTE, ...rest })
  assert.equal(positions.length, 1)
  return positions[0]!
}

/** Everything of a session (or of one stream), in pages of `limit`. */
export async function readAll(
  store: Store,
  sessionId: string,
  { streamId, after = 0, limit = 100 }: { streamId?: string; after?: number; limit?: number } = {},
): Promise<StoredEvent[]> {
  const found: StoredEvent[] = []
  const stream = streamId === undefined ? {} : { streamId }
  for (;;) {
    const from: number = found.at(-1)?.position ?? after
    const page = await store.log.read({ sessionId, ...stream, after: from, limit })
    assert.ok(page.events.length <= limit, 'a page is never longer than its limit')
    found.push(...page.events)
    if (!page.more) return found
    assert.ok(page.events.length > 0, 'a page that has more after it is not empty')
  }
}

export async function payloads(store: Store, sessionId: string, streamId?: string): Promise<string[]> {
  const events = await readAll(store, sessionId, streamId === undefined ? {} : { streamId })
  return events.map(({ payload }) => payload)
}

export const state: SessionState = {
  initialize: '{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"note":"žluťoučký 🐎 \\"quoted\\""}}',
  protocolVersion: '2025-11-25',
}

export function session(id: string, owner: string, ttl = MINUTE, principal: string | null = null) {
  return { id, owner, ttl, principal, state }
}

/** A claim that must succeed; resolves with what was claimed, in a later generation. */
export async function claimed(
  store: Store,
  id: string,
  owner: string,
  generation: number,
): Promise<ClaimedSession> {
  const record = await store.sessions.claim(id, { owner, generation })
  assert.ok(record, `${owner} may claim ${id}`)
  assert.equal(record.owner, owner)
  assert.ok(Number.isSafeInteger(record.generation) && record.generation > generation, 'a later generation')
  return record
}

export const PROFILE = '{"speaks":[1,2],"note":"žluťoučký 🐎"}'

/** As a node does it: listen first, then register. */
export async function startNode(store: Store, id: string, lease = MINUTE): Promise<Subscription> {
  const receiving = await store.bus.receive(id, () => {})
  const subscribed = await store.bus.subscribe(nodeChannel(id), () => {})
  await store.nodes.register({ id, publicKey: `key-of-${id}`, profile: PROFILE }, lease)
  return { close: async () => void (await Promise.all([receiving.close(), subscribed.close()])) }
}

/** One turn of the event loop: a loop of promises alone would never let I/O and timers in. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

export function range(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i)
}
