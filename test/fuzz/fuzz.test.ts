import { expect, test } from 'vitest'
import * as pkg from '../../src/index.ts'
import { generate } from './generate.ts'
import { run } from './run.ts'

test('what the app refuses stays refused, whatever is asked of it', async () => {
  expect(await run({ pkg, seed: 8, from: 0, to: 1000, most: 25_000 })).toEqual([])
}, 300_000)

test('a request depends on its seed and its number, and on nothing else', () => {
  const some = (seed: number) => [0, 17, 4711].map((number) => JSON.stringify(generate(seed, number)))
  expect(some(3)).toEqual(some(3))
  expect(some(3)).not.toEqual(some(4))
})
