import { type App, type AppRequest, header, isEventStream, readBody } from '../app/app.ts'
import { findInitialize, type InitializeRequest } from '../json.ts'
import type { Settings } from '../options.ts'
import { messageFrame } from '../sse.ts'
import { FORMATS } from '../versions.ts'
import { Binding } from './live/binding.ts'
import { LocalApp, readMessages } from './live/local-app.ts'
import type { OwnedSessions } from './ownership/owned-sessions.ts'
import { type Answer, appAway, clientHeaders, relay, shuttingDown } from './protocol/answer.ts'
import { isResponse, parseMessages } from './protocol/json-rpc.ts'
import { type Principals, principalsOf } from './protocol/principal.ts'

export interface OpeningOptions {
  readonly app: App
  readonly settings: Settings
  readonly owned: OwnedSessions
}

/** From an `initialize` to the session that it opens, or to the app's refusal. */
export class Opening {
  readonly #options: OpeningOptions
  /** What was said once, and is not said again. */
  readonly #warned = new Set<string>()

  constructor(options: OpeningOptions) {
    this.#options = options
  }

  async initialize(request: AppRequest, { id }: InitializeRequest, endpoint?: string): Promise<Answer> {
    if (this.#options.owned.draining) return shuttingDown()
    if (this.#options.app.presence?.away) return appAway()
    const principal = await principalsOf(request, this.#options.settings)
    return this.#options.owned.opening(() => this.#open(request, id, principal, endpoint))
  }

  /** Nothing is stored before the app has opened a session: who is refused leaves nothing. */
  async #open(
    request: AppRequest,
    requestId: InitializeRequest['id'],
    principal: Principals,
    endpoint: string | undefined,
  ): Promise<Answer> {
    const { app, settings } = this.#options
    const response = await app.fetch(request)
    const id = header(response.headers, 'mcp-session-id')
    if (response.status >= 300) return relay(response)
    if (id === undefined) {
      this.#warnStateless(endpoint)
      return relay(response)
    }

    const binding = new Binding(settings, undefined)
    // Which revision it is, the answer says; what the request claimed would be wrong about all that we ask in its name.
    const { 'mcp-protocol-version': _, ...ownHeaders } = request.headers
    const caller = { ...request, headers: ownHeaders }
    const local = new LocalApp({ app, settings, sessionId: id, publicId: id, caller, binding })
    try {
      const streams = isEventStream(response)
      const text = streams ? '' : (await readBody(response)).toString()
      const messages = streams ? await readMessages(response) : parseMessages(text)
      const answer = messages.find((message) => isResponse(message) && message.id === requestId)
      const headers = clientHeaders(response.headers, id)
      const body = streams ? messages.map((message) => messageFrame(JSON.stringify(message))).join('') : text
      if (!answer?.result) {
        this.#options.owned.dismiss(local)
        return { status: response.status, headers, body }
      }
      await binding.accepted(request, principal, response.authInfo)
      if (binding.unseen) this.#warnOfUnseen()
      const protocolVersion = String(answer.result['protocolVersion'])
      const initialize = JSON.stringify(findInitialize(request.parsed))
      const at = endpoint === undefined ? {} : { endpoint }
      const state = { format: FORMATS.writes, ...at, initialize, protocolVersion, ...binding.state }
      // The record stands before the client learns the id, so that no node is asked for a session it cannot find.
      await this.#options.owned.create({ id, principal: binding.principal, state }, local)
      return { status: response.status, headers, body }
    } catch (error) {
      this.#options.owned.dismiss(local)
      throw error
    }
  }

  #warnOfUnseen(): void {
    if (this.#options.settings.principal) return
    this.#warnOnce(
      { option: 'principal' },
      'callers carry credentials, and nothing tells whose they are: whoever the app lets in and who knows the id of a ' +
        'session can use it. Set the option "principal", or let your authentication run in front of the handler. Until ' +
        'then a session whose process is gone is given only to the credential that was accepted last (see "takeover")',
    )
  }

  #warnStateless(path: string | undefined): void {
    this.#warnOnce(
      { path },
      'the app opens no sessions (it answers initialize without Mcp-Session-Id): there is nothing to persist',
    )
  }

  #warnOnce(facts: object, text: string): void {
    if (this.#warned.has(text)) return
    this.#warned.add(text)
    this.#options.settings.logger.warn(facts, text)
  }
}
