import { execFile } from 'node:child_process'
import { cp, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { onTestFinished } from 'vitest'
import { freePort } from '../support/net/listen.ts'
import { tarball } from '../support/packed.ts'
import { HostProcess } from '../support/process.ts'
import { smoke } from '../support/smoke.ts'

const run = promisify(execFile)
const root = fileURLToPath(new URL('../../', import.meta.url))

interface Framework {
  /** The folder beside this file. */
  readonly name: string
  /** What its build leaves, alone in another place. */
  readonly output: string
  readonly program: string
  readonly ready: RegExp
}

/** Installs the packed package into an application of the framework, builds it, and runs what the build has left, elsewhere. */
export async function buildAndServe({ name, output, program, ready }: Framework): Promise<void> {
  const app = join(root, '.tmp/bundlers', name)
  await mkdir(app, { recursive: true })
  await cp(join(root, 'test/bundlers', name), app, { recursive: true })
  await cp(join(root, 'examples/countdown.ts'), join(app, 'countdown.ts'))
  // Its version says nothing: it is packed anew each time.
  await rm(join(app, 'node_modules/mcp-persist'), { recursive: true, force: true })
  const flags = ['--ignore-scripts', '--no-package-lock', '--no-audit', '--no-fund']
  await run('npm', ['install', ...flags, await tarball()], { cwd: app })
  // Compiled once for all, as the package manager would have done it here.
  const binary = 'node_modules/better-sqlite3/build'
  await cp(join(root, binary), join(app, binary), { recursive: true })
  const env = { ...process.env, NEXT_TELEMETRY_DISABLED: '1', NODE_ENV: 'production' }
  await run('npm', ['run', 'build'], { cwd: app, env })

  // From where nothing of the repository can be found.
  const elsewhere = await mkdtemp(join(tmpdir(), `mcp-persist-${name}-`))
  onTestFinished(() => rm(elsewhere, { recursive: true, force: true }))
  await cp(join(app, output), elsewhere, { recursive: true, verbatimSymlinks: true })
  const port = await freePort()
  const host = await HostProcess.start({
    args: [join(elsewhere, program)],
    env: {
      PORT: `${port}`,
      HOSTNAME: '127.0.0.1',
      HOST: '127.0.0.1',
      NODE_ENV: 'production',
      MCP_PERSIST_URL: `sqlite:${join(elsewhere, 'mcp.db')}`,
    },
    ready,
  })
  onTestFinished(async () => void (await host.kill()))
  await smoke(host, `http://127.0.0.1:${port}/mcp`)
}
