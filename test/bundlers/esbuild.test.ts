import { execFile } from 'node:child_process'
import { cp, mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { build } from 'esbuild'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { freePort } from '../support/net/listen.ts'
import { install } from '../support/packed.ts'
import { HostProcess } from '../support/process.ts'
import { smoke } from '../support/smoke.ts'

const examples = fileURLToPath(new URL('../../examples/', import.meta.url))

let folder: string
beforeAll(async () => {
  // No other driver and no other SDK: an application has what it uses.
  folder = await install(['@modelcontextprotocol/sdk', 'zod', 'better-sqlite3'])
})
afterAll(() => rm(folder, { recursive: true, force: true }))

test.each(['esm', 'cjs'] as const)(
  'one file of %s, with nothing beside it but the SQLite driver',
  async (format) => {
    for (const file of ['factory.ts', 'countdown.ts']) await cp(join(examples, file), join(folder, file))
    const program = join(folder, format, format === 'esm' ? 'server.mjs' : 'server.cjs')
    const { warnings } = await build({
      entryPoints: [join(folder, 'factory.ts')],
      bundle: true,
      platform: 'node',
      format,
      target: 'node20',
      external: ['better-sqlite3'],
      logLevel: 'silent',
      outfile: program,
      // The SDK has parts that are written for CommonJS.
      ...(format === 'esm' && {
        banner: {
          js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url)",
        },
      }),
    })
    expect(warnings.map(({ text }) => text).filter((text) => /import\.meta/.test(text))).toEqual([])
    await mkdir(join(folder, format, 'data'))
    const port = await freePort()
    const host = await HostProcess.start({
      args: [program],
      env: { PORT: `${port}`, MCP_PERSIST_URL: `sqlite:${join(folder, format, 'data/mcp.db')}` },
      ready: /^ready$/m,
    })
    onTestFinished(async () => void (await host.kill()))
    await smoke(host, `http://127.0.0.1:${port}/mcp`)
  },
)

test('require() of every entry, from CommonJS', async () => {
  const code = `for (const entry of ['mcp-persist', 'mcp-persist/backend', 'mcp-persist/testing']) {
    console.log(Object.keys(require(entry)).length > 0)
  }
  const { openStore } = require('mcp-persist')
  const store = openStore('sqlite::memory:')
  store.ready().then(() => store.close()).then(() => console.log('opened'))`
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=commonjs', '-e', code], {
    cwd: folder,
  })
  expect(stdout.trim().split('\n')).toEqual(['true', 'true', 'true', 'opened'])
})
