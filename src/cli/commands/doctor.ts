import type { Command } from 'commander'
import { errorText, maskUrl } from '../../errors.ts'
import { openStore } from '../../store/open-store.ts'
import type { StoreHealth } from '../../store/port.ts'
import { facts, paint, print } from '../output.ts'
import { assertExists, storeUrl, URL_HELP } from '../store-url.ts'
import { closing } from '../with-store.ts'

interface Options {
  url?: string
  json?: boolean
}

interface Check {
  readonly name: string
  readonly ok: boolean
  readonly detail: string
}

export function addDoctor(program: Command): void {
  program
    .command('doctor')
    .description('check the store; creates and changes nothing')
    .option('--url <url>', URL_HELP)
    .option('--json', 'one JSON document on stdout')
    .action(doctor)
}

async function doctor(options: Options): Promise<void> {
  const url = storeUrl(options.url)
  const store = openStore(url, { autoMigrate: false, readonly: true })
  const { backend } = store
  const health = await closing(store, async (): Promise<StoreHealth> => {
    try {
      assertExists(url)
    } catch (error) {
      return { backend, ok: false, warnings: [], error: errorText(error) }
    }
    return store.health()
  })
  const checks = checksOf(health)
  const ok = checks.every((check) => check.ok)
  const warnings = health.ok ? warningsOf(health) : []
  if (!ok) process.exitCode = 1
  const { version, latencyMs, migrations } = health
  const document = { url: maskUrl(url), backend, ok, checks, warnings, version, latencyMs, migrations }
  const marks = checks.map((check) => {
    const mark = check.ok ? paint('green', '✓') : paint('red', '✗')
    return `${mark} ${check.name}: ${check.detail}`
  })
  const notes = warnings.map((warning) => `${paint('yellow', '!')} ${warning}`)
  await print(document, [...facts([['store', maskUrl(url)]]), ...marks, ...notes], options)
}

function checksOf({ ok, version, latencyMs, migrations, error }: StoreHealth): Check[] {
  const failure = maskUrl(error ?? 'it failed without saying why')
  if (version === undefined) return [{ name: 'store', ok, detail: failure }]
  const connection = {
    name: 'connection',
    ok: true,
    detail: `${version}, answered in ${latencyMs?.toFixed(1)} ms`,
  }
  const applied = migrations?.applied.join(', ') || 'nothing is stored yet'
  return [connection, { name: 'schema', ok, detail: ok ? applied : failure }]
}

function warningsOf({ warnings, migrations }: StoreHealth): string[] {
  const { pending = [], newer = [] } = migrations ?? {}
  return [
    ...warnings,
    ...(newer.length > 0
      ? [`Of a later release: ${newer.join(', ')}; this one goes on beside it. Finish the deploy.`]
      : []),
    ...(pending.length > 0
      ? [`Pending: ${pending.join(', ')}; run \`npx mcp-persist migrate\` unless only events are stored.`]
      : []),
  ]
}
