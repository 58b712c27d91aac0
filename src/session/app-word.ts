import { type App, type AppRequest, type AppResponse, header, isEventStream, readBody } from '../app/app.ts'
import { delay } from '../clock.ts'
import type { Settings } from '../options.ts'
import { askApp } from './live/ask-app.ts'
import { ownPost, patienceOf } from './live/local-app.ts'
import { type Answer, relay, sessionNotFound, withCors } from './protocol/answer.ts'

// Of the endpoint that are known to be one; any other is looked at each time.
const MAX_SPELLINGS = 100
/** Bytes of an answer to a caller without a session; what says more is a page, and no endpoint. */
const MAX_WORDS = 64 * 1024

/** What the app says to a caller, whatever he has asked for: it is asked without a session, in his name. */
export class AppWord {
  readonly #app: App
  readonly #settings: Settings
  /** Paths that the app takes for the endpoint. */
  readonly #spellings = new Set<string>()

  constructor(app: App, settings: Settings) {
    this.#app = app
    this.#settings = settings
  }

  /**
   * `refusal` with the CORS headers that the app gives this caller: a page that is refused must be able to read why. What
   * the app has answered itself has them, or is not to have them.
   */
  async readable(refusal: Answer, caller: AppRequest): Promise<Answer> {
    if (caller.headers['origin'] === undefined || refusal.status < 400 || !('body' in refusal)) return refusal
    if (header(refusal.headers, 'access-control-allow-origin') !== undefined) return refusal
    const response = await this.#ask(caller)
    response?.cancel()
    return withCors(refusal, response?.headers ?? [])
  }

  /**
   * 404, and nobody learns why. But whom the app would not let in at all hears that from the app: a client whose token
   * has run out must learn to refresh it, not to open another session.
   */
  async notFound(caller: AppRequest): Promise<Answer> {
    const response = await this.#ask(caller)
    if (response?.status === 401 || response?.status === 403) return relay(response)
    response?.cancel()
    return withCors(sessionNotFound(), response?.headers ?? [])
  }

  /** Does the app take another spelling for its endpoint? It answers alike then, to a caller without a session. */
  async isEndpoint(request: AppRequest, canonical: string): Promise<boolean> {
    const spelling = request.url.replace(/[?#].*$/s, '')
    if (this.#spellings.has(spelling)) return true
    const patience = patienceOf(this.#settings)
    const [there, here] = await Promise.all(
      [request, { ...request, url: canonical }].map(async (asked) =>
        whatItSays(await this.#ask(asked), patience),
      ),
    )
    // By all that it says: a path that the app cannot even read has the status of many a refusal.
    if (there === undefined || there !== here) return false
    if (this.#spellings.size < MAX_SPELLINGS) this.#spellings.add(spelling)
    return true
  }

  /** What the app says to this caller, whatever he has asked for; undefined where it does not say it in time. */
  #ask(caller: AppRequest): Promise<AppResponse | undefined> {
    const ping = ownPost(caller, { jsonrpc: '2.0', id: 'mcp-persist-0', method: 'ping' })
    return askApp(this.#app, ping, { patience: patienceOf(this.#settings) }).catch(() => undefined)
  }
}

/** Status, kind and text of an answer; undefined where there is none, or no end of it. */
async function whatItSays(answer: AppResponse | undefined, patience: number): Promise<string | undefined> {
  if (!answer) return undefined
  const { status, headers } = answer
  const body = isEventStream(answer) ? '' : readBody(answer, MAX_WORDS).catch(() => undefined)
  const text = await Promise.race([body, delay(patience)])
  answer.cancel()
  return text === undefined ? undefined : `${status} ${header(headers, 'content-type')} ${text}`
}
