import { test } from 'vitest'
import { buildAndServe } from './framework.ts'

test('Nitro, whose build traces what it needs, with SQLite', async () => {
  await buildAndServe({
    name: 'nitro',
    output: '.output',
    program: 'server/index.mjs',
    ready: /Listening on/,
  })
}, 300_000)
