import assert from 'node:assert/strict'
import { test } from 'vitest'
import { Budget } from '../../src/store/sqlite/sqlite-budget.ts'

test('no stretch of the span sees more than the limit, and what is refused costs nothing', () => {
  let now = 1_000_000
  const budget = new Budget(100, 1_000, { now: () => now })
  const spent: { at: number; bytes: number }[] = []
  for (let i = 0; i < 2_000; i++) {
    now += (i * 7) % 53
    const bytes = (i * 13) % 40
    if (budget.spend(bytes)) spent.push({ at: now, bytes })
    const recent = spent.filter(({ at }) => at > now - 1_000).reduce((sum, each) => sum + each.bytes, 0)
    assert.ok(recent <= 100, `${recent} bytes within the span`)
  }
  const total = spent.reduce((sum, each) => sum + each.bytes, 0)
  // Half of the limit for each span is the least that goes through.
  assert.ok(total > (50 * (now - 1_000_000)) / 1_000 / 2, `${total} bytes in all`)
})

test('after a quiet time all may be spent at once, also when the clock was set back', () => {
  let now = 1_000_000
  const budget = new Budget(100, 1_000, { now: () => now })
  assert.ok(budget.spend(100))
  assert.ok(!budget.spend(1))
  now += 2_000
  assert.ok(budget.spend(100))
  now -= 500_000
  assert.ok(!budget.spend(1))
  now += 2_000
  assert.ok(budget.spend(100))
})
