import { spawn } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import * as pkg from '../../src/index.ts'
import { report } from './report.ts'
import { run } from './run.ts'

// Express prints what it refuses, but for tests.
process.env['NODE_ENV'] ??= 'test'

const { values } = parseArgs({
  options: {
    requests: { type: 'string', default: '10000' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    first: { type: 'string', default: '0' },
    only: { type: 'string' },
    // One more than cores: a world that opens or closes waits for much.
    processes: { type: 'string', default: String(availableParallelism() + 1) },
    share: { type: 'string' },
  },
})
const seed = Number(values.seed)
const from = Number(values.only ?? values.first)
const to = values.only === undefined ? from + Number(values.requests) : from + 1
const processes = values.only === undefined ? Number(values.processes) : 1
const began = performance.now()

/** The same in several processes, each with its share of the worlds; resolves with the worst of their exit codes. */
async function together(): Promise<number> {
  const args = ['--requests', String(to - from), '--seed', String(seed), '--first', String(from)]
  const codes = Array.from({ length: processes }, (_, one) => {
    const own = [fileURLToPath(import.meta.url), ...args, '--share', `${one}/${processes}`]
    const child = spawn(process.execPath, own, { stdio: 'inherit' })
    return new Promise<number>((resolve) => child.on('close', (code) => resolve(code ?? 1)))
  })
  return Math.max(...(await Promise.all(codes)))
}

async function alone(): Promise<number> {
  const [one = 0, of = 1] = values.share?.split('/').map(Number) ?? []
  const onViolation = report(seed, values.only !== undefined)
  const violations = await run({ pkg, seed, from, to, share: { one, of }, onViolation })
  return violations.length > 0 ? 1 : 0
}

if (values.share === undefined) console.log(`seed ${seed}`)
const code = await (processes > 1 && values.share === undefined ? together() : alone())
if (values.share === undefined) {
  const seconds = (performance.now() - began) / 1000
  const rate = Math.round((to - from) / seconds)
  const found = code === 0 ? 'all is well' : 'see above; one alone: --seed N --only NUMBER'
  console.log(`${to - from} requests to either app in ${seconds.toFixed(1)} s (${rate}/s): ${found}`)
}
process.exit(code)
