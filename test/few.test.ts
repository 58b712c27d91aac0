import { expect, test } from 'vitest'
import { FewMap, FewSet } from '../src/few.ts'
import { generator } from './support/random.ts'

test('a FewMap is what a Map is, whatever is done to it', () => {
  const random = generator(1)
  const few = new FewMap<string, number>()
  const map = new Map<string, number>()
  for (let step = 0; step < 5000; step += 1) {
    const key = `k${Math.floor(random() * 8)}`
    if (random() < 0.5) {
      few.set(key, step)
      map.set(key, step)
    } else expect(few.delete(key)).toBe(map.delete(key))
    expect(few.size).toBe(map.size)
    expect(few.has(key)).toBe(map.has(key))
    expect(few.get(key)).toBe(map.get(key))
    expect(few.entries()).toEqual([...map])
    expect(few.keys()).toEqual([...map.keys()])
    expect(few.values()).toEqual([...map.values()])
  }
})

test('a FewSet is what a Set is, and what it held a moment ago can be gone through while it changes', () => {
  const random = generator(2)
  const few = new FewSet<number>()
  const set = new Set<number>()
  for (let step = 0; step < 5000; step += 1) {
    const value = Math.floor(random() * 8)
    if (random() < 0.5) {
      few.add(value)
      set.add(value)
    } else expect(few.delete(value)).toBe(set.delete(value))
    expect(few.size).toBe(set.size)
    expect(few.values()).toEqual([...set])
  }
  const before = few.values()
  for (const value of before) few.delete(value)
  expect(few.size).toBe(0)
  expect(before.length).toBe(set.size)
})
