import { type App, type AppResponse, header, isAppGone, isEventStream } from '../../app/app.ts'
import { withTimeout } from '../../clock.ts'
import { errorText, isPersistError } from '../../errors.ts'
import { askApp } from '../../session/live/ask-app.ts'
import { readMessages } from '../../session/live/local-app.ts'
import { isResponse, type Message } from '../../session/protocol/json-rpc.ts'
import { eventReader } from '../../sse.ts'

export interface Check {
  readonly name: string
  readonly ok: boolean
  readonly detail: string
}

export interface Probed {
  readonly ok: boolean
  readonly checks: readonly Check[]
}

export interface ProbeOptions {
  readonly path: string
  /** Milliseconds for all of it. */
  readonly timeout: number
}

const INITIALIZE = {
  jsonrpc: '2.0',
  id: 0,
  method: 'initialize',
  params: {
    protocolVersion: '2025-11-25',
    capabilities: {},
    clientInfo: { name: 'mcp-persist', version: '0' },
  },
}
const TOOLS = { jsonrpc: '2.0', id: 1, method: 'tools/list' }

// Milliseconds that a server of the old transport has to say so.
const OLD = 2000

/** Whether an app can be wrapped, found out by opening a session at it and ending it again. Closes the app. Rejects with `DRIVER_MISSING`. */
export async function probe(app: App, options: ProbeOptions): Promise<Probed> {
  const checks: Check[] = []
  try {
    await withTimeout(look(new Asked(app, options), checks), options.timeout, () => {
      return new Error(`no answer within ${options.timeout / 1000} s`)
    })
  } catch (error) {
    if (isPersistError(error)) throw error
    checks.push({ name: 'answer', ok: false, detail: errorText(error).replace(/\.$/, '') })
  } finally {
    await app.close().catch(() => {})
  }
  return { ok: checks.every(({ ok }) => ok), checks }
}

async function look(app: Asked, checks: Check[]): Promise<void> {
  const response = await app.post(INITIALIZE)
  const { status, headers } = response
  const messages = status === 200 ? await app.read(response) : []
  const result = messages.find(isResponse)?.['result'] as Initialized | undefined
  if (!result) {
    response.cancel()
    checks.push({ name: 'endpoint', ok: false, detail: await refusal(app, status, messages) })
    return
  }
  const { serverInfo, protocolVersion } = result
  const form = isEventStream(response) ? 'event stream' : 'JSON'
  const who = serverInfo?.name
    ? `${serverInfo.name} ${serverInfo.version ?? ''}`.trim()
    : 'a server without a name'
  checks.push({
    name: 'endpoint',
    ok: true,
    detail: `${who}, protocol ${protocolVersion}, answers as ${form}`,
  })
  const sessionId = header(headers, 'mcp-session-id')
  if (sessionId === undefined) {
    const detail =
      'none: it is stateless (no Mcp-Session-Id), so there is nothing to persist, and any load balancer will do'
    checks.push({ name: 'session', ok: false, detail })
    return
  }
  checks.push({ name: 'session', ok: true, detail: 'it hands out session ids' })
  const session = { 'mcp-session-id': sessionId, 'mcp-protocol-version': String(protocolVersion) }
  try {
    const initialized = await app.post({ jsonrpc: '2.0', method: 'notifications/initialized' }, session)
    initialized.cancel()
    const tools = await app.read(await app.post(TOOLS, session))
    checks.push({ name: 'tools', ok: true, detail: toolsOf(tools.find(isResponse)) })
  } finally {
    await app.delete(session)
  }
}

interface Initialized {
  readonly protocolVersion?: unknown
  readonly serverInfo?: { readonly name?: string; readonly version?: string }
}

interface Tool {
  readonly annotations?: { readonly readOnlyHint?: boolean; readonly idempotentHint?: boolean }
}

/** What becomes of calls that are interrupted. */
function toolsOf(answer: Message | undefined): string {
  const tools = (answer?.['result'] as { tools?: readonly Tool[] } | undefined)?.tools
  if (!tools) return 'it has none'
  const safe = tools.filter(({ annotations }) => annotations?.readOnlyHint || annotations?.idempotentHint)
  return `${tools.length} on the first page, ${safe.length} of which say that they may be run again (readOnlyHint, idempotentHint)`
}

async function refusal(app: Asked, status: number, messages: readonly Message[]): Promise<string> {
  const error = messages.find(isResponse)?.error
  if (error) return `it refused initialize: ${error.message}`
  if (status === 200) return 'its answer to initialize is not an MCP answer'
  if (status === 401 || status === 403)
    return `it wants credentials (${status}): whether it hands out session ids cannot be seen without`
  const old = await app.oldTransport()
  if (old !== undefined)
    return `it speaks the old HTTP+SSE transport, at ${old}, and not Streamable HTTP: its sessions cannot be moved`
  if (status === 404) return `there is nothing at ${app.path} (404); give its path with --path`
  return `it answered initialize with status ${status}`
}

/** Everything that is asked of the app. */
class Asked {
  readonly #app: App
  readonly #timeout: number
  readonly path: string

  constructor(app: App, { path, timeout }: ProbeOptions) {
    this.#app = app
    this.#timeout = timeout
    this.path = path
  }

  post(message: object, headers: Record<string, string> = {}): Promise<AppResponse> {
    const own = { 'content-type': 'application/json', accept: 'application/json, text/event-stream' }
    const body = Buffer.from(JSON.stringify(message))
    return this.#ask({ method: 'POST', headers: { ...own, ...headers }, body, parsed: message })
  }

  read(response: AppResponse): Promise<readonly Message[]> {
    return readMessages(response, this.#timeout).catch((error: unknown) => {
      // A body that is no JSON says nothing; one that broke off does.
      if (isAppGone(error)) throw error
      return []
    })
  }

  async delete(headers: Record<string, string>): Promise<void> {
    const response = await this.#ask({ method: 'DELETE', headers }).catch(() => undefined)
    response?.cancel()
  }

  /** Where the transport of 2024-11-05 answers, if it does. */
  async oldTransport(): Promise<string | undefined> {
    for (const url of new Set([this.path, '/sse'])) {
      const headers = { accept: 'text/event-stream' }
      const response = await this.#ask({ method: 'GET', url, headers }, OLD).catch(() => undefined)
      if (!response) continue
      const found =
        isEventStream(response) && (await withTimeout(isOld(response), OLD, late).catch(() => false))
      response.cancel()
      if (found) return url
    }
    return undefined
  }

  #ask(
    request: Omit<Parameters<App['fetch']>[0], 'url'> & { url?: string },
    // The time for all of it is over first.
    patience = 2 * this.#timeout,
  ): Promise<AppResponse> {
    return askApp(this.#app, { url: this.path, ...request }, { patience })
  }
}

/** Its first event names the endpoint for messages. */
async function isOld(response: AppResponse): Promise<boolean> {
  const read = eventReader()
  for await (const chunk of response.body) {
    const [first] = read(chunk)
    if (first) return first.event === 'endpoint'
  }
  return false
}

function late(): Error {
  return new Error('It said nothing.')
}
