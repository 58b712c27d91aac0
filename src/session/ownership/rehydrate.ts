import { type App, type AppRequest, header } from '../../app/app.ts'
import type { EventLog, SessionRecord, SessionState } from '../../store/store.ts'
import type { LiveSession } from '../live/live-session.ts'
import { LocalApp, ownPost, readMessages } from '../live/local-app.ts'
import { stateRequests } from '../live/session-state.ts'
import { type Answer, relayWhole } from '../protocol/answer.ts'
import { interrupted, isResponse } from '../protocol/json-rpc.ts'
import { findLostCalls, isRepeatable, repeatableTools } from './lost-calls.ts'

/** The app would not open a session for this caller: its answer is to be relayed. */
export class Refused extends Error {
  readonly answer: Answer

  constructor(answer: Answer) {
    super(`The app refused with status ${answer.status}.`)
    this.answer = answer
  }
}

/**
 * A new session of the app that is told what its predecessor was told, in the name of the caller who needs it now, so
 * that nobody's credentials have to be kept. Rejects with `Refused`.
 */
export async function openLocal(app: App, record: SessionRecord, caller: AppRequest): Promise<LocalApp> {
  const response = await app.fetch(ownPost(caller, JSON.parse(record.state.initialize), {}, record.id))
  const sessionId = header(response.headers, 'mcp-session-id')
  if (response.status >= 300 || sessionId === undefined)
    throw new Refused(await relayWhole(response, record.id))
  const answer = (await readMessages(response)).find(isResponse)
  if (!answer || answer.error) {
    throw new Error(
      `The app answered the stored initialize request with ${answer?.error?.message ?? 'nothing'}.`,
    )
  }
  return new LocalApp(app, sessionId, record.id, caller)
}

/**
 * Brings a fresh instance to where its predecessor was. The standalone stream is open before the client's
 * `notifications/initialized` is repeated, so that what the app sends then is not lost. The answers to what is said
 * here are read here; nothing of it goes into the log.
 */
export async function restore(live: LiveSession, state: SessionState): Promise<void> {
  await live.openTap()
  if (state.initialized) await discard(live.local, { jsonrpc: '2.0', method: 'notifications/initialized' })
  let id = 0
  for (const request of stateRequests(state)) {
    id += 1
    await readMessages(await live.local.post({ jsonrpc: '2.0', id: `restore-${id}`, ...request }))
  }
}

async function discard(local: LocalApp, message: object): Promise<void> {
  const response = await local.post(message)
  response.cancel()
}

/** A call that has taken its app with it twice would do so a third time. */
const MAX_LOSSES = 2

/**
 * Runs again what may be run again, and answers the rest with an error: no client waits for ever. `streamId`: only that one,
 * others run. Rejects when the app is gone (again); then whoever is next goes on from here.
 */
export async function settleLostCalls(live: LiveSession, log: EventLog, streamId?: string): Promise<void> {
  const found = await findLostCalls(log, live.id)
  const lost = streamId === undefined ? found : found.filter((each) => each.streamId === streamId)
  if (lost.length === 0) return
  const callsTools = lost.some(({ requests }) => requests.some(({ method }) => method === 'tools/call'))
  const tools = callsTools ? await repeatableTools(live.local) : new Set<string>()
  for (const { streamId, requests, parsed, losses } of lost) {
    const repeatable = requests.length > 0 && requests.every((request) => isRepeatable(request, tools))
    const again = repeatable && losses < MAX_LOSSES
    if (again) {
      const body = requests.length === 1 && !Array.isArray(parsed) ? parsed : requests
      await live.rerun(ownPost(live.local.caller, body as object), requests, streamId)
    } else {
      await live.finish(streamId, requests.map(interrupted))
    }
  }
}
