import { type Command, InvalidArgumentError } from 'commander'
import { PersistError } from '../../errors.ts'
import type { SessionRecord } from '../../store/port.ts'
import { facts, print, table, time } from '../output.ts'
import { storeUrl, URL_HELP } from '../store-url.ts'
import { READ_ONLY, withStore } from '../with-store.ts'

interface Options {
  url?: string
  json?: boolean
}

interface ListOptions extends Options {
  limit: number
  cursor?: string
  principal?: string
}

export function addSessions(program: Command): void {
  const sessions = program.command('sessions').description('list, show or terminate sessions')
  const add = (usage: string, description: string) =>
    sessions
      .command(usage)
      .description(description)
      .option('--url <url>', URL_HELP)
      .option('--json', 'one JSON document on stdout')
  add('list', 'live sessions in id order, a page at a time')
    .option('--limit <n>', 'sessions on the page', positiveInteger, 100)
    .option('--cursor <cursor>', 'go on after this page ("next" of the page before)')
    .option('--principal <principal>', 'only those that this principal opened')
    .action(list)
  add('show <session>', 'one session, with what it takes to rehydrate it').action(show)
  add('terminate <session>', 'end a session for good, wherever it runs').action(terminate)
}

export function positiveInteger(text: string): number {
  const number = Number(text)
  if (Number.isSafeInteger(number) && number > 0) return number
  throw new InvalidArgumentError('It must be a whole number above 0.')
}

async function list(options: ListOptions): Promise<void> {
  const { limit, cursor, principal } = options
  await withStore(storeUrl(options.url), READ_ONLY, async (store) => {
    const query = {
      limit,
      ...(cursor !== undefined && { cursor }),
      ...(principal !== undefined && { principal }),
    }
    const { sessions, next } = await store.sessions.list(query)
    const head = ['SESSION', 'PRINCIPAL', 'OWNER', 'LAST USED', 'EXPIRES']
    const lines = () => {
      const rows = sessions.map((session) => [
        session.id,
        session.principal ?? '-',
        owner(session),
        time(session.lastUsedAt),
        time(session.expiresAt),
      ])
      const more = next === undefined ? [] : [`There are more: --cursor '${next}'`]
      return [...(rows.length === 0 ? ['No sessions.'] : table([head, ...rows])), ...more]
    }
    await print({ sessions, ...(next !== undefined && { next }) }, lines, options)
  })
}

async function show(id: string, options: Options): Promise<void> {
  await withStore(storeUrl(options.url), READ_ONLY, async (store) => {
    const session = await store.sessions.get(id)
    if (!session) throw gone(id)
    const { epoch, floor, last } = await store.log.read({
      sessionId: id,
      after: Number.MAX_SAFE_INTEGER,
      limit: 1,
    })
    const { state } = session
    const lines = facts([
      ['session', id],
      ['principal', session.principal ?? '-'],
      ['owner', owner(session)],
      ['generation', String(session.generation)],
      ['created', time(session.createdAt)],
      ['last used', time(session.lastUsedAt)],
      ['expires', time(session.expiresAt)],
      ['protocol', state.protocolVersion],
      ['log level', state.logLevel ?? '-'],
      ['subscriptions', state.subscriptions?.join(', ') || '-'],
      ['delivered', String(session.delivered)],
      ['last event', String(last)],
      ['trimmed up to', String(floor)],
      ['initialize', state.initialize],
    ])
    await print({ ...session, log: { epoch, floor, last } }, lines, options)
  })
}

async function terminate(id: string, options: Options): Promise<void> {
  await withStore(storeUrl(options.url), {}, async (store) => {
    const session = await store.sessions.get(id)
    if (!session || !(await store.sessions.terminate(id))) throw gone(id)
    await print({ id, terminated: true, owner: session.owner }, [`Terminated session ${id}.`], options)
  })
}

function owner({ owner, ownerAlive }: SessionRecord): string {
  if (owner === null) return '-'
  return ownerAlive ? owner : `${owner} (gone)`
}

function gone(id: string): PersistError {
  return new PersistError(
    'SESSION_GONE',
    `There is no session ${id}; it has expired, was terminated or never existed.`,
  )
}
