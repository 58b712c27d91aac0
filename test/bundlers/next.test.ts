import { test } from 'vitest'
import { buildAndServe } from './framework.ts'

test('Next.js, built by Turbopack as a standalone server, with SQLite', async () => {
  await buildAndServe({
    name: 'next',
    output: '.next/standalone',
    program: 'server.js',
    ready: /Ready in/,
  })
}, 300_000)
