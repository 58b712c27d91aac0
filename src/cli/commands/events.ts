import { type Command, InvalidArgumentError } from 'commander'
import { PersistError } from '../../errors.ts'
import type { Page, StoredEvent } from '../../store/port.ts'
import type { Store } from '../../store/store.ts'
import { pause, stopped } from '../interrupt.ts'
import { print, printable, printLine, table } from '../output.ts'
import { storeUrl, URL_HELP } from '../store-url.ts'
import { READ_ONLY, withStore } from '../with-store.ts'
import { positiveInteger } from './sessions.ts'

interface Options {
  url?: string
  json?: boolean
  follow?: boolean
  full?: boolean
  stream?: string
  after: number
  limit: number
}

/** Characters of a payload that are shown without `--full`. */
const SHOWN = 120
/** Between two looks at the log while following, in ms. */
const POLL = 500
const FOLLOW_PAGE = 200

export function addEvents(program: Command): void {
  program
    .command('events <session>')
    .description('the stored events of a session, as they lie in its log')
    .option(
      '--follow',
      'go on with new events until ctrl-C or the end of the session; with --json one a line',
    )
    .option('--full', `whole payloads, not only ${SHOWN} characters`)
    .option('--stream <id>', 'of one stream only')
    .option('--after <position>', 'only events after this position', position, 0)
    .option('--limit <n>', 'events at the most, without --follow', positiveInteger, 1000)
    .option('--url <url>', URL_HELP)
    .option('--json', 'one JSON document on stdout')
    .action(events)
}

function position(text: string): number {
  const number = Number(text)
  if (/^\d+$/.test(text) && Number.isSafeInteger(number)) return number
  throw new InvalidArgumentError('It must be a position: a whole number, 0 or more.')
}

async function events(sessionId: string, options: Options): Promise<void> {
  const url = storeUrl(options.url)
  if (!options.follow) return withStore(url, READ_ONLY, (store) => list(store, sessionId, options))
  await withStore(url, READ_ONLY, (store) => follow(store, sessionId, options)).catch((error) => {
    // Ctrl-C is how one stops following.
    if (!stopped()) throw error
  })
}

async function list(store: Store, sessionId: string, options: Options): Promise<void> {
  const found: StoredEvent[] = []
  let page: Page
  let after = options.after
  let corrupt = 0
  do {
    page = await read(store, sessionId, after, Math.min(options.limit - found.length, 500), options)
    if (page.epoch === undefined) throw noLog(sessionId)
    found.push(...page.events)
    corrupt += page.corrupt
    const isStuck = page.scanned <= after
    after = page.scanned
    if (isStuck) break
  } while (page.more && found.length < options.limit)
  const { epoch, floor, last, more } = page
  const shown = found.map((event) => describe(event, options))
  const lines = () => {
    const rows = shown.map(({ position, stream, kind, bytes, payload }) => [
      String(position),
      stream,
      kind,
      String(bytes),
      payload,
    ])
    const head = ['POSITION', 'STREAM', 'KIND', 'BYTES', 'PAYLOAD']
    return [
      ...(rows.length === 0 ? ['No events.'] : table([head, ...rows])),
      ...(more ? [`There are more: --after ${after}`] : []),
      ...(corrupt > 0 ? [`${corrupt} more could not be decoded.`] : []),
    ]
  }
  await print({ session: sessionId, epoch, floor, last, more, corrupt, events: shown }, lines, options)
}

/** The log is the truth; a slow look at it costs the store next to nothing. */
async function follow(store: Store, sessionId: string, options: Options): Promise<void> {
  let { after } = options
  let epoch: string | undefined
  while (!stopped()) {
    const page = await read(store, sessionId, after, FOLLOW_PAGE, options)
    if (page.epoch === undefined && epoch === undefined) throw noLog(sessionId)
    if (page.epoch === undefined) return
    // Begun anew, and the positions with it.
    if (epoch !== undefined && page.epoch !== epoch) after = 0
    const isSame = epoch === undefined || page.epoch === epoch
    epoch = page.epoch
    if (!isSame) continue
    for (const event of page.events) {
      const shown = describe(event, options)
      const { position, stream, kind, bytes, payload } = shown
      const line = [position, stream, kind, bytes, payload].map((cell) => printable(String(cell))).join('  ')
      await printLine(options.json ? JSON.stringify(shown) : line)
    }
    const isStuck = page.scanned <= after
    // Where the log ends, its end may grow: what is scanned beyond the last event is no reason to pass anything over.
    after = page.scanned
    if (!page.more || isStuck) await pause(POLL)
  }
}

function read(
  store: Store,
  sessionId: string,
  after: number,
  limit: number,
  { stream }: Options,
): Promise<Page> {
  return store.log.read({ sessionId, after, limit, ...(stream !== undefined && { streamId: stream }) })
}

function describe({ position, streamId, kind, payload }: StoredEvent, { full }: Options) {
  const truncated = !full && payload.length > SHOWN
  return {
    position,
    stream: streamId,
    kind,
    bytes: Buffer.byteLength(payload),
    payload: truncated ? `${payload.slice(0, SHOWN)}…` : payload,
    truncated,
  }
}

function noLog(sessionId: string): PersistError {
  return new PersistError(
    'SESSION_GONE',
    `There is no log of session ${sessionId}; it has expired or never existed.`,
  )
}
