import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { HeldIds } from '../../src/session/ownership/held-ids.ts'

test('an id is known while it is held, and for a ttl after', async () => {
  const ids = new HeldIds(40)
  ids.hold('a', 'b')
  await sleep(60)
  expect(ids.has('a') && ids.has('b')).toBe(true)
  ids.leave('a', 'b')
  expect(ids.has('a') && ids.has('b')).toBe(true)
  await sleep(60)
  expect(ids.has('a') || ids.has('b')).toBe(false)
})

test('one that comes back is held again, however often it left', async () => {
  const ids = new HeldIds(20)
  ids.hold('a')
  ids.leave('a')
  ids.hold('a')
  await sleep(40)
  expect(ids.has('a')).toBe(true)
})

test('nobody is known who was never here, under whatever name', () => {
  const ids = new HeldIds(1000)
  for (const id of ['', 'constructor', '__proto__', 'a,b']) expect(ids.has(id)).toBe(false)
  ids.leave('a')
  expect(ids.has('a')).toBe(false)
})

test('what has left is bounded: the oldest is forgotten', () => {
  const ids = new HeldIds(60_000)
  for (let i = 0; i <= 100_000; i += 1) {
    ids.hold(`id-${i}`)
    ids.leave(`id-${i}`)
  }
  expect(ids.has('id-0')).toBe(false)
  expect(ids.has('id-1')).toBe(true)
})
