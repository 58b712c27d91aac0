import { facts, paint, print } from '../output.ts'
import { probe } from './probe.ts'
import type { Served } from './served.ts'

export interface CheckOptions {
  /** Milliseconds. */
  readonly timeout: number
  readonly json?: boolean | undefined
}

/** Says whether that server can be wrapped; exit code 1 when it cannot. */
export async function check(served: Served, { timeout, json }: CheckOptions): Promise<void> {
  const { name, path } = served
  const { ok, checks } = await probe(served.direct(), { path, timeout })
  if (!ok) process.exitCode = 1
  const marks = checks.map((each) => {
    const mark = each.ok ? paint('green', '✓') : paint('red', '✗')
    return `${mark} ${each.name}: ${each.detail}`
  })
  const verdict = ok ? 'It can be wrapped.' : 'It cannot be wrapped as it is.'
  await print({ server: name, path, ok, checks }, [...facts([['server', name]]), ...marks, verdict], { json })
}
